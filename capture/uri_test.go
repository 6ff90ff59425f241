package capture

import (
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

func TestParseSource(t *testing.T) {
	for _, c := range []struct {
		uri  string
		want Source
	}{
		{"v4l2:///dev/video0", Source{Kind: V4L2, Path: "/dev/video0"}},
		{"v4l2:///dev/video2?width=1280&height=720&fps=30&format=MJPG", Source{Kind: V4L2, Path: "/dev/video2", Width: 1280, Height: 720, FPS: 30, Encoding: "mjpg"}},
		{"csi://0", Source{Kind: CSI, SensorMode: -1}},
		{"csi://1?sensor-mode=2&flip=6&width=1920&height=1080&fps=29.97", Source{Kind: CSI, SensorID: 1, SensorMode: 2, Flip: 6, Width: 1920, Height: 1080, FPS: 29.97}},
		{"rtsp://cam/stream", Source{Kind: RTSP, URL: "rtsp://cam/stream", Transport: "tcp", Backend: "ffmpeg"}},
		{"rtsps://u:p%40ss@[::1]:322/a?channel=1&subtype=0#transport=udp&fps=5", Source{Kind: RTSP, URL: "rtsps://u:p%40ss@[::1]:322/a?channel=1&subtype=0", Transport: "udp", Backend: "ffmpeg", FPS: 5}},
		{"file:///clip.mp4?loop=true", Source{Kind: File, Path: "/clip.mp4", Loop: true, Backend: "ffmpeg"}},
		{"file:///a%20b%3F.mp4?rate=max", Source{Kind: File, Path: "/a b?.mp4", AsFast: true, Backend: "ffmpeg"}},
		{"clips/what?.mp4", Source{Kind: File, Path: "clips/what?.mp4", Backend: "ffmpeg"}},
		{"./a:b.mp4", Source{Kind: File, Path: "./a:b.mp4", Backend: "ffmpeg"}},
		{"images:///photos?fps=2&loop=true", Source{Kind: Images, Path: "/photos", FPS: 2, Loop: true}},
		{"gst:videotestsrc ! appsink drop=true", Source{Kind: Gst, Path: "videotestsrc ! appsink drop=true"}},
		{"test://pattern", Source{Kind: Test, Pattern: "bars", Width: 640, Height: 480, FPS: 30}},
		{"test://pattern?name=counter&width=64&height=2&fps=1000", Source{Kind: Test, Pattern: "counter", Width: 64, Height: 2, FPS: 1000}},
	} {
		got, err := ParseSource(c.uri)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %#v, %v\nwant %#v", c.uri, got, err, c.want)
			continue
		}
		if back, err := ParseSource(got.URI()); err != nil || back != got {
			t.Errorf("%s written as %s reads back as %+v, %v", c.uri, got.URI(), back, err)
		}
	}
}

func TestParseSourceErrors(t *testing.T) {
	for _, c := range []struct{ uri, want string }{
		{"", "empty"},
		{"http://x/y", `scheme "http" is unknown: choose v4l2, csi, rtsp`},
		{"v4l2://", `write it as in v4l2:///dev/video0`},
		{"v4l2:///dev/video0?width=0", `width="0": must be a whole number from 1 to 16384`},
		{"v4l2:///dev/video0?fps=NaN", `fps="NaN": must be a number`},
		{"v4l2:///dev/video0?format=motionjpeg", `format "motionjpeg"`},
		{"v4l2:///dev/video0?widht=640", `setting "widht" is unknown: choose from width, height, fps, format`},
		{"v4l2:///dev/video0?width=1&width=2", `setting "width" is given 2 times`},
		{"csi://zero", `sensor "zero"`},
		{"csi://0?flip=8", `flip="8": must be a whole number from 0 to 7`},
		{"rtsp:///path", "no host"},
		{"rtsp://cam:99999/path", `port "99999"`},
		{"rtsp://cam/path#transport=quic", `transport="quic": choose tcp, udp`},
		{"file:///clip.mp4?rate=fast", `rate="fast": choose realtime, max`},
		{"file:///clip.mp4?loop=yes", `loop="yes": must be true or false`},
		{"gst:videotestsrc ! fakesink", "must end in appsink"},
		{"test://patern", "write test://pattern?name=NAME"},
		{"test://pattern?name=plaid", `name="plaid": choose bars, counter, gradient, noise, still`},
		{"test://pattern?name=counter&width=20", `width="20": the counter pattern needs 64`},
		{"clip\n.mp4", "control character"},
	} {
		_, err := ParseSource(c.uri)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.uri, err, c.want)
		}
	}
}

func TestPasswordIsNeverShown(t *testing.T) {
	for _, uri := range []string{
		"rtsp://admin:sEcr3t@10.0.0.7:554/s?x=1#fps=5",
		"rtsp://admin:sEcr3t@@10.0.0.7/s",
		"rtsp://admin:sEcr3t@/s",
		"rtsp://admin:sEcr3t@10.0.0.7/s#transport=pigeon",
		"rtsp://admin:sEcr3t%zz@10.0.0.7/s",
		"rtsp://admin:sEcr3t@10.0.0.7:port/s",
		"rtsp://cam/s?password=sEcr3t",
		"gst:rtspsrc location=rtsp://admin:sEcr3t@cam/s ! appsink",
		"gst:rtspsrc user-id=admin user-pw=sEcr3t location=rtsp://cam ! appsink",
		`gst:rtspsrc user-pw="sEcr3t and more" location=rtsp://cam ! fakesink`,
		"file:///a?password=sEcr3t",
	} {
		s, err := ParseSource(uri)
		shown := fmt.Sprint(s, err) + fmt.Sprintf("%v %+v %#v %s", s, s, s, s) + s.LogValue().String() + slog.Any("s", s).String()
		if strings.Contains(shown, "sEcr3t") {
			t.Errorf("%s shows its password: %s", uri, shown)
		}
		if err == nil && !strings.Contains(s.URI(), "sEcr3t") {
			t.Errorf("%s lost its password: %s", uri, s.URI())
		}
	}
	s, err := ParseSource("rtsp://admin:p%40ss%2Fword@10.0.0.7/s")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"cannot open rtsp://admin:p%40ss%2Fword@10.0.0.7/s", `auth "p@ss/word" failed`} {
		if got := s.Redact(text); strings.Contains(got, "word") {
			t.Errorf("Redact gives %q", got)
		}
	}
}

func FuzzParseSource(f *testing.F) {
	for _, uri := range []string{
		"v4l2:///dev/video0?width=1280&height=720&fps=30&format=mjpg", "csi://0?sensor-mode=1&flip=2",
		"rtsp://user:pass@host:554/a?b=c#transport=udp", "file:///a%20b.mp4?loop=true&rate=max", "a.mp4",
		"images:///x?fps=0.5", "gst:videotestsrc ! appsink", "test://pattern?name=noise&fps=5", "file:////x", "RTSP://h",
	} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		s, err := ParseSource(uri)
		if err != nil {
			if s != (Source{}) {
				t.Fatalf("%q: a source besides the error %v", uri, err)
			}
			return
		}
		again, err := ParseSource(s.URI())
		if err != nil || again != s {
			t.Fatalf("%q gives %#v, written %q, read back %#v, %v", uri, s, s.URI(), again, err)
		}
	})
}
