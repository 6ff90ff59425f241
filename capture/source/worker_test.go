package source_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/capture/capturetest"
	"github.com/toklip/toklip/capture/pattern"
)

// watch runs a camera with the real worker program.
func watch(t *testing.T, uri string) *capturetest.Rig {
	t.Helper()
	return capturetest.Start(t, uri, capture.Options{
		WorkerPath: capturetest.Worker(t),
		StallAfter: time.Second, FrameTimeout: 4 * time.Second,
		Backoff: capture.Backoff{First: 100 * time.Millisecond, Max: 500 * time.Millisecond},
	})
}

func TestWorkerPlaysFile(t *testing.T) {
	c := watch(t, "file://"+counterClip(t, 30, 50, "clip.mp4")+"?loop=true")
	var f capture.Frame
	var last uint64
	for range 60 {
		c.Take(&f)
		n, err := pattern.CounterOf(&f)
		if err != nil {
			t.Fatal(err)
		}
		if want := (f.Sequence-1)%30 + 1; n != want || f.Sequence <= last {
			t.Fatalf("frame %d after %d shows %d, want %d", f.Sequence, last, n, want)
		}
		if f.Clock != capture.ClockFile {
			t.Fatalf("clock %v", f.Clock)
		}
		last = f.Sequence
	}
	f.Release()
	s := c.Await("online", capturetest.Is(capture.Online))
	if s.Width != clipWidth || s.Height != clipHeight || s.FPS != 50 || s.Format != "BGR8" || s.Clock != "file" {
		t.Errorf("status %+v", s)
	}
}

func TestWorkerReportsEndOfFile(t *testing.T) {
	c := watch(t, "file://"+counterClip(t, 10, 50, "clip.mp4"))
	last := c.Drain()
	if s := c.Status(); last != 10 || !s.Ended || s.Restarts != 0 || s.State != capture.Disabled {
		t.Errorf("last frame %d, status %+v", last, s)
	}
}

func TestWorkerReadsGstreamer(t *testing.T) {
	c := watch(t, "gst:videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! videoconvert ! video/x-raw,format=BGR ! appsink")
	var f capture.Frame
	for range 10 {
		c.Take(&f)
		if f.Width != 320 || f.Height != 240 || f.Format != capture.BGR8 || f.Clock != capture.ClockRead {
			t.Fatalf("frame %+v", &f)
		}
		// The test picture's first bar is white.
		if b, g, r := f.Pixels[30], f.Pixels[31], f.Pixels[32]; b < 180 || g < 180 || r < 180 {
			t.Fatalf("first bar is %d %d %d", b, g, r)
		}
	}
	f.Release()
	gray := watch(t, "gst:videotestsrc is-live=true ! videoconvert ! video/x-raw,format=GRAY8 ! appsink")
	gray.Take(&f)
	if f.Format != capture.Gray8 || f.Stride != f.Width {
		t.Errorf("grey frame %+v", &f)
	}
	f.Release()
	four := watch(t, "gst:videotestsrc is-live=true ! videoconvert ! video/x-raw,format=BGRx ! appsink")
	four.Take(&f)
	if f.Format != capture.BGRx8 || f.Stride != 4*f.Width {
		t.Errorf("BGRx frame %+v", &f)
	}
	f.Release()
}

