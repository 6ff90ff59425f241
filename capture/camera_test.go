package capture_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/capture/capturetest"
	"github.com/toklip/toklip/capture/pattern"
)

// start runs a camera whose worker is this test binary in that role, with short timeouts; change may alter them.
func start(t *testing.T, uri, role string, change func(*capture.Options)) *capturetest.Rig {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := capture.Options{
		WorkerPath: self, WorkerEnv: []string{roleVariable + "=" + role},
		StallAfter: 500 * time.Millisecond, FrameTimeout: 1500 * time.Millisecond, SilenceTimeout: 1500 * time.Millisecond,
		StopTimeout: 500 * time.Millisecond,
		Backoff:     capture.Backoff{First: 50 * time.Millisecond, Max: 200 * time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	return capturetest.Start(t, uri, o)
}

const counter = "test://pattern?name=counter&width=128&height=64&fps=100"

func TestFramesArriveWholeAndInOrder(t *testing.T) {
	r := start(t, counter, "work:", nil)
	var f capture.Frame
	var last, delivered uint64
	for range 50 {
		r.Take(&f)
		delivered++
		n, err := pattern.CounterOf(&f)
		if err != nil {
			t.Fatal(err)
		}
		if n != f.Sequence || n <= last {
			t.Fatalf("frame %d shows %d after %d", f.Sequence, n, last)
		}
		last = n
		if f.Sequence != delivered+f.Drops.Total() {
			t.Fatalf("frame %d is the %dth delivered, %+v", f.Sequence, delivered, f.Drops)
		}
		if f.Width != 128 || f.Height != 64 || f.Stride != 384 || f.Format != capture.BGR8 || f.Clock != capture.ClockGenerated {
			t.Fatalf("frame %+v", &f)
		}
		if age := f.Age(); age < 0 || age > 5*time.Second {
			t.Errorf("age %v", age)
		}
		if off := time.Since(time.Unix(0, f.CaptureWall)); off < 0 || off > 5*time.Second {
			t.Errorf("captured %v ago by the wall clock", off)
		}
		if time.Now().Nanosecond()%3 == 0 {
			time.Sleep(25 * time.Millisecond) // Fall behind: the newest must win.
		}
	}
	f.Release()
	s := r.Await("online", capturetest.Is(capture.Online))
	if s.Width != 128 || s.Height != 64 || s.FPS != 100 || s.Format != "BGR8" || s.Clock != "generated" || s.PID == 0 || s.Frames != 50 || s.Restarts != 0 {
		t.Errorf("status %+v", s)
	}
	states := r.States()
	var names []string
	for _, s := range states {
		names = append(names, string(s.State))
	}
	if got := strings.Join(names, " "); !strings.HasPrefix(got, "connecting") || !strings.HasSuffix(got, "online") {
		t.Errorf("states %s", got)
	}
	if err := r.Run(context.Background()); err == nil {
		t.Error("a second Run was allowed")
	}
	r.Stop()
	if err := r.NextInto(context.Background(), &f); !errors.Is(err, capture.ErrStopped) {
		t.Errorf("Next after the end: %v", err)
	}
	if s := r.Status(); s.State != capture.Disabled || s.PID != 0 || s.Captured != s.Frames+s.Drops.Total() {
		t.Errorf("status after the end %+v", s)
	}
}

func TestNextGivesUpWithContext(t *testing.T) {
	r := start(t, counter, "work:no-picture", nil)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if f, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) || f != nil {
		t.Errorf("%v, %v", f, err)
	}
}

// TestHammerAcrossProcesses lets a real worker write as fast as it can while
// frames are held for random times.
func TestHammerAcrossProcesses(t *testing.T) {
	r := start(t, "test://pattern?name=counter&width=64&height=40&fps=1000", "work:", func(o *capture.Options) { o.Slots = 5 })
	frames := make([]capture.Frame, 4)
	var last uint64
	taken := 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); taken++ {
		f := &frames[taken%len(frames)]
		if f.Pixels != nil {
			if n, err := pattern.CounterOf(f); err != nil || n != f.Sequence {
				t.Fatalf("held frame %d shows %d, %v", f.Sequence, n, err)
			}
		}
		r.Take(f)
		if n, err := pattern.CounterOf(f); err != nil || n != f.Sequence || n <= last {
			t.Fatalf("frame %d shows %d after %d, %v", f.Sequence, n, last, err)
		}
		last = f.Sequence
	}
	if taken < 50 {
		t.Errorf("only %d frames in 2 s", taken)
	}
	t.Logf("%d taken of %d, %+v", taken, last, r.Status().Drops)
	for i := range frames {
		frames[i].Release()
	}
}

