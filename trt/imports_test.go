package trt_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toklip/toklip/trt/trttest"
)

// TestOneFileSpeaksC holds the boundary that a linter cannot see, for cgo's files are rewritten before it does: the
// shim's header is included by shim.go alone, and the binding and its cache import none of our other packages.
func TestOneFileSpeaksC(t *testing.T) {
	root := trttest.Root(t)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		binding := strings.HasPrefix(rel, "trt/") && !strings.HasSuffix(rel, "_test.go") && !strings.HasPrefix(rel, "trt/trttest/")
		for _, i := range file.Imports {
			switch name := strings.Trim(i.Path.Value, `"`); {
			case name == "C" && rel != "trt/shim.go" && (binding || bytes.Contains(text, []byte("toklip_trt.h"))):
				t.Errorf(`%s speaks C with the shim: shim.go alone does`, rel)
			case binding && strings.HasPrefix(name, "github.com/toklip/toklip"):
				t.Errorf("%s imports %s", rel, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
