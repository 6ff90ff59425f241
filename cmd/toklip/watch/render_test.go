package watch

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/muesli/termenv"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

var update = flag.Bool("update", false, "write the golden files of the view")

// scene is a made-up afternoon: two nodes, cameras in several states.
func scene(t testing.TB) snapshot {
	st := newState("toklip")
	at := start
	put(st, "toklip/robot-7/availability", []byte("online"), at)
	put(st, "toklip/robot-7/info", []byte(`{"version":"0.1.0","boot_id":"b1","model_name":"toklip-s256","grid":[16,16],"backend":"onnxruntime","precision":"int8","cameras":[{},{},{}]}`), at)
	put(st, "toklip/robot-7/state", []byte(`{"state":"ready"}`), at)
	put(st, "toklip/robot-7/metrics", []byte(`{"boot_id":"b1","uptime_ns":8000000000000,"process":{"rss_bytes":812000000,"workers_rss":96000000,"cpu":1.42}}`), at)
	put(st, "toklip/robot-7/camera/front/status", []byte(`{"status":"online"}`), at)
	put(st, "toklip/robot-7/camera/rear/status", []byte(`{"status":"stalled","reason":"no frame for 12 s; the worker is started again"}`), at)
	put(st, "toklip/shelf-2/availability", []byte("online"), at)
	put(st, "toklip/shelf-2/info", []byte(`{"version":"0.1.0","boot_id":"b1","model_name":"toklip-l384","grid":[24,24],"backend":"tensorrt","precision":"fp16","cameras":[{}]}`), at)
	put(st, "toklip/shelf-2/state", []byte(`{"state":"building-engine","reason":"","progress":{"step":"token encoder, fp16","done":0.43,"left_ns":150000000000}}`), at)

	front, rear, top := newSender(t, "robot-7", "front", 16), newSender(t, "robot-7", "rear", 16), newSender(t, "shelf-2", "top", 24)
	front.drops.Capture, front.drops.Queue = 12, 3
	for i := range 900 { // 30 s at 30 fps
		at = start.Add(time.Duration(i) * time.Second / 30)
		seq := uint64(1000 + i)
		if i%180 == 179 {
			continue // lost on the way
		}
		age := 33*time.Millisecond + time.Duration(i%7)*time.Millisecond
		h := front.header(seq, at.Add(-age), at.Add(-time.Duration(900+i%5*100)*time.Microsecond))
		h.Keyframe, h.Reused = i%150 == 0, i%9 == 0
		put(st, front.topic(api.KindTokens), front.tokens(h, front.change(i%256, (i*7)%256, (i*13+5)%256)), at)
		put(st, front.topic(api.KindEmbedding), front.embedding(h, true), at)
		labels := &toklipv1.Labels{Header: h, Labels: []*toklipv1.Label{
			{Label: "a person at a door", Score: 0.913, Present: true, SinceNs: start.UnixNano()}, {Label: "an empty hall", Score: 0.08}}}
		put(st, front.topic(api.KindLabels), front.marshal(labels), at)
		if i%6 == 0 {
			labels.Labels = []*toklipv1.Label{{Label: "a person at a door", Score: 0.64, Region: "door"}, {Label: "an empty hall", Score: 0.4, Region: "door"}}
			put(st, front.topic(api.KindRegions), front.marshal(labels), at)
		}
		if i == 800 {
			put(st, front.topic(api.KindEvent), []byte(`{"boot_id":"b1","camera":"front","sequence":1800,"label":"a red box","region":"door","event":"gone",
				"reason":"score","duration_ns":4200000000,"score":0.12,"peak":0.97}`), at)
		}
		if i < 500 {
			put(st, rear.topic(api.KindTokens), rear.tokens(rear.header(seq, at.Add(-age), at), rear.change(i%256)), at)
		}
		if i%6 == 0 { // 5 fps, from a machine whose clock is ahead
			h := top.header(uint64(i/6), at.Add(3*time.Second), at.Add(3100*time.Millisecond))
			h.Backend, h.Precision, h.Clock = "tensorrt", "fp16", "rtp"
			put(st, top.topic(api.KindTokens), top.tokens(h, top.change(i%576, (i*5)%576)), at)
		}
	}
	put(st, "toklip/robot-7/camera/front/tokens", []byte("\x0a\x05hello\xff"), at)
	put(st, "zigbee/\x1b[31mlamp", []byte(`{"on":true}`), at)
	s := st.snapshot(at.Add(50 * time.Millisecond))
	s.Link = linkStatus{Broker: "mqtt://127.0.0.1:1883", Connected: true, Connects: 1}
	return s
}

