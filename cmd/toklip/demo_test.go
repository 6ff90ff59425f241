package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/toklip/toklip/model"
)

// The demo's model has what TensorRT is judged by. One of an earlier version, which lacks it, is made again; a good one stays.
func TestDemoModel(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	make := func() string {
		t.Helper()
		dir, err := demoModel(t.Context(), folder, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		m, err := model.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.LoadReference(dir); err != nil {
			t.Error(err)
		}
		for _, role := range []string{model.RoleTokenizer, model.RoleEncoder} {
			if _, err := m.Graph(role, model.FP16, model.BackendTensorRT); err != nil {
				t.Error(err)
			}
		}
		return dir
	}
	dir := make()
	mark := filepath.Join(dir, "mark")
	if err := os.WriteFile(mark, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	make()
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("a good model was made again: %v", err)
	}
	file := filepath.Join(dir, "model.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	older := regexp.MustCompile(`(?s)\n\[reference\].*?(\n\[\[)`).ReplaceAll(text, []byte("$1"))
	if err := os.WriteFile(file, older, 0o644); err != nil {
		t.Fatal(err)
	}
	if m, err := model.Load(dir); err != nil || m.Reference != nil {
		t.Fatalf("the older manifest: %v", err)
	}
	make()
	if _, err := os.Stat(mark); err == nil {
		t.Error("a model without a reference stayed")
	}
}
