package trt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// pipelineOf makes a pipeline of two engines: 70 tokens, features of 2, embeddings of 3, batches of 8.
func (f *fake) pipelineOf(lib *Library, inFlight int) (*Engine, *Engine, *Pipeline) {
	f.t.Helper()
	o := f.options(lib, inFlight)
	p, err := lib.NewPipeline(o)
	if err != nil {
		f.t.Fatal(err)
	}
	return o.Tokenizer, o.Encoder, p
}

func (f *fake) options(lib *Library, inFlight int) PipelineOptions {
	o := DefaultPipelineOptions()
	o.Tokenizer, o.Encoder = f.load(lib), f.load(lib)
	o.ImageSize, o.Tokens, o.FeatureDim, o.EmbeddingDim = 64, 70, 2, 3
	o.Codebook, o.CodebookSize, o.CodebookDim = []float32{1, 2, 3, 4, 5, 6}, 3, 2
	o.BatchMax, o.InFlight = 8, inFlight
	return o
}

// pipeline makes a pipeline that is closed with its engines and library at the end of the test.
func (f *fake) newPipeline(inFlight int) *Pipeline {
	f.t.Helper()
	lib := f.openLibrary(Options{})
	a, b, p := f.pipelineOf(lib, inFlight)
	f.t.Cleanup(func() { CloseAll(f.t, p, a, b) })
	return p
}

func picture(stream int, values ...byte) Frame {
	return Frame{Data: values, Width: len(values) / 3, Height: 1, Stride: len(values), Pixels: BGR, Resize: Squash, Stream: stream}
}

func TestPipelineOptions(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{})
	good := f.options(lib, 2)
	good.Mean, good.Std, good.Timeout, good.StreamsMax = [3]float32{1, 2, 3}, [3]float32{4, 5, 6}, 1500*time.Millisecond, 9
	p, err := lib.NewPipeline(good)
	if err != nil {
		t.Fatal(err)
	}
	got, want := f.pipeline, pipelineArg{
		tokenizer: good.Tokenizer.handle, encoder: good.Encoder.handle, imageSize: 64, tokens: 70, featureDim: 2, embeddingDim: 3,
		codebook: f.pipeline.codebook, codebookSize: 3, codebookDim: 2, mean: good.Mean, std: good.Std, batchMax: 8, streamsMax: 9, inFlight: 2,
		cudaGraph: true, kernels: true, timeoutMS: 1500,
	}
	if got != want || fmt.Sprint(f.codebook) != "[1 2 3 4 5 6]" {
		t.Errorf("made with %+v, codebook %v, not %+v", got, f.codebook, want)
	}
	other := f.openLibrary(Options{})
	closed := f.load(lib)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*PipelineOptions)
		want   error
	}{
		{func(o *PipelineOptions) { o.Tokenizer = nil }, ErrInvalid},
		{func(o *PipelineOptions) { o.Tokenizer = closed }, ErrClosed},
		{func(o *PipelineOptions) { o.Encoder = closed }, ErrClosed},
		{func(o *PipelineOptions) { o.InFlight = 0 }, ErrInvalid},
		{func(o *PipelineOptions) { o.InFlight = 3 }, ErrInvalid},
		{func(o *PipelineOptions) { o.BatchMax = 0 }, ErrInvalid},
		{func(o *PipelineOptions) { o.Timeout = 0 }, ErrInvalid},
		{func(o *PipelineOptions) { o.Timeout = time.Duration(math.MaxInt64) }, ErrInvalid},
		{func(o *PipelineOptions) { o.Codebook = o.Codebook[:5] }, ErrInvalid},
		{func(o *PipelineOptions) { o.Codebook = make([]float32, 8); o.CodebookSize, o.CodebookDim = -4, -2 }, ErrInvalid},
		{func(o *PipelineOptions) { o.ImageSize = 1 << 40 }, ErrInvalid},
	} {
		o := good
		c.change(&o)
		if _, err := lib.NewPipeline(o); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := other.NewPipeline(good); !errors.Is(err, ErrInvalid) {
		t.Errorf("engines of another library: %v", err)
	}
	f.next["pipeline new"] = fakeError{ErrOutOfMemory, "no"}
	if _, err := lib.NewPipeline(good); !errors.Is(err, ErrOutOfMemory) {
		t.Error(err)
	}
	// One engine for both is locked once.
	both := good
	both.Encoder = both.Tokenizer
	q, err := lib.NewPipeline(both)
	if err != nil {
		t.Fatal(err)
	}
	CloseAll(t, q, p, p, good.Tokenizer, good.Encoder)
}

