package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// clock tells CLOCK_MONOTONIC, in which frames are stamped. Go's own monotonic time
// is the same clock but hides its origin, so that is read once; asking it costs no
// system call.
type clock struct {
	start  time.Time
	origin int64
}

func newClock() clock {
	var c clock
	// The two clocks cannot be read in one moment, and a thread that is put to sleep between
	// them would shift all ages for good: of several pairs the closest counts.
	for closest, tries := time.Duration(1<<62), 0; tries < 10 && closest > time.Microsecond; tries++ {
		var ts unix.Timespec
		start := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			// Linux has this clock since 2.6; without it ages count from here.
			return clock{start: start}
		}
		if apart := time.Since(start); apart < closest {
			closest, c = apart, clock{start: start, origin: ts.Nano()}
		}
	}
	return c
}

// now is the time in ns.
func (c clock) now() int64 { return c.origin + int64(time.Since(c.start)) }
