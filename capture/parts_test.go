package capture

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestCountsKeepTheirBooks plays random workers against the books and checks the
// rule: sequence = delivered + dropped.
func TestCountsKeepTheirBooks(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var books counts
		var delivered uint64
		for range 4 { // workers
			w, m := heapSegment(t, Packed(4, 4, Gray8), 3)
			var drops Drops
			sequence := uint64(0)
			for range r.IntN(50) {
				switch r.IntN(6) {
				case 0:
					sequence++
					drops.Rate++
					w.account(sequence, drops)
				case 1:
					sequence++
					drops.Broken++
					w.account(sequence, drops)
				case 2:
					books.observe(m)
				case 3:
					var f Frame
					if m.acquire(&f, books.last) {
						books.deliver(&f)
						f.Release()
						delivered++
						if f.Sequence != delivered+f.Drops.Total() {
							t.Fatalf("seed %d: frame %d is the %dth, %+v", seed, f.Sequence, delivered, f.Drops)
						}
					}
				default:
					sequence++
					w.begin()
					w.publish(sequence, Stamp{}, ClockRead, drops)
				}
				before := books.drops()
				books.observe(m)
				after := books.drops()
				if after.Superseded < before.Superseded || books.captured() < delivered+after.Total() {
					t.Fatalf("seed %d: %d captured, %d delivered, %+v", seed, books.captured(), delivered, after)
				}
			}
			books.observe(m)
			books.endWorker()
			if d := books.drops(); books.captured() != delivered+d.Total() {
				t.Fatalf("seed %d: %d captured by ended workers, %d delivered, %+v", seed, books.captured(), delivered, d)
			}
		}
	}
}

func TestJudge(t *testing.T) {
	o := Options{OpenTimeout: 20 * time.Second, PictureTimeout: 15 * time.Second, StallAfter: 2 * time.Second,
		FrameTimeout: 10 * time.Second, SilenceTimeout: 5 * time.Second}
	at := func(s float64) int64 { return int64(s * 1e9) }
	for _, c := range []struct {
		name  string
		v     vitals
		now   float64
		state State
		kill  bool
	}{
		{"just started", vitals{started: at(1)}, 2, Connecting, false},
		{"no hello", vitals{started: at(1)}, 22, Connecting, true},
		{"opening", vitals{started: at(1), greeted: at(2), lastSign: at(14)}, 15, Connecting, false},
		{"opening too long", vitals{started: at(1), greeted: at(2), lastSign: at(23)}, 23, Connecting, true},
		{"hangs while opening", vitals{started: at(1), greeted: at(2), lastSign: at(2)}, 8, Connecting, true},
		{"open", vitals{started: at(1), greeted: at(2), opened: at(3), lastSign: at(9)}, 10, NoPicture, false},
		{"open, never a picture", vitals{started: at(1), greeted: at(2), opened: at(3), lastSign: at(19)}, 19, NoPicture, true},
		{"open, slow source", vitals{started: at(1), greeted: at(2), opened: at(3), lastSign: at(19), fps: 0.1}, 19, NoPicture, false},
		{"frames", vitals{started: at(1), greeted: at(2), opened: at(3), lastFrame: at(19), lastSign: at(19)}, 20, Online, false},
		{"stall", vitals{started: at(1), greeted: at(2), opened: at(3), lastFrame: at(17), lastSign: at(20)}, 20, Stalled, false},
		{"slow source is no stall", vitals{started: at(1), greeted: at(2), opened: at(3), lastFrame: at(1), lastSign: at(20), fps: 0.1}, 20, Online, false},
		{"long stall", vitals{started: at(1), greeted: at(2), opened: at(3), lastFrame: at(9), lastSign: at(20)}, 20, Stalled, true},
		{"stopped process", vitals{started: at(1), greeted: at(2), opened: at(3), lastFrame: at(14.9), lastSign: at(14.9)}, 20, Stalled, true},
	} {
		got := c.v.judge(at(c.now), &o)
		if got.state != c.state || got.kill != c.kill || got.kill && got.reason == "" {
			t.Errorf("%s: %+v, want %s, kill %v", c.name, got, c.state, c.kill)
		}
	}
}