// TestPipelinesOfTheSameEngines makes two pipelines at once of two engines in opposite roles: neither may hold the engine that the
// other waits for.
func TestPipelinesOfTheSameEngines(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{})
	one := f.options(lib, 1)
	other := one
	other.Tokenizer, other.Encoder = one.Encoder, one.Tokenizer
	made := make(chan error, 2)
	make := func(o PipelineOptions) {
		p, err := lib.NewPipeline(o)
		if err == nil {
			err = p.Close()
		}
		made <- err
	}
	one.Tokenizer.mu.Lock() // both come to wait for it, in this order
	go make(one)
	time.Sleep(20 * time.Millisecond)
	go make(other)
	time.Sleep(20 * time.Millisecond)
	one.Tokenizer.mu.Unlock()
	for range 2 {
		select {
		case err := <-made:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("they wait for each other")
		}
	}
	CloseAll(t, one.Tokenizer, one.Encoder)
}

func TestProcess(t *testing.T) {
	f := newFake(t)
	p := f.newPipeline(1)
	f.times = timesArg{upload: 1, preprocess: 2.5, tokenizer: 3, search: 4, encoder: 5, download: 6, total: 1500, graph: true}
	results := make([]Result, 3)
	frames := []Frame{picture(3, 1, 2, 3, 4, 5, 6), {Tensor: make([]float32, 12), Width: 2, Height: 2, Pixels: Image, Stream: 0}}
	times, err := p.Process(t.Context(), frames, results)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Times{1000, 2500, 3000, 4000, 5000, 6000, 1500 * time.Microsecond, true}); times != want {
		t.Errorf("times %+v, not %+v", times, want)
	}
	r := results[0]
	if fmt.Sprint(r.IDs[:7]) != "[4 5 6 7 8 9 4]" || len(r.IDs) != 70 || len(r.Packed) != 280 || len(r.Changed) != 2 || r.Changed[0] != math.MaxUint64 || r.Changed[1] != 63 ||
		r.ChangedCount != 70 || !r.Fresh || !r.Encoded || len(r.Features) != 140 || r.Features[2] != 5 || fmt.Sprint(r.Embedding) != "[2 2 2]" || len(r.Unit) != 3 {
		t.Errorf("%+v", r)
	}
	if r := results[1]; r.IDs[0] != 0 || r.Embedding[0] != 2 {
		t.Errorf("%+v", r)
	}
	if results[2].IDs != nil {
		t.Error("a result without a frame was filled")
	}
	// Nothing changed: no features. One byte changed: the bits of its tokens.
	frames[0].Data[0]++
	if _, err = p.Process(t.Context(), frames, results); err != nil {
		t.Fatal(err)
	}
	if r := results[0]; r.Fresh || r.ChangedCount != 12 || r.Changed[0]&0x7f != 0x41 || !r.Encoded {
		t.Errorf("%+v", r)
	}
	if r := results[1]; r.Encoded || r.ChangedCount != 0 || r.Features != nil || r.Embedding != nil || r.Unit != nil || r.IDs == nil {
		t.Errorf("%+v", r)
	}
	frames[1].Fresh = true
	if _, err = p.Process(t.Context(), frames, results); err != nil || !results[1].Fresh || !results[1].Encoded {
		t.Errorf("%+v, %v", results[1], err)
	}
	if f.called("process") != 3 || f.called("submit")+f.called("wait") != 0 || len(f.threads["process"]) != 1 {
		t.Errorf("calls %v on threads %v", f.calls, f.threads)
	}
}