// TestView draws the scene without colours and compares with testdata. Run it with -v to
// look at it, with -update after a change that is meant.
func TestView(t *testing.T) {
	plain := newTheme(termenv.Ascii)
	whole := scene(t)
	tests := []struct {
		name string
		snap func() snapshot
		view viewOptions
	}{
		{"wide", func() snapshot { return whole }, viewOptions{Width: 160, Grid: true}},
		{"normal", func() snapshot { return whole }, viewOptions{Width: 80, Grid: true, Selected: 2}},
		{"compact", func() snapshot { return whole }, viewOptions{Width: 80, Height: 30, Grid: true, Paused: true}},
		{"narrow", func() snapshot { return whole }, viewOptions{Width: 48, Grid: true}},
		{"nogrid", func() snapshot { return whole }, viewOptions{Width: 80}},
		{"help", func() snapshot { return whole }, viewOptions{Width: 80, Height: 24, Help: true}},
		{"empty", func() snapshot {
			return snapshot{At: start, Link: linkStatus{Broker: "mqtt://robot:1883", Err: "connection refused"}}
		}, viewOptions{Width: 80, Height: 10}},
		{"offline", func() snapshot {
			st := newState("toklip")
			put(st, "toklip/r/availability", []byte("offline"), start)
			put(st, "toklip/r/info", []byte(`{"boot_id":"b1"}`), start)
			put(st, "toklip/r/info", []byte(`{"boot_id":"b2"}`), start)
			put(st, "toklip/r/state", []byte(`{"state":"ready"}`), start)
			put(st, "toklip/r/camera/c/status", []byte(`{"status":"online"}`), start)
			s := st.snapshot(start)
			s.Link = linkStatus{Broker: "mqtt://robot:1883", Connects: 1, Err: "connection lost"}
			return s
		}, viewOptions{Width: 80, Height: 16}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := test.snap()
			text := plain.render(&s, test.view) + "\n"
			t.Logf("\n%s", text)
			checkPicture(t, text, test.view)
			golden := filepath.Join("testdata", "view", test.name+".txt")
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if text != string(want) {
				t.Errorf("the view is not that of %s:\n%s", golden, text)
			}
			if strings.Contains(text, "\x1b") {
				t.Error("an escape sequence without colours")
			}
			// Colours change nothing but colours, outside the grid.
			for _, profile := range []termenv.Profile{termenv.ANSI, termenv.ANSI256, termenv.TrueColor} {
				theme := newTheme(profile)
				coloured := theme.render(&s, test.view) + "\n"
				checkPicture(t, coloured, test.view)
				drop := strings.NewReplacer("▀", "·", "▄", "·", "█", "·")
				have := strings.ReplaceAll(ansi.Strip(coloured), " \n", "\n") // one blank may stand inside a style
				if drop.Replace(have) != drop.Replace(text) {
					t.Errorf("with colours (%v) the text differs:\n%s", profile, have)
				}
			}
		})
	}
}

func checkPicture(t *testing.T, text string, v viewOptions) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if v.Height > 0 && len(lines) > v.Height {
		t.Errorf("%d lines, %d fit", len(lines), v.Height)
	}
	for i, line := range lines {
		if n := ansi.StringWidth(line); n > v.Width {
			t.Errorf("line %d has %d columns, %d fit: %q", i, n, v.Width, line)
		}
	}
}

// Every size gives a picture that fits, and the selected camera is in it.
func TestViewFitsEverySize(t *testing.T) {
	s := scene(t)
	theme := newTheme(termenv.Ascii)
	for width := 40; width < 200; width += 7 {
		for height := 4; height < 60; height += 3 {
			for selected := range s.cameras() {
				v := viewOptions{Width: width, Height: height, Selected: selected, Grid: true}
				text := theme.render(&s, v)
				checkPicture(t, text, v)
				if name := s.cameraAt(selected).Name; height >= 10 && !strings.Contains(text, name) {
					t.Fatalf("%dx%d: camera %s is selected and not to be seen:\n%s", width, height, name, text)
				}
			}
		}
	}
}

