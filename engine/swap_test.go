package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestSwapWhileRunning(t *testing.T) {
	first, h := newFakeGraphs(1, 2), hold()
	first.encode = h.run
	p := start(t, first, Config{})
	c := p.camera(t, CameraConfig{Name: "a"})
	c.Offer(gray(1, 1))
	<-h.entered
	second := newFakeGraphs(3, 1)
	second.model.Precision = "int8"
	b := fakeBackend(t, second)
	type answer struct {
		old Backend
		err error
	}
	swapped := make(chan answer, 1)
	go func() {
		old, err := p.Swap(context.Background(), b)
		swapped <- answer{old, err}
	}()
	eventually(t, "the swap is asked for", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.swap != nil })
	c.Offer(gray(1, 2)) // waits for the new backend, and is not lost
	select {
	case a := <-swapped:
		t.Fatalf("swapped while a batch was under way: %v", a.err)
	case <-time.After(20 * time.Millisecond):
	}
	h.release <- struct{}{}
	a := <-swapped
	if a.err != nil {
		t.Fatal(a.err)
	}
	if a.old.Describe().Precision != "fp32" || p.Describe().Precision != "int8" || p.Describe().MaxBatch != 3 {
		t.Errorf("old backend is %+v, new %+v", a.old.Describe(), p.Describe())
	}
	if err := a.old.Close(); err != nil {
		t.Fatal(err)
	}
	got := p.sink.wait(t, 2)
	if got[0].sequence != 1 || got[1].sequence != 2 || !got[1].key || got[1].reused || got[1].drops.Sum() != 0 {
		t.Errorf("across the swap: %+v", got)
	}
	if second.encoded.Load() != 1 {
		t.Errorf("the new backend encoded %d frames, want 1", second.encoded.Load())
	}

	// One of other shape is refused and the running one goes on.
	third := newFakeGraphs(1, 1)
	third.model.EmbeddingDim = 5
	if _, err := p.Swap(context.Background(), fakeBackend(t, third)); err == nil || !strings.Contains(err.Error(), "5 embedding") {
		t.Errorf("swap to another shape: error %v", err)
	}
	c.Offer(gray(3, 3))
	if got := p.sink.wait(t, 3)[2]; got.sequence != 3 {
		t.Errorf("after a refused swap came frame %d, want 3", got.sequence)
	}
}

func TestSwapGivesUpWithItsContext(t *testing.T) {
	g, h := newFakeGraphs(1, 1), hold()
	g.tokenize = h.run
	p := start(t, g, Config{})
	c := p.camera(t, CameraConfig{Name: "a"})
	c.Offer(gray(1, 1))
	<-h.entered
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := p.Swap(ctx, fakeBackend(t, newFakeGraphs(1, 1))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("swap: error %v, want the context's", err)
	}
	close(h.release)
	c.Offer(gray(2, 2))
	p.sink.wait(t, 2)
	if g.encoded.Load() != 2 {
		t.Errorf("the old backend encoded %d frames, want both", g.encoded.Load())
	}
}

func TestSwapBeforeAndAfterRun(t *testing.T) {
	first := fakeBackend(t, newFakeGraphs(1, 1))
	p, err := New(Config{Backend: first, Sink: SinkFunc(func(*Result) {})})
	if err != nil {
		t.Fatal(err)
	}
	second := fakeBackend(t, newFakeGraphs(2, 1))
	if old, err := p.Swap(context.Background(), second); err != nil || old != first {
		t.Errorf("swap before Run: %v, %v", old, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if old, err := p.Swap(context.Background(), first); err != nil || old != second {
		t.Errorf("swap after Run: %v, %v", old, err)
	}
	if err := p.Run(context.Background()); err == nil {
		t.Error("a second Run was accepted")
	}
}
