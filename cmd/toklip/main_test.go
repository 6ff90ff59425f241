package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/toklip/toklip/cmd/toklip/quietstart"
)

// TestMain lets this test binary stand for the toklip program: scripts in testdata/script run it by that name. The tests
// proper must end every goroutine they started.
func TestMain(m *testing.M) {
	quietstart.Over()
	testscript.Main(leakChecked{m}, map[string]func(){"toklip": main})
}

type leakChecked struct{ m *testing.M }

// Run implements [testscript.TestingM].
func (l leakChecked) Run() int {
	code := l.m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}
