package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/toklip/toklip/cmd/toklip/labelling"
	"github.com/toklip/toklip/cmd/toklip/texttower"
	"github.com/toklip/toklip/demo"
	"github.com/toklip/toklip/model"
)

// The demo's model has what TensorRT is judged by and what texts need. One of an earlier version, which lacks it, is made again; a good one stays.
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
		if err := texttower.Check(dir, m); err != nil {
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

// The demo's configuration is one that a file could hold, with the bundled labels in their order.
func TestDemoConfig(t *testing.T) {
	t.Parallel()
	cfg, err := demoConfig("folder", "model", "/clip.mp4")
	if err != nil {
		t.Fatal(err)
	}
	if problems := cfg.Problems(); len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(demo.Labels, &entries); err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, entry := range entries {
		label, err := labelling.ParseLabel(entry, cfg.Labels)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, label.Name)
	}
	for _, label := range cfg.Labels.LabelSet(cfg.Cameras[0]).Labels {
		got = append(got, label.Name)
	}
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("labels %q, want %q", got, want)
	}
}

// The bundled model sees: its figures on the held-out frames are those of docs/demo.md, with room for rounding on other machines.
func TestDemoFigures(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var r demoReport
	if err := json.Unmarshal([]byte(toklip(t, "eval", "demo", filepath.Join("..", "..", "demo", "heldout"), "--json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.Pictures != 600 || r.Captions != 300 || len(r.Unreadable) > 0 {
		t.Errorf("%d frames, %d captions, unreadable %v", r.Pictures, r.Captions, r.Unreadable)
	}
	for _, figure := range []struct {
		name       string
		got, least float64
	}{
		{"AUROC of classes, mean", r.Classes.Mean, 0.985},
		{"AUROC of classes, lowest", r.Classes.Lowest.AUROC, 0.95},
		{"AUROC of pairs, mean", r.Pairs.Mean, 0.985},
		{"recall@10", r.RecallAt10, 0.97},
		{"PSNR", r.PSNR, 27.3},
		{"chroma kept", 1 - r.ChromaError, 0.72},
		{"tokens", float64(r.Tokens), 1900},
	} {
		t.Logf("%s: %.4f", figure.name, figure.got)
		if !(figure.got >= figure.least) {
			t.Errorf("%s is %v, at least %v was reached", figure.name, figure.got, figure.least)
		}
	}
}