func TestGeometryChange(t *testing.T) {
	r := start(t, counter, "work:resize=10", nil)
	var f capture.Frame
	widths := map[int]bool{}
	var last uint64
	var held capture.Frame
	r.Take(&held)
	was, err := pattern.CounterOf(&held)
	if err != nil {
		t.Fatal(err)
	}
	for len(widths) < 4 && last < 300 {
		r.Take(&f)
		if _, err := pattern.CounterOf(&f); err != nil {
			t.Fatal(err)
		}
		if f.Sequence <= last {
			t.Fatalf("frame %d after %d", f.Sequence, last)
		}
		last = f.Sequence
		widths[f.Width] = true
	}
	if n, err := pattern.CounterOf(&held); err != nil || n != was {
		t.Errorf("a frame of the first geometry now shows %d, %v, not %d", n, err, was)
	}
	held.Release()
	f.Release()
	if s := r.Status(); s.Restarts != 0 || s.Width < 128+2*64 {
		t.Errorf("status %+v", s)
	}
}

func TestEndOfSource(t *testing.T) {
	r := start(t, counter, "work:eof=5", nil)
	last := r.Drain()
	if last != 5 {
		t.Errorf("the last frame was %d, not 5", last)
	}
	<-r.Done
	s := r.Status()
	if s.State != capture.Disabled || !s.Ended || s.Reason != "the source has ended" || s.Captured != 5 || s.Restarts != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestLastFrameWaitsForItsReader(t *testing.T) {
	r := start(t, counter, "work:eof=3", nil)
	r.Await("the end", func(s capture.Status) bool { return s.Ended })
	var f capture.Frame
	r.Take(&f)
	if f.Sequence != 3 || f.Drops.Superseded != 2 {
		t.Errorf("frame %d, %+v", f.Sequence, f.Drops)
	}
	f.Release()
	if err := r.NextInto(context.Background(), &f); !errors.Is(err, io.EOF) {
		t.Errorf("after the last frame: %v", err)
	}
}

func TestBrokenPicturesAreCounted(t *testing.T) {
	r := start(t, counter, "work:broken=3", nil)
	var f capture.Frame
	for f.Sequence < 30 {
		r.Take(&f)
	}
	if want := f.Sequence / 3; f.Drops.Broken != want {
		t.Errorf("frame %d: %d broken, want %d", f.Sequence, f.Drops.Broken, want)
	}
	f.Release()
	if !strings.Contains(r.Log.String(), "broken picture") {
		t.Error("the log says nothing of them")
	}
}

func TestRateHintThinsFrames(t *testing.T) {
	r := start(t, counter, "work:", func(o *capture.Options) { o.FPS = 20 })
	var f capture.Frame
	r.Take(&f)
	r.Take(&f)
	first := f.Sequence
	for range 10 {
		r.Take(&f)
	}
	f.Release()
	if gap := f.Sequence - first; gap < 35 || f.Drops.Rate < 25 {
		t.Errorf("10 frames at 20 of 100 fps span %d captured ones, %+v", gap, f.Drops)
	}
}

func TestSwitchOffAndOn(t *testing.T) {
	r := start(t, counter, "work:", nil)
	var f capture.Frame
	r.Take(&f)
	f.Release()
	r.SetEnabled(false)
	s := r.Await("disabled", capturetest.Is(capture.Disabled))
	if s.Reason != "switched off" || s.PID != 0 {
		t.Errorf("status %+v", s)
	}
	before := s.Captured
	r.SetEnabled(true)
	r.Take(&f)
	if f.Sequence <= before {
		t.Errorf("frame %d after %d", f.Sequence, before)
	}
	f.Release()
	if s := r.Await("online", capturetest.Is(capture.Online)); s.Restarts != 0 {
		t.Errorf("switching off and on counts as %d restarts of a worker that failed", s.Restarts)
	}
}

// A camera that is switched on again while its worker still ends starts at once, and nothing is called a failure.
func TestSwitchOffAndOnAtOnce(t *testing.T) {
	r := start(t, counter, "stubborn:", func(o *capture.Options) { // its worker gives one frame and ignores SIGTERM
		o.FrameTimeout, o.StopTimeout = time.Hour, 300*time.Millisecond
		o.Backoff = capture.Backoff{First: time.Hour, Max: time.Hour}
	})
	var f capture.Frame
	r.Take(&f)
	before := f.Sequence
	f.Release()
	pid := r.Status().PID
	r.SetEnabled(false)
	time.Sleep(50 * time.Millisecond) // the worker is being ended
	r.SetEnabled(true)
	s := r.Await("another worker", func(s capture.Status) bool { return s.State == capture.Online && s.PID != pid })
	r.Take(&f)
	if f.Sequence <= before || s.Restarts != 0 {
		t.Errorf("frame %d after %d, %d restarts", f.Sequence, before, s.Restarts)
	}
	f.Release()
}

// TestNothingIsLeftBehind counts descriptors, mappings and children over several lives.
func TestNothingIsLeftBehind(t *testing.T) {
	life := func() {
		r := start(t, counter, "work:resize=7", nil)
		var f capture.Frame
		for range 20 {
			r.Take(&f)
		}
		f.Release()
		if err := syscall.Kill(r.Status().PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.Await("restart", func(s capture.Status) bool { return s.Restarts == 1 && s.State == capture.Online })
		r.Stop()
	}
	life()
	fds, maps := openFiles(t), sharedMappings(t)
	for range 3 {
		life()
	}
	if got := openFiles(t); len(got) > len(fds) {
		t.Errorf("open descriptors grew from %d to %d:\n%s", len(fds), len(got), strings.Join(got, "\n"))
	}
	if got := sharedMappings(t); got != maps {
		t.Errorf("mappings of shared memory grew from %d to %d", maps, got)
	}
	if maps != 0 {
		t.Errorf("%d mappings of shared memory left", maps)
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("a child is left: pid %d, %v", pid, err)
	}
}

func openFiles(t *testing.T) []string {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		to, _ := os.Readlink("/proc/self/fd/" + e.Name())
		out = append(out, e.Name()+" "+to)
	}
	return out
}

func sharedMappings(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "memfd:"+capture.WorkerName)
}

