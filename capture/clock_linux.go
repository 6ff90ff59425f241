package capture

import (
	"time"

	"golang.org/x/sys/unix"
)

// MonotonicNow is CLOCK_MONOTONIC in ns: the same clock in every process of a
// machine since boot, unmoved by steps of the wall clock.
func MonotonicNow() int64 {
	var ts unix.Timespec
	// The call cannot fail with this clock and a valid pointer.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// A Stamp is one moment on both clocks.
type Stamp struct {
	Wall int64 // ns since the Unix epoch
	Mono int64 // ns, CLOCK_MONOTONIC
}

// Now is the present moment on both clocks.
func Now() Stamp {
	return Stamp{Wall: time.Now().UnixNano(), Mono: MonotonicNow()}
}

// AtMono is the moment with the given monotonic time.
func (s Stamp) AtMono(mono int64) Stamp {
	return Stamp{Wall: s.Wall + (mono - s.Mono), Mono: mono}
}

// AtWall is the moment with the given wall time.
func (s Stamp) AtWall(wall int64) Stamp {
	return Stamp{Wall: wall, Mono: s.Mono + (wall - s.Wall)}
}
