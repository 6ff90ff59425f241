package source

import (
	"math"
	"testing"
	"time"

	"github.com/toklip/toklip/capture"
)

func TestDriverStamp(t *testing.T) {
	now := capture.Stamp{Wall: 1_700_000_000_000_000_000, Mono: 5000_000_000_000}
	at, clock := driverStamp(now, 4_999_980)
	if clock != capture.ClockDriver || at.Mono != 4999_980_000_000 || at.Wall != now.Wall-20_000_000 {
		t.Errorf("20 ms ago: %+v by %v", at, clock)
	}
	// Nothing, the future, another clock (wall time), nonsense.
	for _, ms := range []float64{0, -1, 5_000_001, 4_990_000, 1.7e12, math.NaN(), math.Inf(1)} {
		if at, clock := driverStamp(now, ms); clock != capture.ClockRead || at != now {
			t.Errorf("%v ms: %+v by %v", ms, at, clock)
		}
	}
}

func TestStreamStamp(t *testing.T) {
	now := capture.Stamp{Wall: 1_700_000_000_000_000_000, Mono: 5000_000_000_000}
	open := float64(now.Wall/1000 - 60_000_000) // a minute ago
	at, clock := streamStamp(now, open, 59_700)
	if clock != capture.ClockRTP || at.Wall != now.Wall-300_000_000 || at.Mono != now.Mono-300_000_000 {
		t.Errorf("300 ms ago: %+v by %v", at, clock)
	}
	for _, c := range [][2]float64{
		{math.MinInt64, 100}, {0, 59_700}, {open, 62_000}, {open, 40_000}, {open - 3.6e9, 59_700}, {math.NaN(), 1}, {open, math.NaN()}, {open, -5},
	} {
		if at, clock := streamStamp(now, c[0], c[1]); clock != capture.ClockRead || at != now {
			t.Errorf("%v: %+v by %v", c, at, clock)
		}
	}
}

func TestFfmpegOptions(t *testing.T) {
	for version, want := range map[int]string{
		59: "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay|timeout;5000000",
		58: "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay|stimeout;5000000",
		0:  "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay",
	} {
		if got := ffmpegOptions("tcp", version); got != want {
			t.Errorf("libavformat %d: %s, want %s", version, got, want)
		}
	}
	if n := majorOf("7f /usr/lib/libavcodec.so.59.37.100\n7f /usr/lib/libavformat.so.58.76.100\n", "libavformat.so."); n != 58 {
		t.Errorf("version %d, want 58", n)
	}
	if n := loadedLibavformat(); n < 57 {
		t.Errorf("this process has libavformat %d", n)
	}
}

func TestCSIPipeline(t *testing.T) {
	for uri, want := range map[string]string{
		"csi://0": "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv flip-method=0 ! video/x-raw,format=BGRx ! appsink drop=true max-buffers=1 sync=false",
		"csi://1?width=1920&height=1080&fps=30&sensor-mode=2&flip=6": "nvarguscamerasrc sensor-id=1 sensor-mode=2 ! video/x-raw(memory:NVMM),format=NV12,width=1920,height=1080,framerate=30000/1000 ! nvvidconv flip-method=6 ! video/x-raw,format=BGRx ! appsink drop=true max-buffers=1 sync=false",
	} {
		s, err := capture.ParseSource(uri)
		if err != nil {
			t.Fatal(err)
		}
		if got := csiPipeline(s); got != want {
			t.Errorf("%s:\n got %s\nwant %s", uri, got, want)
		}
	}
}

func TestPacer(t *testing.T) {
	ms := func(n float64) int64 { return int64(n * 1e6) }
	p := pacer{period: 40 * time.Millisecond}
	now := ms(1000)
	check := func(what string, at int64, pos float64, want int64) {
		t.Helper()
		if got := p.due(at, pos); got != want {
			t.Errorf("%s: due %v ms, want %v", what, float64(got)/1e6, float64(want)/1e6)
		}
	}
	check("first", now, 0, now)
	check("second", now+ms(5), 40, now+ms(40))
	check("late, catches up", now+ms(300), 80, now+ms(80))
	check("no stamp", now+ms(300), 0, now+ms(120))
	p.newRound()
	check("second round", now+ms(130), 0, now+ms(160))
	check("second round goes on", now+ms(170), 40, now+ms(200))
	p.newRound()
	check("first stamp not zero", now+ms(210), 80, now+ms(240))
	check("and on", now+ms(250), 120, now+ms(280))
	check("far too late", now+ms(5000), 160, now+ms(5000))
	check("then on from there", now+ms(5001), 200, now+ms(5040))
	check("a hole in the recording", now+ms(5050), 3_600_000, now+ms(5050))
	check("and on after the hole", now+ms(5060), 3_600_040, now+ms(5090))
}

func FuzzWholeJPEG(f *testing.F) {
	f.Add([]byte{0xff, 0xd8, 0xff, 0xda, 0, 2, 1, 2, 0xff, 0xd9})
	f.Add([]byte{0xff, 0xd8, 0xff, 0xe1, 0, 4, 0xff, 0xd9, 0xff, 0xda, 0, 2, 1})
	f.Add([]byte("\x89PNG"))
	f.Fuzz(func(t *testing.T, data []byte) {
		whole := wholeJPEG(data) == nil
		jpeg := len(data) >= 4 && data[0] == 0xff && data[1] == 0xd8
		if jpeg && whole && len(data) < 8 {
			t.Fatalf("% x passes as a whole JPEG", data)
		}
	})
}