func TestNextAllocatesNothing(t *testing.T) {
	r := start(t, "test://pattern?name=still&width=64&height=64&fps=500", "work:", nil)
	ctx := context.Background()
	var f capture.Frame
	r.Take(&f)
	r.Await("online", capturetest.Is(capture.Online))
	// The supervisor's goroutines are counted along; they allocate nothing either.
	if allocs := testing.AllocsPerRun(200, func() {
		if err := r.NextInto(ctx, &f); err != nil {
			t.Error(err)
		}
		f.Release()
	}); allocs >= 1 {
		t.Errorf("%v allocations a frame", allocs)
	}
}

func TestNewRefusesBadOptions(t *testing.T) {
	src, err := capture.ParseSource("test://pattern")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    capture.Options
		want string
	}{
		{capture.Options{Name: "Front Door", Source: src}, "lower-case letters"},
		{capture.Options{Name: "a"}, "has no source"},
		{capture.Options{Name: "a", Source: src, FPS: -1}, "fps -1"},
		{capture.Options{Name: "a", Source: src, Width: 1 << 20}, "out of range"},
		{capture.Options{Name: "a", Source: src, Slots: 2}, "2 slots"},
		{capture.Options{Name: "a", Source: src, StallAfter: -1}, "negative timeout"},
		{capture.Options{Name: "a", Source: src, WorkerPath: "/nowhere/toklip-capture"}, `capture worker "/nowhere/toklip-capture" cannot be run`},
		{capture.Options{Name: "a", Source: src, WorkerPath: "/dev/null"}, "cannot be run"},
	} {
		if _, err := capture.New(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.o, err, c.want)
		}
	}
}

func BenchmarkFrameAge(b *testing.B) {
	src, err := capture.ParseSource("test://pattern?name=counter&width=1920&height=1080&fps=100")
	if err != nil {
		b.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cam, err := capture.New(capture.Options{Name: "cam", Source: src, WorkerPath: self, WorkerEnv: []string{roleVariable + "=work:"}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- cam.Run(ctx) }()
	var f capture.Frame
	var total, worst time.Duration
	for b.Loop() {
		if err := cam.NextInto(ctx, &f); err != nil {
			b.Fatal(err)
		}
		age := f.Age()
		total += age
		worst = max(worst, age)
		f.Release()
	}
	b.ReportMetric(float64(total.Microseconds())/float64(b.N), "µs-age/frame")
	b.ReportMetric(float64(worst.Microseconds()), "µs-worst-age")
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
