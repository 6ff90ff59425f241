package engine

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFrameReleaseIsIdempotent(t *testing.T) {
	var l ledger
	f := &Frame{}
	f.Release() // before its first life: nothing
	f.Reset(&l)
	f.Release()
	f.Release()
	if n := l.n.Load(); n != 1 {
		t.Errorf("released %d times, want once", n)
	}
	f.Reset(&l)
	f.Release()
	if n := l.n.Load(); n != 2 {
		t.Errorf("after a second life released %d times, want twice", n)
	}
	f.Reset(nil)
	f.Release()
}

func TestMask(t *testing.T) {
	for _, n := range []int{1, 63, 64, 65, 256, 576} {
		m := newMask(n)
		m.Fill(n)
		if m.Count() != n || len(m.Append(nil)) != n {
			t.Errorf("filled for %d cells it holds %d", n, m.Count())
		}
		a, b := make([]int32, n), make([]int32, n)
		var want []int32
		for i := 0; i < n; i += 7 {
			b[i] = 1
			want = append(want, int32(i))
		}
		if got := m.Compare(a, b); got != len(want) || !slices.Equal(m.Append(nil), want) || !m.Has(0) || n > 1 && m.Has(1) {
			t.Errorf("%d cells: %d differ at %v, want %v", n, got, m.Append(nil), want)
		}
	}
}

func TestResultOutlivesTheBatch(t *testing.T) {
	b := NewBatch(testModel())
	first := b.Add(0, gray(1, 1), 0).Result
	first.BeginEncoding()
	first.Features[0], first.Embedding[0] = 5, 6
	second := b.Add(1, gray(1, 1), 0).Result
	if !second.ShareEncoding(first) || !second.Reused || &second.Features[0] != &first.Features[0] {
		t.Error("the encoding is not shared")
	}
	second.Retain()
	b.Clear()
	// What is free now must not be what second still shows.
	third := b.Add(0, gray(2, 2), 0).Result
	third.BeginEncoding()
	third.Features[0], third.Embedding[0] = 50, 60
	if second.Features[0] != 5 || second.Embedding[0] != 6 {
		t.Errorf("a retained result changed to %v, %v", second.Features[0], second.Embedding[0])
	}
	second.Release()
	fourth := b.Add(1, gray(2, 2), 0).Result
	if fourth != second && fourth != first || fourth.Reused || fourth.Features != nil || fourth.Changed.Count() != 0 {
		t.Errorf("a recycled result is not clean: %+v", fourth)
	}
	if fourth.ShareEncoding(b.pool.result()) {
		t.Error("an encoding that is not there was shared")
	}
	b.Clear()
	for what, use := range map[string]func(){"Retain": second.Retain, "Release": second.Release} {
		second.refs.Store(0)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of a result that went back to its pool was not noticed", what)
				}
			}()
			use()
		}()
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 || h.Mean() != 0 {
		t.Error("an empty histogram has quantiles")
	}
	random := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	for range 20000 {
		d := time.Duration(math.Exp(random.Float64()*math.Log(1e10/2e3)) * 2e3) // 2 µs to 10 s
		all = append(all, d)
		h.Add(d)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[max(0, int(math.Ceil(q*float64(len(all))))-1)]
		if got := h.Quantile(q); math.Abs(float64(got-want)) > 0.032*float64(want) {
			t.Errorf("quantile %v is %v, want %v within 3.2 %%", q, got, want)
		}
	}
	if h.Max() != all[len(all)-1] || h.Count() != 20000 {
		t.Errorf("max %v, count %d", h.Max(), h.Count())
	}
	earlier := h
	for _, d := range []time.Duration{-5, 0, 100, 500 * time.Hour} {
		h.Add(d)
	}
	if s := h.Since(&earlier); s.Count() != 4 || s.Quantile(0.5) > time.Microsecond || s.Quantile(1) < time.Minute {
		t.Errorf("difference: %d, median %v, largest %v", s.Count(), s.Quantile(0.5), s.Quantile(1))
	}
	for i := range histogramSize - 1 {
		if bucketOf(bucketMiddle(i)) != i || bucketMiddle(i) >= bucketMiddle(i+1) {
			t.Fatalf("bucket %d: its middle %v lies in bucket %d", i, bucketMiddle(i), bucketOf(bucketMiddle(i)))
		}
	}
	if n := testing.AllocsPerRun(100, func() { h.Add(time.Second); _ = h.Quantile(0.99) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestClockIsTheMonotonicOne holds the clock against the system's, in which frames are
// stamped by other processes.
func TestClockIsTheMonotonicOne(t *testing.T) {
	read := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		return ts.Nano()
	}
	const most = int64(100 * time.Microsecond) // between the two readings that a clock begins with
	for range 100 {
		c := newClock()
		before, now, after := read(), c.now(), read()
		if now < before-most || now > after+most {
			t.Errorf("the clock says %d, the system before it %d and after it %d", now, before, after)
		}
	}
}

func TestModelValidate(t *testing.T) {
	if err := testModel().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[string]func(*Model){
		"image size is 0":         func(m *Model) { m.ImageSize = 0 },
		"grid columns is -1":      func(m *Model) { m.Cols = -1 },
		"feature length is 0":     func(m *Model) { m.FeatureDim = 0 },
		"codebook size is 0":      func(m *Model) { m.Codebook = 0 },
		"deviation of channel 2":  func(m *Model) { m.Std[2] = float32(math.NaN()) },
		"no tokenizer graph":      func(m *Model) { m.Tokenizer = "" },
		`model "fake": grid rows`: func(m *Model) { m.Rows = 0 },
	} {
		m := testModel()
		edit(m)
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestErrors(t *testing.T) {
	permanent := fmt.Errorf("outer: %w", &Error{Op: "tokenize", Permanent: true, Err: errFake})
	if !IsPermanent(permanent) || !errors.Is(permanent, errFake) || IsPermanent(&Error{Op: "x", Err: errFake}) || IsPermanent(errFake) || !IsPermanent(fmt.Errorf("x: %w", ErrClosed)) {
		t.Error("permanent and transient errors are not told apart")
	}
}

func TestNewRefuses(t *testing.T) {
	b := fakeBackend(t, newFakeGraphs(1, 1))
	sink := SinkFunc(func(*Result) {})
	for name, cfg := range map[string]Config{
		"no backend": {Sink: sink}, "no sink": {Backend: b}, "negative": {Backend: b, Sink: sink, MaxBatch: -1},
		"batch of 0": {Backend: fakeBackend(t, newFakeGraphs(0, 1)), Sink: sink},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: a pipeline was made", name)
		}
	}
}
