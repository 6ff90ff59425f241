package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/capture/capturetest"
	"github.com/toklip/toklip/capture/pattern"
	"github.com/toklip/toklip/capture/source"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const clipWidth, clipHeight = 256, 144

// counterClip makes an H.264 film of the counter pattern, numbers 1 to frames.
func counterClip(t testing.TB, frames int, fps int, name string) string {
	t.Helper()
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		t.Fatal("ffmpeg is not installed: run `make deps`")
	}
	path := filepath.Join(t.TempDir(), name)
	p, err := pattern.New("counter", clipWidth, clipHeight)
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, frames*p.Geometry().Bytes())
	for i := range frames {
		p.Draw(raw[i*p.Geometry().Bytes():], uint64(i+1))
	}
	cmd := exec.Command("ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24",
		"-s", fmt.Sprintf("%dx%d", clipWidth, clipHeight), "-r", fmt.Sprint(fps), "-i", "-",
		"-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-g", "10", "-bf", "0", "-pix_fmt", "yuv420p", path)
	cmd.Stdin = bytes.NewReader(raw)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	return path
}

func open(t testing.TB, uri string) capture.Grabber {
	t.Helper()
	s, err := capture.ParseSource(uri)
	if err != nil {
		t.Fatal(err)
	}
	g, err := source.Open(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// slots gives memory as a segment's: outside the Go heap, a slot in turn.
type slots struct {
	mem  []byte
	size int
	next int
}

func newSlots(t testing.TB, size int) *slots {
	t.Helper()
	step := (size + 4095) / 4096 * 4096
	mem, err := unix.Mmap(-1, 0, 4*step, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	return &slots{mem: mem, size: size}
}

func (s *slots) take() []byte {
	step := len(s.mem) / 4
	at := s.next * step
	s.next = (s.next + 1) % 4
	return s.mem[at : at+s.size : at+s.size]
}

func TestFileGivesEveryFrame(t *testing.T) {
	const frames = 50
	g := open(t, "file://"+counterClip(t, frames, 25, "clip.mp4")+"?rate=max")
	if info := g.Info(); info.FPS != 25 || info.Clock != capture.ClockFile || info.Backend != "ffmpeg" {
		t.Errorf("info %+v", info)
	}
	memory := newSlots(t, clipWidth*clipHeight*3)
	var dst []byte
	inPlace := 0
	for i := 1; i <= frames; i++ {
		shot, err := g.Grab(context.Background(), dst)
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		pixels := shot.Pixels
		if pixels == nil {
			pixels = dst
			inPlace++
		}
		if n, err := pattern.ReadCounter(shot.Geometry, pixels); err != nil || n != uint64(i) {
			t.Fatalf("frame %d shows %d, %v", i, n, err)
		}
		dst = memory.take()
	}
	if inPlace != frames-1 {
		t.Errorf("%d frames were decoded into the slot, want all but the first", inPlace)
	}
	if _, err := g.Grab(context.Background(), dst); !errors.Is(err, io.EOF) {
		t.Errorf("after the last frame: %v", err)
	}
}

func TestFileLoopsWithoutSeam(t *testing.T) {
	const frames = 20
	g := open(t, "file://"+counterClip(t, frames, 25, "clip.mp4")+"?rate=max&loop=true")
	for i := range 3*frames + 5 {
		shot, err := g.Grab(context.Background(), nil)
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		want := uint64(i%frames + 1)
		if n, err := pattern.ReadCounter(shot.Geometry, shot.Pixels); err != nil || n != want {
			t.Fatalf("frame %d shows %d, %v; want %d", i, n, err, want)
		}
	}
}

func TestFilePlaysAtItsOwnRate(t *testing.T) {
	const fps = 50
	g := open(t, "file://"+counterClip(t, 20, fps, "clip.mp4")+"?loop=true")
	var first, last capture.Stamp
	const frames = 50 // two and a half rounds
	for i := range frames {
		shot, err := g.Grab(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			if step := time.Duration(shot.At.Mono - last.Mono); step < 19*time.Millisecond || step > 21*time.Millisecond {
				// A machine that was held up for more than a second starts anew.
				t.Errorf("frame %d is due %v after the one before, want 20ms", i, step)
			}
		} else {
			first = shot.At
		}
		last = shot.At
		if late := time.Duration(capture.MonotonicNow() - shot.At.Mono); late < 0 {
			t.Errorf("frame %d came %v before it was due", i, -late)
		}
	}
	if took := time.Duration(last.Mono - first.Mono); took != (frames-1)*time.Second/fps {
		t.Logf("%d frames in %v", frames, took)
	}
}

func TestFileGrabEndsWithContext(t *testing.T) {
	g := open(t, "file://"+counterClip(t, 3, 1, "slow.mp4")+"?loop=true")
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	var err error
	for err == nil {
		_, err = g.Grab(ctx, nil)
	}
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestGstreamerReadsFiles(t *testing.T) {
	g := open(t, "file://"+counterClip(t, 10, 25, "clip.mp4")+"?rate=max&backend=gstreamer")
	for i := 1; i <= 10; i++ {
		shot, err := g.Grab(context.Background(), nil)
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if n, err := pattern.ReadCounter(shot.Geometry, shot.Pixels); err != nil || n != uint64(i) {
			t.Fatalf("frame %d shows %d, %v", i, n, err)
		}
	}
}

func TestOpenErrorsSayWhatToDo(t *testing.T) {
	for _, c := range []struct{ uri, want string }{
		{"file:///no/such/clip.mp4", "no such file"},
		{"file://" + t.TempDir(), "write images://"},
		{"clip_test.go", "no video that ffmpeg can decode"},
		{"images:///no/such/folder", "no such file"},
		{"images://" + t.TempDir(), "no .png, .jpg or .jpeg"},
		{"v4l2:///dev/video77", "no such device"},
		{"v4l2://" + mustRoot(t) + "/go.mod", "not a video device"},
		{"v4l2:///dev/full", "cannot be opened as a camera"},
		{"gst:nosuchelement ! appsink", "did not start"},
		{"rtsp://127.0.0.1:1/x", "no answer"},
		{"csi://0", "did not start"},
	} {
		s, err := capture.ParseSource(c.uri)
		if err != nil {
			t.Fatal(err)
		}
		g, err := source.Open(context.Background(), s)
		if err == nil {
			_ = g.Close()
			t.Errorf("%s opened", c.uri)
			continue
		}
		if !bytes.Contains([]byte(err.Error()), []byte(c.want)) {
			t.Errorf("%s: error %v, want one with %q", c.uri, err, c.want)
		}
	}
}

func mustRoot(t *testing.T) string {
	t.Helper()
	root, err := capturetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestGrabAllocatesNothing(t *testing.T) {
	g := open(t, "file://"+counterClip(t, 40, 25, "clip.mp4")+"?rate=max&loop=false")
	memory := newSlots(t, clipWidth*clipHeight*3)
	ctx := context.Background()
	for range 5 { // The first frames make the slots' headers.
		if _, err := g.Grab(ctx, memory.take()); err != nil {
			t.Fatal(err)
		}
	}
	if allocs := testing.AllocsPerRun(20, func() {
		if shot, err := g.Grab(ctx, memory.take()); err != nil || shot.Pixels != nil {
			t.Errorf("not in place: %v", err)
		}
	}); allocs > 0 {
		t.Errorf("%v allocations a frame", allocs)
	}
}

func BenchmarkFile1080p(b *testing.B) {
	path := filepath.Join(b.TempDir(), "hd.mp4")
	if out, err := exec.Command("ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=s=1920x1080:r=30:d=4",
		"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", path).CombinedOutput(); err != nil {
		b.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	for _, inPlace := range []bool{true, false} {
		name := map[bool]string{true: "in-place", false: "copied"}[inPlace]
		b.Run(name, func(b *testing.B) {
			g := open(b, "file://"+path+"?rate=max&loop=true")
			memory := newSlots(b, 1920*1080*3)
			ctx := context.Background()
			if _, err := g.Grab(ctx, nil); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				dst := memory.take()
				into := dst
				if !inPlace {
					into = nil
				}
				shot, err := g.Grab(ctx, into)
				if err != nil {
					b.Fatal(err)
				}
				if shot.Pixels != nil {
					copy(dst, shot.Pixels)
				}
			}
		})
	}
}
