package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

func TestKeyframes(t *testing.T) {
	g := newFakeGraphs(1, 1)
	p := start(t, g, Config{KeyframeInterval: 10 * time.Second})
	c := p.camera(t, CameraConfig{Name: "a"})
	n := 0
	next := func(level byte, at time.Duration, edit func(*Frame)) received {
		f := gray(level, uint64(n))
		f.CaptureMono = int64(time.Hour + at)
		if edit != nil {
			edit(f)
		}
		n++
		c.Offer(f)
		return p.sink.wait(t, n)[n-1]
	}
	check := func(what string, r received, key, reused bool, changed int) {
		t.Helper()
		if r.key != key || r.reused != reused || r.changed != changed {
			t.Errorf("%s: keyframe %v, reused %v, %d changed; want %v, %v, %d", what, r.key, r.reused, r.changed, key, reused, changed)
		}
	}
	first := next(1, 0, nil)
	check("first frame", first, true, false, 4)
	same := next(1, time.Second, nil)
	check("same frame", same, false, true, 0)
	if same.embedding != first.embedding {
		t.Errorf("same frame: embedding %v, want the very one before, %v", same.embedding, first.embedding)
	}
	check("other frame", next(2, 2*time.Second, nil), false, false, 4)
	check("one corner", next(2, 3*time.Second, func(f *Frame) { f.Pixels[63] = 9 }), false, false, 1)
	check("interval over, same ids", next(2, 10*time.Second, func(f *Frame) { f.Pixels[63] = 9 }), true, true, 4)
	check("interval begins anew", next(2, 11*time.Second, func(f *Frame) { f.Pixels[63] = 9 }), false, true, 0)
	check("other size", next(2, 12*time.Second, func(f *Frame) {
		f.Width, f.Height, f.Stride, f.Pixels = 4, 16, 4, f.Pixels[:64]
		f.Pixels[63] = 2
	}), true, false, 4)

	fail := errFake
	g.tokenize = func(int) error { return fail }
	c.Offer(gray(3, 100))
	eventually(t, "the failure is counted", func() bool { _, failing := p.Health(); return failing == 1 })
	g.tokenize = nil
	check("after a failure", next(3, 13*time.Second, nil), true, false, 4)
	if g.encoded.Load() != 5 {
		t.Errorf("the encoder ran for %d frames, want 5", g.encoded.Load())
	}
}