func TestPipelineErrors(t *testing.T) {
	f := newFake(t)
	p := f.newPipeline(1)
	good := []Frame{picture(0, 1, 2, 3)}
	for _, c := range []struct {
		name    string
		frames  []Frame
		results int
		want    string
	}{
		{"no frame", nil, 1, "a batch of 0 frames: 1 to 8 can be"},
		{"too many", make([]Frame, 9), 9, "a batch of 9 frames"},
		{"no room", good, 0, "room for 0 results, the batch has 1"},
		{"both", []Frame{{Data: []byte{1}, Tensor: []float32{1}, Pixels: BGR}}, 1, "frame 0: pixels go into Data"},
		{"tensor as pixels", []Frame{{Tensor: []float32{1}, Pixels: BGR}}, 1, "frame 0: pixels go into Data"},
		{"pixels as tensor", []Frame{good[0], {Data: []byte{1}, Pixels: Image}}, 2, "frame 1: pixels go into Data"},
		{"large", []Frame{{Data: []byte{1}, Width: 1 << 40, Pixels: BGR}}, 1, "frame 0: size 1099511627776 x 0"},
		{"empty", []Frame{{Data: []byte{}, Pixels: BGR}}, 1, "frame 0: 0 bytes"}, // C's own words
		{"nil", []Frame{{Pixels: BGR}}, 1, "frame 0: 0 bytes"},
	} {
		if _, err := p.Process(t.Context(), c.frames, make([]Result, c.results)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v does not say %q", c.name, err, c.want)
		}
	}
	if _, err := p.Wait(t.Context(), make([]Result, 1)); !errors.Is(err, ErrInvalid) || f.called("wait") != 0 {
		t.Errorf("wait without a batch: %v", err)
	}
	for _, code := range []Code{ErrOutOfMemory, ErrDeviceLost, ErrTimeout} {
		f.next["process"] = fakeError{code, "x"}
		if _, err := p.Process(t.Context(), good, make([]Result, 1)); !errors.Is(err, code) {
			t.Error(err)
		}
	}
	results := make([]Result, 1)
	if _, err := p.Process(t.Context(), good, results); err != nil || results[0].IDs[0] != 1 {
		t.Errorf("after errors: %v", err)
	}
}

// With one batch in flight, submit and wait work too, by turns.
func TestSubmitOneInFlight(t *testing.T) {
	f := newFake(t)
	p := f.newPipeline(1)
	frames, results := []Frame{picture(0, 9, 9, 9)}, make([]Result, 1)
	for range 3 {
		if err := p.Submit(t.Context(), frames); err != nil {
			t.Fatal(err)
		}
		if err := p.Submit(t.Context(), frames); !errors.Is(err, ErrBusy) {
			t.Errorf("a second batch: %v", err)
		}
		if _, err := p.Process(t.Context(), frames, results); !errors.Is(err, ErrBusy) {
			t.Errorf("process between: %v", err)
		}
		if _, err := p.Wait(t.Context(), nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("no room: %v", err)
		}
		if _, err := p.Wait(t.Context(), results); err != nil || results[0].IDs[0] != 9 {
			t.Fatal(err, results)
		}
	}
	if f.called("submit") != 3 || f.called("wait") != 3 {
		t.Errorf("calls %v", f.calls)
	}
}

func TestTwoInFlight(t *testing.T) {
	f := newFake(t)
	p := f.newPipeline(2)
	const n = 200
	submitted := make(chan byte, 2)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer close(submitted)
		for i := range n {
			frames := []Frame{picture(0, byte(i), 2, 3), picture(1, byte(i+1), 2, 3)}[:1+i%2]
			for {
				err := p.Submit(t.Context(), frames)
				if errors.Is(err, ErrBusy) {
					time.Sleep(50 * time.Microsecond)
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				break
			}
			submitted <- byte(i)
		}
	}()
	results := make([]Result, 2)
	seen := 0
	for i := range submitted {
		results[1] = Result{}
		if _, err := p.Wait(t.Context(), results); err != nil {
			t.Fatal(err)
		}
		if got := results[0].IDs[0]; got != int32(i) {
			t.Fatalf("batch %d gave that of %d", i, got)
		}
		if two := results[1].IDs != nil; two != (i%2 == 1) {
			t.Fatalf("batch %d: second result %v", i, two)
		}
		seen++
	}
	wg.Wait()
	if seen != n || f.called("submit") != n || f.called("wait") != n {
		t.Errorf("%d of %d, calls %v", seen, n, f.calls)
	}
	for a := range f.threads["submit"] {
		if len(f.threads["submit"]) != 1 || len(f.threads["wait"]) != 1 || f.threads["wait"][a] {
			t.Errorf("threads %v", f.threads)
		}
	}
}

