package trt

import (
	"io"
	"testing"
	"time"
	"unsafe"
)

// ForgottenInTests is the Options.Forgotten of tests outside the package: TestMain fails the run for
// what it is told.
func ForgottenInTests(f Forgotten) { forgotten.add(f) }

// CloseAll closes handles one after the other, all of which must succeed.
func CloseAll(tb testing.TB, handles ...io.Closer) {
	tb.Helper()
	for _, h := range handles {
		if err := h.Close(); err != nil {
			tb.Error(err)
		}
	}
}

// Calls counts calls into C of a pipeline and the time spent in them.
type Calls struct {
	abi
	Count int
	Time  time.Duration
}

// WatchCalls puts Calls under a pipeline.
func WatchCalls(p *Pipeline) *Calls {
	c := &Calls{abi: p.run.library.api}
	p.run.library.api = c
	return c
}

func (c *Calls) timed(call func() unsafe.Pointer) unsafe.Pointer {
	begun := time.Now()
	e := call()
	c.Time += time.Since(begun)
	c.Count++
	return e
}

func (c *Calls) pipelineSubmit(p unsafe.Pointer, f []frameArg) unsafe.Pointer {
	return c.timed(func() unsafe.Pointer { return c.abi.pipelineSubmit(p, f) })
}

func (c *Calls) pipelineWait(p unsafe.Pointer, r []resultArg, t *timesArg) unsafe.Pointer {
	return c.timed(func() unsafe.Pointer { return c.abi.pipelineWait(p, r, t) })
}

func (c *Calls) pipelineProcess(p unsafe.Pointer, f []frameArg, r []resultArg, t *timesArg) unsafe.Pointer {
	return c.timed(func() unsafe.Pointer { return c.abi.pipelineProcess(p, f, r, t) })
}