func TestBackendFailures(t *testing.T) {
	g := newFakeGraphs(4, 2)
	var mode atomic.Int64
	fault := func(int) error {
		switch mode.Load() {
		case 1:
			return errFake
		case 2:
			panic("fake panic")
		case 3:
			return &Error{Op: "fake", Permanent: true, Err: errFake}
		}
		return nil
	}
	told := make(chan error, 10)
	p := start(t, g, Config{OnError: func(err error) { told <- err }})
	c := p.camera(t, CameraConfig{Name: "a"})
	var back ledger
	offered, results := 0, 0
	offer := func() {
		f := gray(7, uint64(offered))
		f.Reset(&back)
		offered++
		c.Offer(f)
	}
	for _, stage := range []*func(int) error{&g.tokenize, &g.encode} {
		for kind := int64(1); kind <= 3; kind++ {
			mode.Store(kind)
			*stage = fault
			offer()
			err := <-told
			var panicked *PanicError
			if errors.As(err, &panicked) != (kind == 2) || IsPermanent(err) != (kind == 3) || kind != 2 && !errors.Is(err, errFake) {
				t.Errorf("failure %d was told as %v", kind, err)
			}
			mode.Store(0)
			offer()
			results++
			if r := p.sink.wait(t, results)[results-1]; !r.key || r.reused {
				t.Errorf("after failure %d: keyframe %v, reused %v; want true, false", kind, r.key, r.reused)
			}
			if err, failing := p.Health(); err != nil || failing != 0 {
				t.Errorf("health after a good batch is %v, %d failing", err, failing)
			}
			*stage = nil
			// Other ids, so that the next failure hits the encoder as well.
			f := gray(byte(10+results), uint64(offered))
			f.Reset(&back)
			offered++
			c.Offer(f)
			results++
			p.sink.wait(t, results)
		}
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	var m Metrics
	p.Metrics(&m)
	if m.Errors != 6 || m.Cameras[0].Drops != (Drops{Failed: 6}) || int(m.Results) != results {
		t.Errorf("%d errors, %d results, drops %+v; want 6, %d, 6 failed", m.Errors, m.Results, m.Cameras[0].Drops, results)
	}
	if n := back.n.Load(); int(n) != offered {
		t.Errorf("%d of %d frames came back", n, offered)
	}
}

// stubBackend is a backend that only says what it is told to: it never sets Keyframe.
type stubBackend struct {
	Backend
	submit, wait func(*Batch) error
}

func (b *stubBackend) Submit(batch *Batch) error { return b.submit(batch) }
func (b *stubBackend) Wait(batch *Batch) error   { return b.wait(batch) }

// TestKeyframeAfterAFailureThatOvertakes: with two batches in flight, one may fail in
// Submit before the one ahead of it is delivered. It is the frame after the failed one
// whose changes compare with nothing.
func TestKeyframeAfterAFailureThatOvertakes(t *testing.T) {
	g := newFakeGraphs(1, 2)
	h := hold()
	b := &stubBackend{Backend: fakeBackend(t, g)}
	b.submit = func(batch *Batch) error {
		if batch.Items[0].Frame.Sequence == 3 {
			return errFake
		}
		return nil
	}
	b.wait = func(*Batch) error { return h.run(0) }
	p := start(t, g, Config{Backend: b})
	c := p.camera(t, CameraConfig{Name: "a"})
	c.Offer(gray(0, 1))
	<-h.entered
	h.release <- struct{}{}
	p.sink.wait(t, 1)
	c.Offer(gray(0, 2))
	<-h.entered
	c.Offer(gray(0, 3)) // fails while 2 is under way
	eventually(t, "the failure is counted", func() bool { _, failing := p.Health(); return failing == 1 })
	close(h.release)
	p.sink.wait(t, 2)
	c.Offer(gray(0, 4))
	got := p.sink.wait(t, 3)
	c.Offer(gray(0, 5))
	got = append(got[:3:3], p.sink.wait(t, 4)[3])
	for i, want := range []struct {
		sequence uint64
		key      bool
	}{{1, true}, {2, true}, {4, true}, {5, false}} {
		// That of frame 2 is a keyframe needlessly, which does no harm.
		if r := got[i]; r.sequence != want.sequence || r.key != want.key || r.key != (r.changed == 4) {
			t.Errorf("result %d is of frame %d, keyframe %v, %d changed; want frame %d, %v", i, r.sequence, r.key, r.changed, want.sequence, want.key)
		}
	}
}

// TestSwapBackIsNotReuse: a backend that comes back has kept results from before, but
// others came from the one between.
func TestSwapBackIsNotReuse(t *testing.T) {
	first, second := fakeBackend(t, newFakeGraphs(1, 1)), fakeBackend(t, newFakeGraphs(1, 1))
	p := start(t, nil, Config{Backend: first})
	c := p.camera(t, CameraConfig{Name: "a"})
	for i, b := range []Backend{first, second, first} {
		if b != first || i > 0 {
			if _, err := p.Swap(context.Background(), b); err != nil {
				t.Fatal(err)
			}
		}
		for k := range 2 {
			c.Offer(gray(7, uint64(k)))
			n := 2*i + k + 1
			if r := p.sink.wait(t, n)[n-1]; r.key != (k == 0) || r.reused != (k == 1) {
				t.Errorf("backend %d, frame %d: keyframe %v, reused %v", i, k, r.key, r.reused)
			}
		}
	}
}
