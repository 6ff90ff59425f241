package model

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func importedTiny(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "m")
	if _, err := Import(t.Context(), tiny(t, "", true), dir, Options{}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func edit(t *testing.T, dir string, pattern, with string) {
	t.Helper()
	path := filepath.Join(dir, ManifestFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := regexp.MustCompile("(?m)"+pattern).ReplaceAll(text, []byte(with))
	if string(changed) == string(text) {
		t.Fatalf("%q is not in the manifest:\n%s", pattern, text)
	}
	if err := os.WriteFile(path, changed, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct{ pattern, with, want string }{
		"newer":           {`^format_version = 3`, `format_version = 4`, "format_version = 4: this program reads up to 3; use a newer toklip or import the checkpoint again"},
		"no version":      {`^format_version = 3`, ``, `key "format_version" is missing`},
		"unknown key":     {`^source = `, "sauce = 1\nsource = ", `unknown key "sauce"`},
		"syntax":          {`^size = 64`, `size = = 64`, `line 1`},
		"type":            {`size = 64`, `size = "64"`, `incompatible types: TOML value has type string; destination has type int`},
		"size":            {`size = 64`, `size = 0`, "image.size = 0: must be at least 1"},
		"overflow":        {`size = 64`, `size = 4294967296`, "image.size = 4294967296: must be at most 4096"},
		"codebook":        {`codebook = 512`, `codebook = 2000000`, "tokens.codebook = 2000000: must be at most 1048576"},
		"bits":            {`bits = 9`, `bits = 8`, "tokens.bits = 8: a codebook of 512 entries takes 9"},
		"resize":          {`resize = "squash"`, `resize = "stretch"`, `image.resize = "stretch": must be "squash", "shortest" or "longest"`},
		"std":             {`std = \[0.5, `, `std = [0.0, `, "image.std[0] = 0: must be above 0"},
		"std NaN":         {`std = \[0.5, `, `std = [nan, `, "image.std[0] = NaN: must be above 0"},
		"mean NaN":        {`mean = \[0.5, `, `mean = [nan, `, "image.mean[0] = NaN: must be a number"},
		"hash":            {`^model_hash = .*`, ``, `key "model_hash" is missing`},
		"text precision":  {`^precision = "fp32"\ncontext`, "precision = \"int8\"\ncontext", `text.precision = "int8": the text tower's graph is in "fp32"`},
		"text context":    {`^context = 16`, `context = 0`, "text.context = 0: must be from 1 to 16384"},
		"text vocabulary": {`^vocabulary = 400`, `vocabulary = -1`, "text.vocabulary = -1: must be from 1 to 16777216"},
		"text hash":       {`^hash = .*`, ``, `key "text.hash" is missing`},
		"text graph":      {`^role = "text"`, `role = "texts"`, `text.precision = "fp32": no [[graph]] of role "text" is listed`},
		"two text graphs": {`^role = "pool"`, `role = "text"`, "2 graphs of the text tower are listed"},
		"logit scale":     {`^logit_scale = .*`, `logit_scale = nan`, "text.logit_scale = NaN: must be a number"},
		"outside":         {`name = "tokenizer.onnx"`, `name = "../tokenizer.onnx"`, `file "../tokenizer.onnx": must be the name of a file in the model folder`},
		"gone":            {`name = "tokenizer.onnx"`, `name = "tokeniser.onnx"`, `model folder is damaged: file "tokeniser.onnx" is missing; import the checkpoint again`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := importedTiny(t)
			edit(t, dir, c.pattern, c.with)
			if m, err := Load(dir); err == nil || m != nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), `load model "`+dir+`": `) {
				t.Errorf("error  %v\nwanted %s", err, c.want)
			}
		})
	}
}

func TestLoadNoFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nothing")
	if _, err := Load(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "toklip model import CHECKPOINT --out "+dir) {
		t.Errorf("error %v", err)
	}
}

func TestDamagedFiles(t *testing.T) {
	dir := importedTiny(t)
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "encoder.onnx.data")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err != nil {
		t.Errorf("Load reads contents: %v", err)
	}
	if err := m.Verify(t.Context(), dir, nil); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), `file "encoder.onnx.data" has SHA-256`) {
		t.Errorf("one changed bit: %v", err)
	}
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), `file "encoder.onnx.data" has 100 bytes, model.toml says`) {
		t.Errorf("truncated: %v", err)
	}
}

// FuzzManifest: what is accepted passes validation, nothing panics.
func FuzzManifest(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", ManifestFile)) // each fuzzing process would import a model anew
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("format_version = 1")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseManifest(text)
		if err != nil {
			return
		}
		if m.Tokens.Count() < 1 || len(m.Files()) == 0 || bitsFor(m.Tokens.Codebook) != m.Tokens.Bits {
			t.Errorf("accepted: %+v", m)
		}
	})
}
