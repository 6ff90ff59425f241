// Package capturetest helps tests that need the real capture worker or a running camera.
package capturetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// RequireVariable names the environment variable that turns a skip for want of
// OpenCV into a failure. `make test` sets it.
const RequireVariable = "TOKLIP_REQUIRE_OPENCV"

// Worker builds toklip-capture into .cache of the repository and returns its path.
// Go's build cache makes every call but the first cheap; calls at the same time,
// in other test processes as well, wait for each other. tags are build tags, such
// as matprofile.
//
// Without OpenCV the test is skipped, or fails if RequireVariable is set.
func Worker(t testing.TB, tags ...string) string {
	t.Helper()
	if err := exec.Command("pkg-config", "--exists", "opencv4").Run(); err != nil {
		const how = "OpenCV's development files are not installed (pkg-config --exists opencv4): run `make deps`"
		if os.Getenv(RequireVariable) != "" {
			t.Fatalf("%s; %s is set", how, RequireVariable)
		}
		t.Skip(how)
	}
	path, err := build(tags)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Root is the repository's root, found by its go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = up
	}
}

func build(tags []string) (path string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	name := "worker"
	for _, tag := range tags {
		name += "-" + tag
	}
	dir := filepath.Join(root, ".cache", "test", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	path = filepath.Join(dir, "toklip-capture")
	args := []string{"build", "-o", path}
	for _, tag := range tags {
		args = append(args, "-tags", tag)
	}
	cmd := exec.Command("go", append(args, "./cmd/toklip-capture")...)
	cmd.Dir = root
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build the capture worker: %w\n%s", err, out.Bytes())
	}
	return path, nil
}
