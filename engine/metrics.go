package engine

import (
	"math/bits"
	"time"
)

// A histogram counts durations in buckets that grow with them: 16 to each doubling
// from 1 µs to 69 s, so that a quantile is off by 3.2 % at most. Below and above
// there is one bucket each.
const (
	histogramLow  = 10 // 2^10 ns: about 1 µs
	histogramHigh = 36 // 2^36 ns: about 69 s
	histogramSub  = 4  // 2^4 buckets to a doubling
	histogramSize = (histogramHigh-histogramLow)<<histogramSub + 2
)

// Histogram is a distribution of durations, of fixed size: a plain value that may be
// copied, and is not safe for several goroutines. The zero value is empty.
type Histogram struct {
	counts [histogramSize]uint64
	n      uint64
	sum    time.Duration
	max    time.Duration
}

// Add counts d.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

func bucketOf(d time.Duration) int {
	switch {
	case d < 1<<histogramLow:
		return 0
	case d >= 1<<histogramHigh:
		return histogramSize - 1
	}
	octave := bits.Len64(uint64(d)) - 1
	sub := int(uint64(d)>>(octave-histogramSub)) & (1<<histogramSub - 1)
	return 1 + (octave-histogramLow)<<histogramSub + sub
}

// bucketMiddle is the duration that stands for all in bucket i.
func bucketMiddle(i int) time.Duration {
	switch i {
	case 0:
		return 1 << (histogramLow - 1)
	case histogramSize - 1:
		return 1 << histogramHigh
	}
	octave, sub := histogramLow+(i-1)>>histogramSub, (i-1)&(1<<histogramSub-1)
	width := time.Duration(1) << (octave - histogramSub)
	return 1<<octave + time.Duration(sub)*width + width/2
}

// Count is the number of durations counted.
func (h *Histogram) Count() uint64 { return h.n }

// Mean is their exact mean, 0 when empty.
func (h *Histogram) Mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return h.sum / time.Duration(h.n)
}

// Max is the largest duration counted, exactly. For a difference made by Since it is
// the largest since the beginning.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is the duration that the share q (0 to 1) of all do not exceed, within
// 3.2 %; 0 when empty.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q * float64(h.n))
	if float64(rank) < q*float64(h.n) {
		rank++
	}
	rank = min(max(rank, 1), h.n)
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= rank {
			return min(bucketMiddle(i), h.max)
		}
	}
	return h.max
}

// Since is the distribution of what was added after earlier, a copy of the same histogram.
func (h *Histogram) Since(earlier *Histogram) Histogram {
	d := *h
	for i := range d.counts {
		d.counts[i] -= earlier.counts[i]
	}
	d.n -= earlier.n
	d.sum -= earlier.sum
	return d
}

// Metrics is what a pipeline has done since it was made. It is a copy that belongs to
// the caller; about 25 kB, so pass it by pointer.
type Metrics struct {
	Results uint64 // delivered
	Reused  uint64 // of them without a run of the encoder
	Batches uint64 // that went through the backend
	Errors  uint64 // batches the backend failed
	Swaps   uint64 // of the backend

	// One duration for each result.
	Age      Histogram // from capture until inference began
	Wait     Histogram // the others as in Stages
	Total    Histogram
	Queue    Histogram // one duration for each batch, these four
	Prepare  Histogram // Stages.Preprocess
	Tokenize Histogram
	Encode   Histogram // of batches in which it ran

	Cameras []CameraMetrics // in the order they were added
}

// CameraMetrics is what a pipeline has done for one camera since it was added.
type CameraMetrics struct {
	Name       string
	Offered    uint64 // frames that came from the source
	Results    uint64
	Reused     uint64
	Keyframes  uint64
	Drops      Drops
	LastResult int64         // when the last result was delivered, ns of CLOCK_MONOTONIC; 0: none yet
	LastAge    time.Duration // age of that frame when its inference began
}

// cameraStats are a camera's counters, guarded by the pipeline's mu.
type cameraStats struct {
	offered, results, reused, keyframes uint64
	drops                               Drops
	lastResult                          int64
	lastAge                             time.Duration
}

func (c *Camera) metrics() CameraMetrics {
	s := &c.stats
	return CameraMetrics{
		Name: c.name, Offered: s.offered, Results: s.results, Reused: s.reused, Keyframes: s.keyframes,
		Drops: s.drops, LastResult: s.lastResult, LastAge: s.lastAge,
	}
}
