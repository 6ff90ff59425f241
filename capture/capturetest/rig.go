package capturetest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/toklip/toklip/capture"
)

// patience bounds waits: far more than a busy machine needs, so that only what never
// comes fails. A camera must end faster: its worker is killed if it is not willing.
const (
	patience    = 40 * time.Second
	endPatience = 20 * time.Second
	endLimit    = 5 * time.Second
)

// Rig is a running camera. Its methods fail the test, so that they belong on the
// test's goroutine.
type Rig struct {
	*capture.Camera
	Log  *Output       // what the camera logged
	Done chan struct{} // closed when Run has returned

	t      testing.TB
	cancel context.CancelFunc

	mu     sync.Mutex
	states []capture.Status
}

// Start runs the camera that the options describe, on the source with this URI, until
// Stop or the end of the test. It sets the options' Source, Logger and OnStatus, and
// calls the camera "cam" if they name it not.
func Start(t testing.TB, uri string, o capture.Options) *Rig {
	t.Helper()
	src, err := capture.ParseSource(uri)
	if err != nil {
		t.Fatal(err)
	}
	r := &Rig{Log: &Output{}, Done: make(chan struct{}), t: t}
	if o.Name == "" {
		o.Name = "cam"
	}
	o.Source = src
	o.Logger = slog.New(slog.NewTextHandler(r.Log, nil))
	o.OnStatus = func(s capture.Status) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.states = append(r.states, s)
	}
	if r.Camera, err = capture.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.Done)
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.Log)
		}
	})
	t.Cleanup(r.Stop) // before the above, which also runs if this fails
	return r
}

// Stop ends the camera and checks that it did so in time. It may be called again.
func (r *Rig) Stop() {
	r.t.Helper()
	began := time.Now()
	r.cancel()
	select {
	case <-r.Done:
	case <-time.After(endPatience):
		r.t.Fatalf("the camera did not end within %v", endPatience)
	}
	if took := time.Since(began); took > endLimit {
		r.t.Errorf("the camera took %v to end, more than %v", took, endLimit)
	}
}

// Take waits for the next frame, which replaces what f holds.
func (r *Rig) Take(f *capture.Frame) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.NextInto(ctx, f); err != nil {
		r.t.Fatalf("next frame: %v; status %+v", err, r.Status())
	}
}

// Drain takes frames until the source has ended and returns the last one's sequence.
func (r *Rig) Drain() (last uint64) {
	r.t.Helper()
	var f capture.Frame
	for {
		err := r.NextInto(context.Background(), &f)
		if errors.Is(err, io.EOF) {
			return last
		}
		if err != nil {
			r.t.Fatal(err)
		}
		last = f.Sequence
		f.Release()
	}
}

// Await waits until the camera's status satisfies ok, and returns that status.
func (r *Rig) Await(what string, ok func(capture.Status) bool) capture.Status {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		s := r.Status()
		if ok(s) {
			return s
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain for %s; status %+v", what, s)
		}
	}
}

// Is is a condition for Await: the camera is in this state.
func Is(state capture.State) func(capture.Status) bool {
	return func(s capture.Status) bool { return s.State == state }
}

// States are the statuses that the camera has told of so far.
func (r *Rig) States() []capture.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]capture.Status(nil), r.states...)
}
