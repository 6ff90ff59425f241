package trt

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"
	"unsafe"
)

// run is what a pipeline is inside. It is apart from Pipeline because its threads refer to it, which
// would keep a forgotten Pipeline from ever being noticed.
type run struct {
	library *Library
	engines []*Engine
	handle  unsafe.Pointer // nil once closed; written with both workers' turns held
	o       PipelineOptions
	words   int // of Result.Changed

	submits *worker // of submit and process
	waits   *worker // of wait; the same where only one batch can be under way

	// Arguments of the calls, filled by whoever has the turn.
	frames  []frameArg
	pins    []runtime.Pinner
	results []resultArg
	times   *timesArg // an object of its own: C must not see the rest of run

	mu       sync.Mutex
	underway [2]int // frames of the batches under way, the oldest first
	batches  int    // how many there are
}

func newRun(l *Library, engines []*Engine, handle unsafe.Pointer, o PipelineOptions) *run {
	r := &run{
		library: l, engines: engines, handle: handle, o: o, words: (o.Tokens + 63) / 64,
		frames: make([]frameArg, o.BatchMax), results: make([]resultArg, o.BatchMax), times: new(timesArg),
		// A Pinner holds five pointers without allocating.
		pins: make([]runtime.Pinner, (o.BatchMax+4)/5),
	}
	r.o.Codebook, r.o.Tokenizer, r.o.Encoder = nil, nil, nil
	r.submits = newWorker(r.call)
	r.waits = r.submits
	if o.InFlight > 1 {
		r.waits = newWorker(r.call)
	}
	return r
}

// job is a call for a worker, with n frames.
type job struct {
	kind jobKind
	n    int
}

type jobKind int

const (
	jobSubmit jobKind = iota
	jobWait
	jobProcess
)

// call makes a call into C, on a worker's thread.
func (r *run) call(j job) unsafe.Pointer {
	api := r.library.api
	switch j.kind {
	case jobSubmit:
		return api.pipelineSubmit(r.handle, r.frames[:j.n])
	case jobWait:
		return api.pipelineWait(r.handle, r.results[:j.n], r.times)
	default:
		return api.pipelineProcess(r.handle, r.frames[:j.n], r.results[:j.n], r.times)
	}
}

func (r *run) submit(ctx context.Context, frames []Frame) error {
	const op = "submit frames"
	if err := r.submits.take(ctx, op); err != nil {
		return err
	}
	defer r.submits.give()
	if r.handle == nil {
		return closed(op)
	}
	r.mu.Lock()
	batches := r.batches
	r.mu.Unlock()
	if batches >= r.o.InFlight {
		return &Error{op, ErrBusy, fmt.Sprintf("%d submitted batches are under way, as many as can be: wait for one first", batches)}
	}
	if err := r.hand(op, jobSubmit, frames); err != nil {
		return err
	}
	r.mu.Lock()
	r.underway[r.batches] = len(frames)
	r.batches++
	r.mu.Unlock()
	return nil
}

func (r *run) wait(ctx context.Context, results []Result) (Times, error) {
	const op = "wait for frames"
	if err := r.waits.take(ctx, op); err != nil {
		return Times{}, err
	}
	defer r.waits.give()
	if r.handle == nil {
		return Times{}, closed(op)
	}
	r.mu.Lock()
	n, batches := r.underway[0], r.batches
	r.mu.Unlock()
	if batches == 0 {
		return Times{}, &Error{op, ErrInvalid, "no batch is under way"}
	}
	if len(results) < n {
		return Times{}, &Error{op, ErrInvalid, fmt.Sprintf("there is room for %d results, the batch has %d frames", len(results), n)}
	}
	e := r.waits.do(job{jobWait, n})
	if e == nil {
		r.read(results[:n])
	}
	t := r.times.goTimes()
	r.mu.Lock()
	r.underway[0] = r.underway[1]
	r.batches--
	r.mu.Unlock()
	if e != nil {
		return Times{}, r.library.result(op, e)
	}
	return t, nil
}

func (r *run) process(ctx context.Context, frames []Frame, results []Result) (Times, error) {
	const op = "process frames"
	if err := r.submits.take(ctx, op); err != nil {
		return Times{}, err
	}
	defer r.submits.give()
	if r.handle == nil {
		return Times{}, closed(op)
	}
	// A batch under way would be waited for with the very results that this call fills. While there is
	// none and this turn is held, nobody can begin to wait.
	r.mu.Lock()
	batches := r.batches
	r.mu.Unlock()
	if batches > 0 {
		return Times{}, &Error{op, ErrBusy, fmt.Sprintf("%d submitted batches are under way: wait for them first", batches)}
	}
	if len(results) < len(frames) {
		return Times{}, &Error{op, ErrInvalid, fmt.Sprintf("there is room for %d results, the batch has %d frames", len(results), len(frames))}
	}
	if err := r.hand(op, jobProcess, frames); err != nil {
		return Times{}, err
	}
	r.read(results[:len(frames)])
	return r.times.goTimes(), nil
}

