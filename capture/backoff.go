package capture

import (
	"fmt"
	"time"
)

// Backoff is the pause before the next worker: First, doubled with each failure
// in a row up to Max, each shortened by a random part of up to a quarter, so that
// cameras of one switch do not all knock at once. A worker that was online for
// Stable resets it.
type Backoff struct {
	First  time.Duration // default 1 s
	Max    time.Duration // default 30 s
	Stable time.Duration // default 30 s
}

func (b *Backoff) complete() error {
	if b.First < 0 || b.Max < 0 || b.Stable < 0 {
		return fmt.Errorf("back-off %v to %v, stable %v: must not be negative", b.First, b.Max, b.Stable)
	}
	if b.First == 0 {
		b.First = time.Second
	}
	if b.Max == 0 {
		b.Max = max(30*time.Second, b.First)
	}
	if b.Stable == 0 {
		b.Stable = 30 * time.Second
	}
	if b.Max < b.First {
		return fmt.Errorf("back-off: longest pause %v is below the first %v", b.Max, b.First)
	}
	return nil
}

// Pause is the wait before the attempt that follows failures failures in a row (1
// or more); random lies in [0,1).
func (b Backoff) Pause(failures int, random float64) time.Duration {
	d := b.First
	for i := 1; i < failures && d < b.Max; i++ {
		d *= 2
	}
	d = min(d, b.Max)
	return d - time.Duration(random*float64(d)/4)
}
