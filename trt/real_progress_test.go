package trt_test

import (
	"testing"

	"github.com/toklip/toklip/trt/trttest"
)

// TestProgressTracker runs the C++ tests of the fraction that builds report.
func TestProgressTracker(t *testing.T) {
	t.Log(run(t, trttest.Program(t, "toklip_progress_test")))
}
