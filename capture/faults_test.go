package capture_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/capture/capturetest"
	"github.com/toklip/toklip/capture/pattern"
)

func TestKilledWorkerIsRestarted(t *testing.T) {
	r := start(t, counter, "work:", nil)
	var f capture.Frame
	var last uint64
	for round := range uint64(3) {
		r.Take(&f)
		if f.Sequence <= last {
			t.Fatalf("frame %d after %d: the sequence was reset", f.Sequence, last)
		}
		last = f.Sequence
		s := r.Await("a worker", func(s capture.Status) bool { return s.State == capture.Online && s.Restarts == round })
		// Let frames pass unread: they are lost with the worker and counted.
		r.Await("unread frames", func(now capture.Status) bool { return now.Captured > s.Captured+5 })
		if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s = r.Await("a restart", func(s capture.Status) bool { return s.Restarts == round+1 })
		if s.Drops.Restart == 0 {
			t.Errorf("round %d: no frame counted as lost: %+v", round, s.Drops)
		}
	}
	r.Take(&f)
	if f.Sequence != r.Status().Frames+f.Drops.Total() {
		t.Errorf("frame %d, %d delivered, %+v", f.Sequence, r.Status().Frames, f.Drops)
	}
	f.Release()
	if !strings.Contains(r.Log.String(), "signal: killed") {
		t.Errorf("the log does not say why:\n%s", r.Log)
	}
}

func TestFrameOutlivesItsWorker(t *testing.T) {
	r := start(t, counter, "work:", nil)
	var f capture.Frame
	r.Take(&f)
	want, err := pattern.CounterOf(&f)
	if err != nil {
		t.Fatal(err)
	}
	r.Stop()
	if n, err := pattern.CounterOf(&f); err != nil || n != want {
		t.Errorf("after the end frame %d shows %d, %v", want, n, err)
	}
	f.Release()
}

func TestStoppedWorkerIsKilled(t *testing.T) {
	r := start(t, counter, "work:", func(o *capture.Options) { o.FrameTimeout = time.Minute })
	var f capture.Frame
	r.Take(&f)
	f.Release()
	pid := r.Await("online", capturetest.Is(capture.Online)).PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.Await("a restart", func(s capture.Status) bool { return s.Restarts == 1 && s.State == capture.Online })
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the stopped worker is still there: %v", err)
	}
	found := false
	for _, s := range r.States() {
		found = found || strings.Contains(s.Reason, "hangs: no sign of life")
	}
	if !found {
		t.Errorf("no state told of the silence:\n%s", r.Log)
	}
}

// faults are workers and sources that go wrong, and the words that must say so.
func TestFaultsAreToldAndRetried(t *testing.T) {
	for _, c := range []struct{ role, want string }{
		{"exit", "exit status 7: the camera driver exploded"},
		{"garbage", "capture worker sent"},
		{"protocol", "speaks protocol 99, this program speaks 1: install"},
		{"version", "is version v0.0.1, this program is v9.9.9: install"},
		{"no-fd", "announced shared memory and sent none"},
		{"unsealed", "not sealed against shrinking"},
		{"bad-header", `begins with "?OKLIPSM"`},
		{"mute", "did not answer within 1s"},
		{"helper", "exit status 3"},
		{"noise", "exit status 4"},
		{"work:refuse", "device busy: held by PID 1 (cheese)"},
		{"work:slow-open", "did not open within 1s"},
		{"work:no-picture", "no picture within 1s"},
		{"work:stuck", "no frame for 1.5s"},
		{"work:panic=5", "panic: exception in the driver"},
		{"work:empty", "without one readable picture"},
	} {
		t.Run(c.role, func(t *testing.T) {
			t.Parallel()
			r := start(t, counter, c.role, func(o *capture.Options) {
				o.OpenTimeout, o.PictureTimeout = time.Second, time.Second
				if c.role == "version" {
					o.Version = "v9.9.9"
				}
			})
			r.Await("two restarts and the words "+c.want, func(s capture.Status) bool {
				if s.Restarts < 2 {
					return false
				}
				for _, s := range r.States() {
					if s.State == capture.Connecting && strings.Contains(s.Reason, c.want) && strings.Contains(s.Reason, "next attempt after") {
						return true
					}
				}
				return false
			})
			if log := r.Log.String(); strings.Contains(log, "hunter2") {
				t.Error("the log shows a password")
			} else if n := strings.Count(log, "worker output"); n > 200 {
				t.Errorf("%d lines of worker output in the log", n)
			}
		})
	}
}

func TestStallIsSeenAndHeals(t *testing.T) {
	r := start(t, counter, "work:pause=20", func(o *capture.Options) { o.FrameTimeout = 10 * time.Second })
	r.Await("stall", capturetest.Is(capture.Stalled))
	s := r.Await("online again", capturetest.Is(capture.Online))
	if s.Restarts != 0 {
		t.Errorf("a short stall cost %d restarts", s.Restarts)
	}
}

func TestStubbornWorkerIsEndedInTime(t *testing.T) {
	r := start(t, counter, "stubborn", nil)
	var f capture.Frame
	r.Take(&f)
	f.Release()
	pid := r.Await("online", func(s capture.Status) bool { return s.PID != 0 }).PID
	r.Stop() // checks the time
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("worker %d is still there: %v", pid, err)
	}
}
