package enginetest

import (
	"errors"
	"slices"
	"testing"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/preprocess"
)

// Suite describes a backend under test.
type Suite struct {
	Model *engine.Model
	// New makes a backend of the model for batches of up to maxBatch frames, or of as many
	// as it can. The suite closes it.
	New func(tb testing.TB, maxBatch int) engine.Backend
	// Reference computes what comes of a pre-processed picture [3,S,S], in fp32.
	Reference func(image []float32) (ids []int32, features, embedding []float32, err error)
	Tolerance Tolerance
}

// Run tests the backend.
func Run(t *testing.T, s Suite) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, Suite)
	}{
		{"Description", testDescription},
		{"Reference", testReference},
		{"BatchEqualsSingles", testBatchEqualsSingles},
		{"Changes", testChanges},
		{"ReuseBesideChange", testReuseBesideChange},
		{"BadFrames", testBadFrames},
		{"BatchSize", testBatchSize},
		{"Release", testRelease},
		{"InFlight", testInFlight},
		{"Close", testClose},
		{"Allocations", testAllocations},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}

// open makes a backend that is closed with the test.
func (s Suite) open(tb testing.TB, maxBatch int) engine.Backend {
	tb.Helper()
	b := s.New(tb, maxBatch)
	tb.Cleanup(func() {
		if err := b.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return b
}

// picture is a frame and how it is resized.
type picture struct {
	frame *engine.Frame
	mode  preprocess.Mode
}

// pictures are frames of several sizes, formats and resize modes.
func pictures() []picture {
	return []picture{
		{NewFrame(320, 240, preprocess.BGR8, 1), preprocess.Squash},
		{NewFrame(96, 160, preprocess.RGB8, 2), preprocess.Shortest},
		{NewFrame(200, 120, preprocess.NV12, 3), preprocess.Longest},
		{NewFrame(64, 64, preprocess.BGRx8, 4), preprocess.Squash},
		{NewFrame(130, 90, preprocess.YUYV, 5), preprocess.Shortest},
		{NewFrame(33, 47, preprocess.Gray8, 6), preprocess.Longest},
	}
}

// process runs frames as one batch, one stream each from 0, and returns the batch.
func process(tb testing.TB, s Suite, b engine.Backend, batch *engine.Batch, in ...picture) *engine.Batch {
	tb.Helper()
	if batch == nil {
		batch = engine.NewBatch(s.Model)
	}
	batch.Clear()
	for stream, p := range in {
		batch.Add(stream, copyFrame(p.frame), p.mode)
	}
	if err := engine.Process(b, batch); err != nil {
		tb.Fatalf("process %d frames: %v", len(in), err)
	}
	return batch
}

// output is a copy of what a result holds.
type output struct {
	ids                 []int32
	features, embedding []float32
}

func outputOf(r *engine.Result) output {
	return output{slices.Clone(r.IDs), slices.Clone(r.Features), slices.Clone(r.Embedding)}
}

func (s Suite) compare(tb testing.TB, what string, got, want output) {
	tb.Helper()
	if err := s.Tolerance.compareIDs(got.ids, want.ids); err != nil {
		tb.Errorf("%s: %v", what, err)
		return
	}
	if !slices.Equal(got.ids, want.ids) || s.Model.Encoder == "" {
		return // of other tokens come other features
	}
	if err := s.Tolerance.Compare(got.features, want.features, s.Model.FeatureDim); err != nil {
		tb.Errorf("%s: features: %v", what, err)
	}
	if err := s.Tolerance.Compare(got.embedding, want.embedding, s.Model.EmbeddingDim); err != nil {
		tb.Errorf("%s: embedding: %v", what, err)
	}
}

func testDescription(t *testing.T, s Suite) {
	d := s.open(t, 2).Describe()
	if d.Name == "" || d.Version == "" || d.Precision != s.Model.Precision || d.MaxBatch < 1 || d.InFlight < 1 || d.Model != s.Model {
		t.Errorf("description is not complete: %+v", d)
	}
}

func testReference(t *testing.T, s Suite) {
	b := s.open(t, 1)
	for i, p := range pictures() {
		image, err := tensor(p.frame, s.Model.ImageSize, p.mode)
		if err != nil {
			t.Fatal(err)
		}
		var want output
		if want.ids, want.features, want.embedding, err = s.Reference(image); err != nil {
			t.Fatal(err)
		}
		r := process(t, s, b, nil, p).Items[0].Result
		s.compare(t, "picture "+p.frame.Format.String(), outputOf(r), want)
		if r.Width != p.frame.Width || r.Height != p.frame.Height || r.Format != p.frame.Format || r.Resize != p.mode ||
			r.Sequence != p.frame.Sequence || r.CaptureWall != p.frame.CaptureWall || r.Clock != "test" {
			t.Errorf("picture %d: the result's header is not the frame's: %+v", i, r)
		}
	}
}

func testBatchEqualsSingles(t *testing.T, s Suite) {
	all := pictures()
	b := s.open(t, len(all))
	most := b.Describe().MaxBatch
	if most < 2 {
		t.Skip("the backend takes one frame a batch")
	}
	all = all[:min(most, len(all))]
	single := s.open(t, 1)
	var want []output
	for _, p := range all {
		want = append(want, outputOf(process(t, s, single, nil, p).Items[0].Result))
	}
	for n := 2; n <= len(all); n++ {
		batch := process(t, s, s.open(t, n), nil, all[:n]...)
		for i, it := range batch.Items {
			if it.Err != nil {
				t.Fatalf("batch of %d, frame %d: %v", n, i, it.Err)
			}
			s.compare(t, "batch", outputOf(it.Result), want[i])
		}
	}
}

func testChanges(t *testing.T, s Suite) {
	b := s.open(t, 1)
	all := pictures()
	tokens := s.Model.Tokens()
	first := process(t, s, b, nil, all[0]).Items[0].Result
	if !first.Keyframe || first.Reused || first.Changed.Count() != tokens {
		t.Errorf("first frame: keyframe %v, reused %v, %d cells changed; want true, false, %d", first.Keyframe, first.Reused, first.Changed.Count(), tokens)
	}
	same := process(t, s, b, nil, all[0]).Items[0].Result
	if same.Keyframe || !same.Reused || same.Changed.Count() != 0 {
		t.Errorf("same frame: keyframe %v, reused %v, %d cells changed; want false, true, 0", same.Keyframe, same.Reused, same.Changed.Count())
	}
	if !slices.Equal(same.IDs, first.IDs) || !slices.Equal(same.Features, first.Features) || !slices.Equal(same.Embedding, first.Embedding) {
		t.Error("same frame: features or embedding are not the very values of the frame before")
	}
	// The lower half of the picture is another.
	f := copyFrame(all[0].frame)
	f.Pixels = slices.Clone(f.Pixels)
	for i := len(f.Pixels) / 2; i < len(f.Pixels); i++ {
		f.Pixels[i] = byte(i * 31)
	}
	other := process(t, s, b, nil, picture{f, all[0].mode}).Items[0].Result
	var want []int32
	for i, id := range other.IDs {
		if id != same.IDs[i] {
			want = append(want, int32(i))
		}
	}
	if got := other.Changed.Append(nil); !slices.Equal(got, want) || len(want) == 0 || other.Keyframe || other.Reused {
		t.Errorf("other frame: cells %v changed, keyframe %v, reused %v; want %v, false, false", got, other.Keyframe, other.Reused, want)
	}
	if s.Model.Encoder != "" && slices.Equal(other.Embedding, same.Embedding) {
		t.Error("other frame: the embedding is still the one of the frame before")
	}
	back := process(t, s, b, nil, all[0]).Items[0].Result
	if got := back.Changed.Append(nil); !slices.Equal(got, want) || back.Reused {
		t.Errorf("first frame again: cells %v changed, reused %v; want %v, false", got, back.Reused, want)
	}
	s.compare(t, "first frame again", outputOf(back), outputOf(first))
}

func testReuseBesideChange(t *testing.T, s Suite) {
	b := s.open(t, 3)
	if b.Describe().MaxBatch < 3 {
		t.Skip("the backend takes less than three frames a batch")
	}
	p := pictures()
	before := process(t, s, b, nil, p[0], p[1], p[2])
	after := process(t, s, b, nil, p[0], p[3], p[2])
	for i, reused := range []bool{true, false, true} {
		r := after.Items[i].Result
		if r.Reused != reused {
			t.Errorf("stream %d: reused %v, want %v", i, r.Reused, reused)
		}
		if was := before.Items[i].Result; reused && (!slices.Equal(r.Features, was.Features) || !slices.Equal(r.Embedding, was.Embedding)) {
			t.Errorf("stream %d: reused values differ from the frame before", i)
		}
	}
	single := process(t, s, s.open(t, 1), nil, p[3])
	s.compare(t, "changed stream", outputOf(after.Items[1].Result), outputOf(single.Items[0].Result))
}

func testBadFrames(t *testing.T, s Suite) {
	b := s.open(t, 2)
	good := pictures()[0]
	single := process(t, s, b, nil, good)
	want := outputOf(single.Items[0].Result)
	edit := func(change func(*engine.Frame)) *engine.Frame {
		f := copyFrame(good.frame)
		change(f)
		return f
	}
	for name, bad := range map[string]*engine.Frame{
		"short buffer":   edit(func(f *engine.Frame) { f.Pixels = f.Pixels[:len(f.Pixels)-f.Stride] }),
		"no buffer":      edit(func(f *engine.Frame) { f.Pixels = nil }),
		"no width":       edit(func(f *engine.Frame) { f.Width = 0 }),
		"negative":       edit(func(f *engine.Frame) { f.Height = -1 }),
		"huge":           edit(func(f *engine.Frame) { f.Width, f.Height = 1<<30, 1<<30 }),
		"short stride":   edit(func(f *engine.Frame) { f.Stride = f.Width }),
		"unknown format": edit(func(f *engine.Frame) { f.Format = 200 }),
	} {
		t.Run(name, func(t *testing.T) {
			batch := engine.NewBatch(s.Model)
			two := b.Describe().MaxBatch > 1
			batch.Add(7, copyFrame(bad), 0)
			if two {
				batch.Add(8, copyFrame(good.frame), good.mode)
			}
			if err := engine.Process(b, batch); err != nil {
				t.Fatalf("the batch failed: %v", err)
			}
			if err := batch.Items[0].Err; !errors.Is(err, engine.ErrFrame) {
				t.Errorf("bad frame: error %v, want one that wraps ErrFrame", err)
			}
			if two {
				if err := batch.Items[1].Err; err != nil {
					t.Fatalf("the good frame beside it failed: %v", err)
				}
				s.compare(t, "the good frame beside it", outputOf(batch.Items[1].Result), want)
			}
			batch.Clear()
		})
	}
}

func testBatchSize(t *testing.T, s Suite) {
	b := s.open(t, 2)
	if err := engine.Process(b, engine.NewBatch(s.Model)); err == nil {
		t.Error("an empty batch was taken")
	}
	batch := engine.NewBatch(s.Model)
	p := pictures()[0]
	for stream := range b.Describe().MaxBatch + 1 {
		batch.Add(stream, copyFrame(p.frame), p.mode)
	}
	if err := engine.Process(b, batch); err == nil {
		t.Errorf("a batch of %d frames was taken, MaxBatch is %d", len(batch.Items), b.Describe().MaxBatch)
	}
	batch.Clear()
	process(t, s, b, nil, p) // and it still works
}

func testRelease(t *testing.T, s Suite) {
	b := s.open(t, 1)
	var c counter
	batch := engine.NewBatch(s.Model)
	f := copyFrame(pictures()[0].frame)
	f.Reset(&c)
	batch.Add(0, f, 0)
	if err := engine.Process(b, batch); err != nil {
		t.Fatal(err)
	}
	if n := c.n.Load(); n != 1 {
		t.Errorf("after Wait the frame was released %d times, want once", n)
	}
	batch.Clear()
	if n := c.n.Load(); n != 1 {
		t.Errorf("at the end the frame was released %d times, want once", n)
	}
}

// testInFlight has as many batches under way as the backend allows, Submit and Wait in
// goroutines of their own as a pipeline has them, and expects what single batches give.
func testInFlight(t *testing.T, s Suite) {
	b := s.open(t, 1)
	all := pictures()
	single := s.open(t, 1)
	var want []output
	for _, p := range all {
		want = append(want, outputOf(process(t, s, single, nil, p).Items[0].Result))
	}
	depth := b.Describe().InFlight
	room := make(chan struct{}, depth)
	submitted := make(chan *engine.Batch, depth)
	failed := make(chan error, 1)
	// Every picture twice: the second one of each is a reuse across batches in flight.
	go func() {
		defer close(submitted)
		for i := range 2 * len(all) {
			room <- struct{}{}
			p := all[i/2]
			batch := engine.NewBatch(s.Model)
			batch.Add(0, copyFrame(p.frame), p.mode)
			if err := b.Submit(batch); err != nil {
				failed <- err
				return
			}
			submitted <- batch
		}
	}()
	i := 0
	for batch := range submitted {
		if err := b.Wait(batch); err != nil {
			t.Errorf("batch %d: %v", i, err)
		}
		r := batch.Items[0].Result
		s.compare(t, "batch in flight", outputOf(r), want[i/2])
		if r.Reused != (i%2 == 1) {
			t.Errorf("batch %d: reused %v, want %v", i, r.Reused, i%2 == 1)
		}
		batch.Clear()
		i++
		<-room
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	if i != 2*len(all) {
		t.Errorf("%d batches came back, want %d", i, 2*len(all))
	}
}

func testClose(t *testing.T, s Suite) {
	b := s.New(t, 1)
	p := pictures()[0]
	batch := process(t, s, b, nil, p)
	want := outputOf(batch.Items[0].Result)
	for range 2 {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if got := outputOf(batch.Items[0].Result); !slices.Equal(got.ids, want.ids) || !slices.Equal(got.embedding, want.embedding) {
		t.Error("a result did not outlive its backend")
	}
	batch.Clear()
	batch.Add(0, copyFrame(p.frame), p.mode)
	err := b.Submit(batch)
	if !errors.Is(err, engine.ErrClosed) || !engine.IsPermanent(err) {
		t.Errorf("submit after close: error %v, want ErrClosed, permanent", err)
	}
	if err := b.Wait(batch); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("wait after close: error %v, want ErrClosed", err)
	}
	batch.Clear()
}

func testAllocations(t *testing.T, s Suite) {
	b := s.open(t, 2)
	all := pictures()
	batch := engine.NewBatch(s.Model)
	// Of one geometry, as a camera's frames are.
	frames := [2]*engine.Frame{NewFrame(320, 240, preprocess.BGR8, 1), NewFrame(320, 240, preprocess.BGR8, 9)}
	for name, change := range map[string]int{"changed": 1, "reused": 0} {
		n := 0
		step := func() {
			f := frames[n*change%2]
			f.Reset(nil)
			n++
			batch.Add(0, f, all[0].mode)
			if err := engine.Process(b, batch); err != nil || batch.Items[0].Err != nil {
				t.Fatal(err, batch.Items[0].Err)
			}
			if n > 3 && batch.Items[0].Result.Reused == (change == 1) {
				t.Fatalf("%s frame: reused %v", name, batch.Items[0].Result.Reused)
			}
			batch.Clear()
		}
		for range 4 {
			step()
		}
		if allocs := testing.AllocsPerRun(20, step); allocs != 0 {
			t.Errorf("%s frame: %v allocations, want none", name, allocs)
		}
	}
}