// close waits for whoever has a turn; batches under way are C's to wait for.
func (r *run) close() {
	r.submits.turn <- struct{}{}
	if r.waits != r.submits {
		r.waits.turn <- struct{}{}
	}
	if r.handle != nil {
		r.submits.end()
		if r.waits != r.submits {
			r.waits.end()
		}
		l := r.library
		l.api.pipelineFree(r.handle)
		r.handle = nil
		l.mu.Lock()
		l.log.take()
		l.pipelines--
		for _, e := range r.engines {
			e.users--
		}
		l.mu.Unlock()
	}
	if r.waits != r.submits {
		r.waits.give()
	}
	r.submits.give()
}

// hand gives frames to a call into C, their memory pinned meanwhile.
func (r *run) hand(op string, kind jobKind, frames []Frame) error {
	defer r.unpin()
	if err := r.fill(op, frames); err != nil {
		return err
	}
	if e := r.submits.do(job{kind, len(frames)}); e != nil {
		return r.library.result(op, e)
	}
	return nil
}

// fill makes C's form of the frames and pins their memory until unpin.
func (r *run) fill(op string, frames []Frame) error {
	if len(frames) == 0 || len(frames) > r.o.BatchMax {
		return &Error{op, ErrInvalid, fmt.Sprintf("a batch of %d frames: 1 to %d can be", len(frames), r.o.BatchMax)}
	}
	for i := range frames {
		f, a := &frames[i], &r.frames[i]
		var data unsafe.Pointer
		switch {
		case f.Pixels == Image && f.Data == nil:
			data, a.size = unsafe.Pointer(unsafe.SliceData(f.Tensor)), 4*uintptr(len(f.Tensor))
		case f.Pixels != Image && f.Tensor == nil:
			data, a.size = unsafe.Pointer(unsafe.SliceData(f.Data)), uintptr(len(f.Data))
		default:
			return &Error{op, ErrInvalid, fmt.Sprintf("frame %d: pixels go into Data, the network's input into Tensor, not both", i)}
		}
		if err := numbers32(f, a); err != nil {
			return &Error{op, ErrInvalid, fmt.Sprintf("frame %d: %v", i, err)}
		}
		if a.size == 0 {
			data = nil
		}
		a.pixels, a.resize, a.fresh = int32(f.Pixels), int32(f.Resize), f.Fresh
		a.data = uintptr(data)
		if data != nil {
			r.pins[i/5].Pin(data)
		}
	}
	return nil
}

// numbers32 fills the numbers of a frame.
func numbers32(f *Frame, a *frameArg) error {
	a.width, a.height, a.stride, a.stream = int32(f.Width), int32(f.Height), int32(f.Stride), int32(f.Stream)
	if int(a.width) != f.Width || int(a.height) != f.Height || int(a.stride) != f.Stride || int(a.stream) != f.Stream {
		return fmt.Errorf("size %d x %d, stride %d or stream %d is out of range", f.Width, f.Height, f.Stride, f.Stream)
	}
	return nil
}

func (r *run) unpin() {
	for i := range r.pins {
		r.pins[i].Unpin()
	}
}

// read makes Go's form of C's results, in place.
func (r *run) read(results []Result) {
	for i := range results {
		a, out := &r.results[i], &results[i]
		*out = Result{
			IDs: view[int32](a.ids, r.o.Tokens), Packed: view[byte](a.packed, int(a.packedSize)),
			Changed: view[uint64](a.changed, r.words), ChangedCount: int(a.changedCount), Fresh: a.fresh, Encoded: a.encoded,
		}
		if a.encoded {
			out.Features = view[float32](a.features, r.o.Tokens*r.o.FeatureDim)
			out.Embedding = view[float32](a.embedding, r.o.EmbeddingDim)
			out.Unit = view[float32](a.unit, r.o.EmbeddingDim)
		}
	}
}

func (t *timesArg) goTimes() Times {
	us := func(v float32) time.Duration { return time.Duration(float64(v) * float64(time.Microsecond)) }
	return Times{
		Upload: us(t.upload), Preprocess: us(t.preprocess), Tokenizer: us(t.tokenizer), Search: us(t.search),
		Encoder: us(t.encoder), Download: us(t.download), Total: us(t.total), Graph: t.graph,
	}
}

// worker is a thread that makes calls, one at a time.
type worker struct {
	turn  chan struct{} // full while somebody has the right to call do
	jobs  chan job
	done  chan unsafe.Pointer
	ended chan struct{}
}

func newWorker(call func(job) unsafe.Pointer) *worker {
	w := &worker{turn: make(chan struct{}, 1), jobs: make(chan job), done: make(chan unsafe.Pointer), ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		// CUDA and TensorRT keep state by thread: always the same one finds it warm.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for j := range w.jobs {
			w.done <- call(j)
		}
	}()
	return w
}

// take waits for the turn. This is where a job is queued and may be given up.
func (w *worker) take(ctx context.Context, op string) error {
	if ctx.Err() == nil {
		select {
		case w.turn <- struct{}{}:
			return nil
		default:
		}
		select {
		case w.turn <- struct{}{}:
			return nil
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("%s: %w", op, context.Cause(ctx))
}

func (w *worker) give() { <-w.turn }

// do makes a call and waits for it. The caller has the turn.
func (w *worker) do(j job) unsafe.Pointer {
	w.jobs <- j
	return <-w.done
}

func (w *worker) end() {
	close(w.jobs)
	<-w.ended
}
