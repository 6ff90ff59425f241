package enginecache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A plan outside the cache is taken as it was described, and only if it fits.
func TestLoadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "encoder.fp16.plan")
	all := func(Key) string { return "" }
	if _, err := LoadFile(path, all); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a plan: %v", err)
	}
	if _, err := Describe(path, testKey(), Build{}); err == nil {
		t.Error("what is not there was described")
	}
	good := testPlan("vtrt", 1000)
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(good)
	if _, err := LoadFile(path, all); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without metadata: %v", err)
	}
	m, err := Describe(path, testKey(), Build{TensorRT: "1.7"})
	if err != nil || m.PlanSize != 1000 {
		t.Fatalf("%+v, %v", m, err)
	}
	p, err := LoadFile(path, func(k Key) string {
		if k.Hash() != testKey().Hash() {
			t.Errorf("key %+v", k)
		}
		return ""
	})
	if err != nil || string(p.Bytes) != string(good) {
		t.Fatalf("%v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	refused := func(want string, fits func(Key) string) {
		t.Helper()
		if p, err := LoadFile(path, fits); err == nil || p != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q: %v", want, err)
		}
	}
	refused("does not fit: it is too blue", func(Key) string { return "it is too blue" })
	write(good[:999])
	refused("999 of 1000 bytes", all)
	write(testPlan("ftrt", 1000))
	refused("is foreign", all)
	flipped := append([]byte(nil), good...)
	flipped[500] ^= 1
	write(flipped)
	refused("SHA-256", all)
	write(good)
	if err := os.WriteFile(MetadataPath(path), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused("its metadata", all)
}