func TestPaintGrid(t *testing.T) {
	p := newGridPainter(termenv.TrueColor)
	g := gridView{Rows: 3, Cols: 2, IDs: []int32{1, 2, 3, 4, 5, 6}, Heat: []uint8{0, 0, 2, 0, 0, 1}}
	lines, width := p.paint(g)
	if len(lines) != 2 || width != 2 {
		t.Fatalf("%d lines of %d columns", len(lines), width)
	}
	for i, line := range lines {
		if ansi.Strip(line) != "▀▀" || !strings.HasSuffix(line, resetColour) {
			t.Errorf("line %d: %q", i, line)
		}
	}
	if want := p.fg[colourOf(1)][0] + p.bg[colourOf(3)][2] + "▀"; !strings.HasPrefix(lines[0], want) {
		t.Errorf("first cell: %q, want %q", lines[0], want)
	}
	if !strings.Contains(lines[1], "\x1b[49m") {
		t.Errorf("below the grid there must be no colour: %q", lines[1])
	}
	mono := newGridPainter(termenv.Ascii)
	if lines, _ := mono.paint(g); strings.Join(lines, "/") != "▄·/·▀" {
		t.Errorf("without colours: %q", lines)
	}
	// Thinned: a change anywhere in a block is seen.
	big := gridView{Rows: 64, Cols: 64, IDs: make([]int32, 64*64), Heat: make([]uint8, 64*64)}
	big.Heat[63*64+63] = 2
	lines, width = mono.paint(big)
	if len(lines) != 16 || width != 32 || !strings.HasSuffix(lines[15], "▄") {
		t.Errorf("thinned: %d lines of %d: %q", len(lines), width, lines[len(lines)-1])
	}
	// What does not fit together is not drawn.
	if lines, _ := p.paint(gridView{Rows: 4, Cols: 4, IDs: []int32{1}}); lines != nil {
		t.Error("a grid without its ids was drawn")
	}
}

// The palette is part of what people learn to read; an id keeps its colour, and ids near
// each other differ.
func TestColours(t *testing.T) {
	var used [paletteSize]int
	same := 0
	for id := range int32(16384) {
		used[colourOf(id)]++
		if colourOf(id) == colourOf(id+1) {
			same++
		}
	}
	for i, n := range used {
		if n < 200 || n > 320 {
			t.Errorf("colour %d stands for %d of 16384 ids", i, n)
		}
	}
	if same > 0 {
		t.Errorf("%d neighbouring ids share a colour", same)
	}
}

func TestTexts(t *testing.T) {
	for _, test := range []struct{ have, want string }{
		{clean("plain", 10), "plain"},
		{clean("\x1b[31mred\x07\u009b2J", 40), "·[31mred··2J"},
		{clean("a\u202eb\xffc\td\ne", 40), "a·b·c d e"},
		{clean("too long for this", 8), "too lon…"},
		{clean("日本語のカメラ", 7), "日本語…"},
		{clean("x", 0), ""},
		{hexSummary([]byte("A\x00\xffz"), 3), "4 B  41 00 ff …  |A..|"},
		{hexSummary(nil, 3), "empty"},
		{sizeText(999), "999 B"}, {sizeText(1000), "1 kB"}, {sizeText(93_412), "93.4 kB"}, {sizeText(999_600), "1 MB"},
		{spanText(1200 * time.Microsecond), "1.2 ms"}, {spanText(38 * time.Millisecond), "38 ms"},
		{spanText(-3 * time.Second), "-3.0 s"}, {spanText(90 * time.Second), "90 s"}, {spanText(8000 * time.Second), "2 h 13 min"},
		{spanText(-1 << 63), "->9999 days"},
		{shareText(0), "0 %"}, {shareText(0.001), "<1 %"}, {shareText(0.126), "13 %"},
		{countText(9999), "9999"}, {countText(12_345), "12.3k"}, {countText(1 << 63), "9.22e+09G"},
		{rateText(29.97), "30"}, {rateText(4.97), "5.0"}, {rateText(0), "0"},
		{dropsText(api.Drops{Queue: 3, Rate: 40, Broker: 3}), "rate 40, queue 3, broker 3"},
		{bars([]uint16{0, 1, 4, 8, 3}, 10), " ▁▄█"},
		{progressBar(0.5, 4), "━━╌╌"},
	} {
		if test.have != test.want {
			t.Errorf("have %q, want %q", test.have, test.want)
		}
	}
}