func TestBackoff(t *testing.T) {
	var b Backoff
	if err := b.complete(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
		if got := b.Pause(i+1, 0); got != want*time.Second {
			t.Errorf("after %d failures %v, want %v s", i+1, got, want)
		}
		low := b.Pause(i+1, 0.999999)
		if low < want*time.Second*3/4 || low > want*time.Second*76/100 {
			t.Errorf("after %d failures, most jitter: %v of %v s", i+1, low, want)
		}
	}
	if got := b.Pause(1<<30, 0.5); got > b.Max {
		t.Errorf("after very many failures %v", got)
	}
	if err := (&Backoff{First: 2, Max: 1}).complete(); err == nil {
		t.Error("a longest pause below the first was accepted")
	}
}

func TestRateLimit(t *testing.T) {
	for _, c := range []struct {
		in, limit, want float64
	}{{30, 30, 30}, {30, 15, 15}, {30, 20, 20}, {30, 7, 7}, {25, 100, 25}, {60, 1, 1}, {30, 0, 30}} {
		r := newRateLimit(0, c.limit)
		jitter := rand.New(rand.NewPCG(1, 2))
		const seconds = 20
		passed := 0
		for i := range int(c.in * seconds) {
			at := (float64(i) + 0.2*(jitter.Float64()-0.5)) / c.in
			if r.allow(int64(at * 1e9)) {
				passed++
			}
		}
		if got := float64(passed) / seconds; got < c.want*0.97 || got > c.want*1.03+0.05 {
			t.Errorf("%v fps limited to %v: %v fps passed, want %v", c.in, c.limit, got, c.want)
		}
	}
	r := newRateLimit(10)
	r.allow(1e12)
	if !r.allow(5e9) {
		t.Error("after the stamps jumped back nothing passes")
	}
}

func TestDecodeEvent(t *testing.T) {
	for _, c := range []struct{ packet, want string }{
		{``, "EOF"},
		{`hello`, "invalid character"},
		{`{"event":"hello"}`, "hello without protocol"},
		{`{"event":"dance"}`, `event "dance" is unknown`},
		{`{"event":"eof"}{"event":"eof"}`, "more than one JSON value"},
		{`{"event":"eof","surplus":1}`, `unknown field "surplus"`},
		{`{"event":"opened","fps":-1}`, "out of range"},
		{`{"event":"segment"}`, "without generation"},
		{`{"event":"error"}`, "error without message"},
		{`{"event":"segment","generation":-1}`, "cannot unmarshal"},
	} {
		if _, err := decodeEvent([]byte(c.packet)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.packet, err, c.want)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	for _, e := range []event{
		{Event: eventHello, Protocol: 1, Version: "v1", PID: 2}, {Event: eventOpened, FPS: 30, Clock: "rtp", Backend: "ffmpeg"},
		{Event: eventSegment, Generation: 3}, {Event: eventError, Message: "x"}, {Event: eventEOF}, {Event: eventStats},
	} {
		b, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		e, err := decodeEvent(packet)
		if err != nil {
			if e != (event{}) {
				t.Fatalf("an event besides the error %v", err)
			}
			return
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeEvent(b); err != nil || back != e {
			t.Fatalf("%+v, written %s, read back %+v, %v", e, b, back, err)
		}
	})
}

func FuzzDecodeCommand(f *testing.F) {
	f.Add([]byte(`{"command":"stop"}`))
	f.Add([]byte(`{"command":"open","uri":"test://pattern","fps":5,"slots":4}`))
	f.Fuzz(func(t *testing.T, packet []byte) {
		c, err := decodeCommand(packet)
		if err == nil && c.Command != commandStop && (c.Slots < minSlots || c.Slots > maxSlots) {
			t.Fatalf("%+v accepted", c)
		}
	})
}
