//go:build !matprofile

package source_test

import (
	"os/exec"
	"testing"
)

// TestNoMatLeaks builds the tests with GoCV's Mat counter and runs the one that
// uses it.
func TestNoMatLeaks(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles GoCV once more")
	}
	out, err := exec.Command("go", "test", "-vet=off", "-count=1", "-tags", "matprofile", "-run", "^TestMatsAreClosed$", "-v", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