// TestWorkerReadsRTSP runs through a stream's troubles against a real server: a
// publisher that goes and comes, a server that falls mute, a server that goes and
// comes, a worker that is killed.
func TestWorkerReadsRTSP(t *testing.T) {
	clip := counterClip(t, 50, 25, "clip.mp4")
	server := newRTSPServer(t, "127.0.0.1:0")
	closeServer := sync.OnceFunc(server.close)
	t.Cleanup(func() { closeServer() })

	c := watch(t, "rtsp://user:sEcr3t@"+server.address+"/cam")
	c.Await("a first failure", func(s capture.Status) bool { return s.Restarts >= 1 })

	unpublish := server.publish(clip)
	var f capture.Frame
	var last uint64
	read := func(frames int) {
		t.Helper()
		for range frames {
			c.Take(&f)
			if _, err := pattern.CounterOf(&f); err != nil {
				t.Fatal(err)
			}
			if f.Sequence <= last {
				t.Fatalf("frame %d after %d", f.Sequence, last)
			}
			last = f.Sequence
		}
		f.Release()
	}
	read(25)
	if f.Width != clipWidth || f.Height != clipHeight {
		t.Errorf("frame %+v", &f)
	}
	// Sender reports tie the stream to wall time; until one came the clock is read.
	for deadline := time.Now().Add(20 * time.Second); f.Clock != capture.ClockRTP; {
		read(1)
		if time.Now().After(deadline) {
			t.Fatalf("no frame was stamped by the stream's clock: %v", f.Clock)
		}
	}
	if age := time.Since(time.Unix(0, f.CaptureWall)); age < -time.Second || age > 3*time.Second {
		t.Errorf("the stream's clock says the frame is %v old", age)
	}
	s := c.Await("online", capturetest.Is(capture.Online))
	if s.FPS != 25 {
		t.Errorf("fps %v", s.FPS)
	}

	t.Log("publisher goes and comes")
	restarts := s.Restarts
	unpublish()
	c.Await("not online", func(s capture.Status) bool { return s.State != capture.Online })
	c.Await("a restart", func(s capture.Status) bool { return s.Restarts > restarts })
	unpublish = server.publish(clip)
	c.Await("online again", capturetest.Is(capture.Online))
	read(5)

	t.Log("server falls mute")
	server.mute(true)
	c.Await("stalled", capturetest.Is(capture.Stalled))
	server.mute(false)
	c.Await("online again", capturetest.Is(capture.Online))
	// Packets were lost: what decodes before the next key frame is damaged, though a frame in between may look whole.
	for whole, deadline := 0, time.Now().Add(40*time.Second); whole < 10; whole++ {
		c.Take(&f)
		last = f.Sequence
		if _, err := pattern.CounterOf(&f); err != nil {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			whole = -1
		}
	}
	read(1)

	t.Log("worker is killed")
	restarts = c.Status().Restarts
	if err := syscall.Kill(c.Status().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.Await("online after a restart", func(s capture.Status) bool { return s.State == capture.Online && s.Restarts > restarts })
	read(5)

	t.Log("server goes and comes")
	unpublish()
	closeServer()
	c.Await("connecting", capturetest.Is(capture.Connecting))
	server = newRTSPServer(t, server.address)
	closeServer = sync.OnceFunc(server.close)
	unpublish = server.publish(clip)
	c.Await("online again", capturetest.Is(capture.Online))
	read(5)
	unpublish()
	c.Stop()

	s = c.Status()
	if s.Captured != s.Frames+s.Drops.Total() {
		t.Errorf("the books do not balance: %+v", s)
	}
	if strings.Contains(c.Log.String(), "sEcr3t") {
		t.Errorf("the log shows the password:\n%s", c.Log)
	}
	if !strings.Contains(c.Log.String(), "user:xxxxx@") {
		t.Error("the log never names the source")
	}
}

// TestArgumentsHideThePassword looks at what any user of the machine can read.
func TestArgumentsHideThePassword(t *testing.T) {
	server := newRTSPServer(t, "127.0.0.1:0")
	t.Cleanup(server.close)
	unpublish := server.publish(counterClip(t, 25, 25, "clip.mp4"))
	defer unpublish()
	c := watch(t, "rtsp://user:sEcr3t@"+server.address+"/cam")
	var f capture.Frame
	c.Take(&f)
	f.Release()
	b, err := os.ReadFile(filepath.Join("/proc", itoa(c.Status().PID), "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "sEcr3t") || !strings.Contains(string(b), "--camera\x00cam") {
		t.Errorf("command line %q", b)
	}
}

func itoa(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func TestProbe(t *testing.T) {
	worker := capturetest.Worker(t)
	for _, c := range []struct {
		uri  string
		code int
		want map[string]any
	}{
		{counterClip(t, 3, 25, "clip.mp4"), 0, map[string]any{"ok": true, "width": float64(clipWidth), "height": float64(clipHeight), "fps": float64(25), "format": "BGR8", "clock": "file", "backend": "ffmpeg"}},
		{"test://pattern?width=64&height=32", 0, map[string]any{"ok": true, "width": float64(64), "clock": "generated"}},
		{"v4l2:///dev/video77", 1, map[string]any{"ok": false, "source": "v4l2:///dev/video77"}},
		{"rtsp://u:sEcr3t@127.0.0.1:1/x", 1, map[string]any{"ok": false}},
		{"nonsense:", 1, map[string]any{"ok": false}},
	} {
		cmd := exec.Command(worker, "--probe", c.uri)
		out, err := cmd.Output()
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(out, &got); err != nil {
			t.Errorf("%s prints %q: %v", c.uri, out, err)
			continue
		}
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d", c.uri, code, c.code)
		}
		for k, v := range c.want {
			if got[k] != v {
				t.Errorf("%s: %s is %v, want %v", c.uri, k, got[k], v)
			}
		}
		if strings.Contains(string(out), "sEcr3t") {
			t.Errorf("%s shows its password", c.uri)
		}
	}
	out, err := exec.Command(worker, "--version").Output()
	if err != nil || !strings.Contains(string(out), "OpenCV 4.") {
		t.Errorf("--version: %q, %v", out, err)
	}
	if out, err := exec.Command(worker).CombinedOutput(); err == nil || !strings.Contains(string(out), "started by toklip") {
		t.Errorf("run by hand: %q, %v", out, err)
	}
	if out, err := exec.Command(worker, "--help").CombinedOutput(); err != nil || !strings.Contains(string(out), "which starts it") {
		t.Errorf("--help: %q, %v", out, err)
	}
}
