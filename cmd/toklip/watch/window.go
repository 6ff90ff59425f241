package watch

import (
	"slices"
	"time"
)

// rateWindow is the time that rates, shares and percentiles speak of.
const rateWindow = 5 * time.Second

// mostSamples bounds what a window remembers: 200 frames a second for all of it. Beyond
// that it speaks of a shorter time.
const mostSamples = 1024

// window holds the samples of the last rateWindow, oldest first. The zero value is empty.
type window[T any] struct {
	ring  []sample[T]
	head  int // of the oldest
	n     int
	first time.Time // of the first sample ever
}

type sample[T any] struct {
	at    time.Time
	value T
}

func (w *window[T]) add(at time.Time, v T) {
	if w.n == 0 && w.first.IsZero() {
		w.first = at
	}
	w.forget(at)
	if w.n == len(w.ring) && w.n < mostSamples {
		// Grow, oldest first again.
		grown := make([]sample[T], max(16, 2*len(w.ring)))
		for i := range w.n {
			grown[i] = w.ring[(w.head+i)%len(w.ring)]
		}
		w.ring, w.head = grown, 0
	}
	if w.n == len(w.ring) {
		w.head = (w.head + 1) % len(w.ring)
		w.n--
	}
	w.ring[(w.head+w.n)%len(w.ring)] = sample[T]{at, v}
	w.n++
}

// forget drops what is older than the window.
func (w *window[T]) forget(now time.Time) {
	for w.n > 0 && now.Sub(w.ring[w.head].at) >= rateWindow {
		var none sample[T]
		w.ring[w.head] = none
		w.head = (w.head + 1) % len(w.ring)
		w.n--
	}
}

// span is the time that the samples stand for: the whole window, less at the beginning,
// and less if samples were pushed out by newer ones. It is 0 while nothing can be said
// of a rate yet.
func (w *window[T]) span(now time.Time) time.Duration {
	if w.n == 0 {
		return 0
	}
	span := min(rateWindow, now.Sub(w.first))
	if w.n == mostSamples {
		span = min(span, now.Sub(w.ring[w.head].at))
	}
	if span < 500*time.Millisecond {
		return 0
	}
	return span
}

// rate is how many samples come in a second; false while nothing can be said. A steady
// stream is measured between its first and last sample, to which the moment of asking
// adds no error; once it falters, the silence counts.
func (w *window[T]) rate(now time.Time) (float64, bool) {
	span := w.span(now)
	if span == 0 {
		return 0, false
	}
	if w.n > 2 {
		first, last := w.ring[w.head].at, w.ring[(w.head+w.n-1)%len(w.ring)].at
		if between := last.Sub(first); between > 0 && now.Sub(last) < 2*between/time.Duration(w.n-1) {
			return float64(w.n-1) / between.Seconds(), true
		}
	}
	return float64(w.n) / span.Seconds(), true
}

// each calls f with every sample, oldest first.
func (w *window[T]) each(f func(T)) {
	for i := range w.n {
		f(w.ring[(w.head+i)%len(w.ring)].value)
	}
}

// spread is the distribution of a time over the window.
type spread struct {
	N        int
	P50, P99 time.Duration
	// ClocksDiffer says that these ages cannot be true: the clock of the sender and that
	// of this machine do not agree.
	ClocksDiffer bool
}

// Ages outside these bounds tell of clocks, not of latency. A little below zero is what
// two disciplined clocks may do to a fast network.
const (
	leastAge = -time.Millisecond
	mostAge  = 5 * time.Minute
)

func absurd(age time.Duration) bool { return age < leastAge || age > mostAge }

// newSpread sorts ages.
func newSpread(ages []time.Duration) spread {
	if len(ages) == 0 {
		return spread{}
	}
	slices.Sort(ages)
	// Nearest rank: the least value that at least q of all do not exceed.
	at := func(percent int) time.Duration {
		return ages[max(0, (len(ages)*percent+99)/100-1)]
	}
	s := spread{N: len(ages), P50: at(50), P99: at(99)}
	s.ClocksDiffer = absurd(s.P50)
	return s
}

// history counts by second: the bars of the view.
type history struct {
	second int64 // Unix time of the last cell
	count  [historySeconds]uint16
}

const historySeconds = 30

func (h *history) add(at time.Time) {
	h.advance(at)
	if back := h.second - at.Unix(); back >= 0 && back < historySeconds {
		if c := &h.count[historySeconds-1-back]; *c < 65535 {
			*c++
		}
	}
}

func (h *history) advance(now time.Time) {
	by := now.Unix() - h.second
	if by <= 0 {
		return
	}
	if by >= historySeconds {
		h.count = [historySeconds]uint16{}
	} else {
		copy(h.count[:], h.count[by:])
		clear(h.count[historySeconds-by:])
	}
	h.second = now.Unix()
}
