package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNodeLock(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	first, err := lockNode("porch")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockNode("porch"); err == nil || !strings.Contains(err.Error(), "node porch runs already, as process") {
		t.Errorf("the second lock: %v", err)
	}
	other, err := lockNode("garden")
	if err != nil {
		t.Fatal(err)
	}
	other.release()
	first.release()
	again, err := lockNode("porch")
	if err != nil {
		t.Fatal(err)
	}
	again.release()
}

// The lock holds although nothing can be written into its file, as on a full disk.
func TestNodeLockOnFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() *os.File {
		file, err := os.Open(path) // for reading only: each write fails
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	lock, err := lockFile(open(), "porch")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.release()
	if _, err := lockFile(open(), "porch"); err == nil || !strings.Contains(err.Error(), "node porch runs already, as another process") {
		t.Errorf("the second lock: %v", err)
	}
}
