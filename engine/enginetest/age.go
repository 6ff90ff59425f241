package enginetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/preprocess"
	"golang.org/x/sys/unix"
)

// BenchmarkAge measures how old frames are when their inference begins, with so many
// cameras of a frame each period, over a backend that may be too slow for them. It reports
//
//	age-p50-ms, age-p99-ms  from capture until inference began: what the pipeline promises
//	gap-p99-ms              from one capture to the next: more than the period where the source itself was late
//	stale-p99-ms            how long a newer frame had been there when inference began: the pipeline's own fault
//	dropped                 share of the frames that had no turn
//
// An age is at most a gap plus what is stale: one above the period with nothing stale
// says that the machine let the source sleep too long. Sources sleep until absolute times
// on threads of their own and stamp a frame when they wake.
func BenchmarkAge(b *testing.B, backend engine.Backend, cameras int, period time.Duration) {
	b.Helper()
	m := ageMeter{sources: make(map[string]*source)}
	delivered := make(chan struct{}, 1)
	p, err := engine.New(engine.Config{Backend: backend, Sink: engine.SinkFunc(func(r *engine.Result) {
		m.add(r)
		select {
		case delivered <- struct{}{}:
		default:
		}
	})})
	if err != nil {
		b.Fatal(err)
	}
	for i := range cameras {
		c, err := p.AddCamera(engine.CameraConfig{Name: fmt.Sprint("camera", i)})
		if err != nil {
			b.Fatal(err)
		}
		// Cameras are not in step with each other.
		m.sources[c.Name()] = &source{camera: c, period: period, phase: period * time.Duration(i) / time.Duration(cameras)}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1+cameras)
	go func() { ended <- p.Run(ctx) }()
	for _, s := range m.sources {
		go func() { ended <- s.run(ctx) }()
	}
	for b.Loop() {
		<-delivered
	}
	cancel()
	for range 1 + cameras {
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}
	m.report(b, p)
}

// source is a camera that captures at fixed times.
type source struct {
	camera        *engine.Camera
	period, phase time.Duration
	gaps          []time.Duration
	// offered[n%len] is when Offer of frame n had returned, ns of CLOCK_MONOTONIC; the
	// pipeline had that frame from then on.
	offered [1024]atomic.Int64
}

func (s *source) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var frames [8]*engine.Frame // that differ, so that the encoder runs
	for i := range frames {
		frames[i] = NewFrame(640, 480, preprocess.BGR8, uint64(i))
	}
	start := monotonic() + int64(s.phase)
	last := int64(0)
	for n := uint64(1); ctx.Err() == nil; n++ {
		// What was missed is not made up for.
		due := start + (max(monotonic()-start, 0)/int64(s.period)+1)*int64(s.period)
		if err := sleepUntil(due); err != nil {
			return err
		}
		f := copyFrame(frames[n%uint64(len(frames))])
		f.Sequence, f.CaptureMono = n, monotonic()
		if last != 0 {
			s.gaps = append(s.gaps, time.Duration(f.CaptureMono-last))
		}
		last = f.CaptureMono
		s.camera.Offer(f)
		s.offered[n%uint64(len(s.offered))].Store(monotonic())
	}
	return nil
}

// ageMeter collects in Deliver, which one goroutine calls at a time.
type ageMeter struct {
	sources     map[string]*source
	ages, stale []time.Duration
}

func (m *ageMeter) add(r *engine.Result) {
	begun := r.CaptureMono + int64(r.Age)
	s := m.sources[r.Camera]
	newer := s.offered[(r.Sequence+1)%uint64(len(s.offered))].Load()
	stale := time.Duration(0)
	if newer > r.CaptureMono && newer < begun { // else the place still holds a frame of long ago, or the frame came later
		stale = time.Duration(begun - newer)
	}
	m.ages, m.stale = append(m.ages, r.Age), append(m.stale, stale)
}

func (m *ageMeter) report(b *testing.B, p *engine.Pipeline) {
	var gaps []time.Duration
	for _, s := range m.sources {
		gaps = append(gaps, s.gaps...)
	}
	var all engine.Metrics
	p.Metrics(&all)
	var offered, dropped uint64
	for _, c := range all.Cameras {
		offered += c.Offered
		dropped += c.Drops.Replaced
	}
	b.ReportMetric(percentile(m.ages, 0.5), "age-p50-ms")
	b.ReportMetric(percentile(m.ages, 0.99), "age-p99-ms")
	b.ReportMetric(percentile(gaps, 0.99), "gap-p99-ms")
	b.ReportMetric(percentile(m.stale, 0.99), "stale-p99-ms")
	b.ReportMetric(float64(dropped)/float64(max(offered, 1)), "dropped")
}

// percentile is the value in ms that the share q of all do not exceed.
func percentile(all []time.Duration, q float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	slices.Sort(all)
	return all[max(int(math.Ceil(q*float64(len(all))))-1, 0)].Seconds() * 1e3
}

// monotonic is CLOCK_MONOTONIC in ns.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for a clock that exists
	return ts.Nano()
}

// sleepUntil sleeps until that time of CLOCK_MONOTONIC in the kernel: a timer of Go's would
// wait for a free processor of its scheduler as well.
func sleepUntil(at int64) error {
	ts := unix.NsecToTimespec(at)
	for {
		err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
