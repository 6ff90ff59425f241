package trt

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// forgotten is what alarms told in this process.
var forgotten alarms

type alarms struct {
	mu   sync.Mutex
	list []Forgotten
}

func (a *alarms) add(f Forgotten) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, f)
}

func (a *alarms) all() []Forgotten {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.list
}

// TestMain fails the run for a handle that was forgotten and for a goroutine that goes on.
func TestMain(m *testing.M) {
	code := m.Run()
	for range 3 {
		runtime.GC()
		time.Sleep(20 * time.Millisecond)
	}
	for _, f := range forgotten.all() {
		fmt.Fprintf(os.Stderr, "a %s was never closed, made at %s\n", f.Kind, f.Where)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
