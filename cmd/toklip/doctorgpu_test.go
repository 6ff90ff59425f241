package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/trt"
)

// What is wrong with TensorRT has one remedy, which does not say again what was found.
func TestExamineLibrary(t *testing.T) {
	t.Setenv(trt.ShimVariable, "")
	absent := trt.FoundLibrary{Name: "libnvinfer.so.10", Absent: true, Problem: "libnvinfer.so.10: cannot open shared object file: No such file or directory"}
	version := trt.Version{Major: 10, Minor: 3}
	for _, tt := range []struct {
		name          string
		options       tensorrt.Options
		library       trt.FoundLibrary
		found, remedy string
	}{
		{"nothing", tensorrt.Options{}, absent, "not installed", "sudo apt install nvidia-jetpack"},
		{"wrong path", tensorrt.Options{NVInfer: "/x.so"}, absent, "not at /x.so", "leave it empty"},
		{"no shim", tensorrt.Options{}, trt.FoundLibrary{Path: "/x.so", Version: version, ShimTried: []trt.Tried{{}}, Problem: "no shim"}, "/x.so 10.3.0: no shim", "make trt"},
		{"wrong shim", tensorrt.Options{Shim: "/s.so"}, trt.FoundLibrary{ShimTried: []trt.Tried{{}}, Problem: "its shim"}, "its shim", "with shim, or leave it empty"},
		{"too old", tensorrt.Options{}, trt.FoundLibrary{Path: "/x.so", Version: version, Problem: "too old"}, "too old", "TensorRT 8.5 or 8.6"},
		{"incomplete", tensorrt.Options{}, trt.FoundLibrary{Name: "libnvinfer.so.8", Problem: "libcudnn.so.8 is missing"}, "libcudnn.so.8", "all that it needs"},
	} {
		f := examineLibrary(tt.options, trt.Found{Use: -1, Libraries: []trt.FoundLibrary{absent, tt.library}, Missing: []string{"One.", "Two."}})
		if f.State != "note" || !strings.Contains(f.Found, tt.found) || !strings.Contains(f.Remedy, tt.remedy) {
			t.Errorf("%s: %+v", tt.name, f)
		}
		if strings.ContainsRune(f.Remedy, '\n') || strings.Contains(f.Remedy, ". ") || strings.Contains(f.Remedy, f.Found) {
			t.Errorf("%s: remedy %q", tt.name, f.Remedy)
		}
	}
}

// A device that this user may not open is named, with the group that may.
func TestForbidden(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"nvmap", "nvidia0", "nvidiactl"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	patterns := []string{filepath.Join(dir, "nvhost*"), filepath.Join(dir, "nvidia*"), filepath.Join(dir, "nvmap")}
	open := func(err error) func(string) error {
		return func(path string) error {
			if filepath.Base(path) == "nvidiactl" {
				return fmt.Errorf("open: %w", err)
			}
			return nil
		}
	}
	if path, group := forbidden(patterns, open(fs.ErrPermission)); filepath.Base(path) != "nvidiactl" || group == "" {
		t.Errorf("%q, %q", path, group)
	}
	if path, _ := forbidden(patterns, open(fs.ErrNotExist)); path != "" {
		t.Errorf("%q", path)
	}
}