func TestWaitError(t *testing.T) {
	f := newFake(t)
	p := f.newPipeline(2)
	frames, results := []Frame{picture(0, 1, 1, 1)}, make([]Result, 1)
	for i := range 2 {
		frames[0].Data[0] = byte(i)
		if err := p.Submit(t.Context(), frames); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Submit(t.Context(), frames); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	f.next["wait"] = fakeError{ErrOutOfMemory, "x"}
	if _, err := p.Wait(t.Context(), results); !errors.Is(err, ErrOutOfMemory) || results[0].IDs != nil {
		t.Errorf("%v, %+v", err, results)
	}
	if _, err := p.Wait(t.Context(), results); err != nil || results[0].IDs[0] != 1 { // the first one is gone
		t.Errorf("%v, %+v", err, results)
	}
	f.next["submit"] = fakeError{ErrOutOfMemory, "x"}
	if err := p.Submit(t.Context(), frames); !errors.Is(err, ErrOutOfMemory) {
		t.Error(err)
	}
	if _, err := p.Wait(t.Context(), results); !errors.Is(err, ErrInvalid) { // it has not begun
		t.Error(err)
	}
}

// A job that waits for its turn can be given up, one that runs is waited for.
func TestCancelQueuedJob(t *testing.T) {
	f := newFake(t)
	p := f.newPipeline(1)
	f.gate, f.inCall = make(chan struct{}), make(chan string, 4)
	stopped := errors.New("not any more")
	running, cancelRunning := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := p.Process(running, []Frame{picture(0, 1, 1, 1)}, make([]Result, 1))
		done <- err
	}()
	<-f.inCall
	queued, cancelQueued := context.WithCancelCause(t.Context())
	gave := make(chan error, 1)
	go func() {
		_, err := p.Process(queued, []Frame{picture(0, 1, 1, 1)}, make([]Result, 1))
		gave <- err
	}()
	cancelRunning(stopped)
	cancelQueued(stopped)
	if err := <-gave; !errors.Is(err, stopped) {
		t.Errorf("queued: %v", err)
	}
	select {
	case err := <-done:
		t.Errorf("a running call was abandoned: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(f.gate)
	if err := <-done; err != nil {
		t.Errorf("running: %v", err)
	}
	if f.called("process") != 1 {
		t.Errorf("%d calls", f.called("process"))
	}
	if err := p.Submit(running, []Frame{picture(0, 1, 1, 1)}); !errors.Is(err, stopped) || f.called("submit") != 0 {
		t.Errorf("a context that ended before: %v", err)
	}
}

// Close waits for calls under way; afterwards nothing works and nothing hangs.
func TestCloseWhileBusy(t *testing.T) {
	for _, inFlight := range []int{1, 2} {
		f := newFake(t)
		p := f.newPipeline(inFlight)
		if err := p.Submit(t.Context(), []Frame{picture(0, 1, 1, 1)}); err != nil {
			t.Fatal(err)
		}
		f.gate, f.inCall = make(chan struct{}), make(chan string, 1)
		results := make([]Result, 1)
		waited := make(chan error, 1)
		go func() {
			_, err := p.Wait(t.Context(), results)
			waited <- err
		}()
		<-f.inCall
		closed := make(chan struct{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}()
		}
		go func() { wg.Wait(); close(closed) }()
		select {
		case <-closed:
			t.Error("it closed under a call")
		case <-time.After(20 * time.Millisecond):
		}
		close(f.gate)
		if err := <-waited; err != nil {
			t.Error(err)
		}
		<-closed
		f.gate = nil
		if f.called("pipeline free") != 1 {
			t.Errorf("freed %d times", f.called("pipeline free"))
		}
		_, perr := p.Process(t.Context(), []Frame{picture(0, 1, 1, 1)}, results)
		_, werr := p.Wait(t.Context(), results)
		for _, err := range []error{perr, werr, p.Submit(t.Context(), []Frame{picture(0, 1, 1, 1)})} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
	}
}

// quiet is a shim that does nothing, and so allocates nothing.
type quiet struct{ abi }

func (quiet) pipelineSubmit(unsafe.Pointer, []frameArg) unsafe.Pointer           { return nil }
func (quiet) pipelineWait(unsafe.Pointer, []resultArg, *timesArg) unsafe.Pointer { return nil }
func (quiet) pipelineProcess(unsafe.Pointer, []frameArg, []resultArg, *timesArg) unsafe.Pointer {
	return nil
}

// quieten puts quiet under a pipeline.
func quieten(p *Pipeline) (restore func()) {
	real := p.run.library.api
	p.run.library.api = quiet{real}
	return func() { p.run.library.api = real }
}

func TestFramesAllocateNothing(t *testing.T) {
	f := newFake(t)
	p := f.newPipeline(2)
	defer quieten(p)()
	frames := make([]Frame, 8)
	for i := range frames {
		frames[i] = Frame{Data: bytes.Repeat([]byte{1}, 3000), Width: 100, Height: 10, Stride: 300, Pixels: BGR, Resize: Squash, Stream: i}
	}
	results := make([]Result, 8)
	ctx := t.Context()
	for name, call := range map[string]func(){
		"process": func() {
			if _, err := p.Process(ctx, frames, results); err != nil {
				t.Fatal(err)
			}
		},
		"submit and wait": func() {
			if err := p.Submit(ctx, frames); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Wait(ctx, results); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if n := testing.AllocsPerRun(200, call); n != 0 {
			t.Errorf("%s: %v allocations a batch", name, n)
		}
	}
}
