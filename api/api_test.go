package api_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

func TestTokenBits(t *testing.T) {
	for codebook, want := range map[int]int{1: 1, 2: 1, 3: 2, 4: 2, 5: 3, 256: 8, 257: 9, 16384: 14, 16385: 15, 1 << 30: 30} {
		if got := api.TokenBits(codebook); got != want {
			t.Errorf("TokenBits(%d) = %d, want %d", codebook, got, want)
		}
	}
}

// The layout is specified bit by bit; this pins it with numbers worked out by hand.
func TestPackedLayout(t *testing.T) {
	got, err := api.PackTokens([]int32{0x2aaa, 0x0001, 0x3fff}, 14)
	if err != nil {
		t.Fatal(err)
	}
	// 10 1010 1010 1010 | 00 0000 0000 0001 | 11 1111 1111 1111, first id in the lowest bits.
	want := []byte{0xaa, 0x6a, 0x00, 0xf0, 0xff, 0x03}
	if !slices.Equal(got, want) {
		t.Errorf("packed = % x, want % x", got, want)
	}
	if n := api.PackedSize(256, 14); n != 448 {
		t.Errorf("256 ids of 14 bits take %d bytes, want 448", n)
	}
}

func TestPackRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for bits := 1; bits <= 31; bits++ {
		for _, n := range []int{0, 1, 2, 3, 7, 8, 9, 255, 256, 576} {
			ids := make([]int32, n)
			for i := range ids {
				ids[i] = int32(r.Uint32() & (1<<bits - 1))
			}
			packed, err := api.AppendPackedTokens([]byte("head"), ids, bits)
			if err != nil {
				t.Fatalf("%d ids of %d bits: %v", n, bits, err)
			}
			if want := 4 + (n*bits+7)/8; len(packed) != want || string(packed[:4]) != "head" {
				t.Fatalf("%d ids of %d bits: %d bytes, want %d", n, bits, len(packed), want)
			}
			for i, id := range ids { // against the specification, bit by bit
				for k := range bits {
					at := i*bits + k
					if got := packed[4+at/8] >> (at % 8) & 1; got != byte(id>>k&1) {
						t.Fatalf("%d bits: bit %d of id %d is %d", bits, k, i, got)
					}
				}
			}
			back, err := api.AppendUnpackedTokens([]int32{-1}, packed[4:], n, bits)
			if err != nil || back[0] != -1 || !slices.Equal(back[1:], ids) {
				t.Fatalf("%d ids of %d bits come back as %v, %v", n, bits, back, err)
			}
		}
	}
}

func TestPackRefuses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{second(api.PackTokens([]int32{1, 16384}, 14)), "id 16384 at position 1 does not fit 14 bits"},
		{second(api.PackTokens([]int32{-1}, 14)), "id -1 at position 0"},
		{second(api.PackTokens([]int32{1}, 0)), "0 bits an id"},
		{second(api.UnpackTokens(make([]byte, 447), 256, 14)), "447 bytes for 256 ids of 14 bits: want 448"},
		{second(api.UnpackTokens([]byte{0, 0x80}, 1, 14)), "not zero"},
		{second(api.UnpackTokens(nil, -1, 14)), "-1 ids"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("error %v does not say %q", c.err, c.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Every half value is exact in float32 and must come back; between two neighbours the
// nearest, and from the middle the even one, must be chosen.
func TestFloat16(t *testing.T) {
	for h := range 1 << 16 {
		f := api.FromFloat16(uint16(h))
		if math.IsNaN(float64(f)) {
			if g := api.Float16(f); !math.IsNaN(float64(api.FromFloat16(g))) {
				t.Fatalf("%#x: NaN became %#x", h, g)
			}
			continue
		}
		if g := api.Float16(f); g != uint16(h) {
			t.Fatalf("%#x became %v, then %#x", h, f, g)
		}
		next := uint16(h) + 1
		if h&0x7fff >= 0x7bff {
			continue // the greatest finite value
		}
		middle := float32((float64(f) + float64(api.FromFloat16(next))) / 2) // exact: 12 bits
		even := uint16(h)
		if h&1 == 1 {
			even = next
		}
		if g := api.Float16(middle); g != even {
			t.Fatalf("middle of %#x and %#x became %#x, want the even one", h, next, g)
		}
		lo, hi := math.Nextafter32(middle, f), math.Nextafter32(middle, api.FromFloat16(next))
		if g := api.Float16(lo); g != uint16(h) {
			t.Fatalf("just towards %#x became %#x", h, g)
		}
		if g := api.Float16(hi); g != next {
			t.Fatalf("just towards %#x became %#x", next, g)
		}
	}
	for f, want := range map[float32]uint16{65504: 0x7bff, 65519.996: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00, -1e30: 0xfc00, 1e-10: 0, -1e-10: 0x8000} {
		if got := api.Float16(f); got != want {
			t.Errorf("Float16(%v) = %#x, want %#x", f, got, want)
		}
	}
}

func TestSetTokens(t *testing.T) {
	m := &toklipv1.Tokens{}
	ids := []int32{5, 0, 3, 15, 2, 1}
	if err := api.SetTokens(m, 2, 3, 16, ids, []uint64{0b101001}); err != nil {
		t.Fatal(err)
	}
	got, err := api.TokenIDs(nil, m)
	if err != nil || !slices.Equal(got, ids) {
		t.Errorf("ids = %v, %v", got, err)
	}
	changed, err := api.ChangedCells(nil, m)
	if err != nil || !slices.Equal(changed, []int32{0, 3, 5}) {
		t.Errorf("changed = %v, %v", changed, err)
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{api.SetTokens(m, 2, 3, 15, ids, []uint64{0}), "id 15 at position 3 is outside the codebook of 15"},
		{api.SetTokens(m, 2, 2, 16, ids, []uint64{0}), "6 ids for a grid of 2x2"},
		{api.SetTokens(m, 2, 3, 16, ids, []uint64{1 << 6}), "beyond the grid"},
		{api.SetTokens(m, 2, 3, 16, ids, nil), "0 words"},
		{second(api.TokenIDs(nil, &toklipv1.Tokens{Rows: 1 << 31, Cols: 1 << 31, CodebookSize: 16, Bits: 4})), "not possible"},
		{second(api.TokenIDs(nil, &toklipv1.Tokens{Rows: 1, Cols: 1, CodebookSize: 16, Bits: 5, Packed: []byte{0}})), "takes 4"},
		{second(api.TokenIDs(nil, &toklipv1.Tokens{Rows: 1, Cols: 1, CodebookSize: 15, Bits: 4, Packed: []byte{15}})), "outside the codebook"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("error %v does not say %q", c.err, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, bad := range []string{"", "Front", "a b", "a/b", "a+", "ä", strings.Repeat("x", 65)} {
		if api.ValidName(bad) == nil {
			t.Errorf("name %q is accepted", bad)
		}
	}
	for in, want := range map[string]string{"Robot_7.local": "robot-7-local", "--a--": "a", "": "node", "日本": "node", "orin": "orin", "A  B": "a-b"} {
		if got := api.SanitizeName(in); got != want || api.ValidName(got) != nil {
			t.Errorf("SanitizeName(%q) = %q, want %q", in, got, want)
		}
	}
	if got := api.SanitizeName(strings.Repeat("a.", 100)); api.ValidName(got) != nil {
		t.Errorf("long name became %q", got)
	}
}

func TestVerbs(t *testing.T) {
	for _, good := range []string{"ping", "max-fps", "labels/set"} {
		if err := api.ValidVerb(good); err != nil {
			t.Errorf("verb %q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "/", "a/", "/a", "a//b", "a/b/c", "Labels/set", "labels/+", "#"} {
		if err := api.ValidVerb(bad); err == nil || !strings.Contains(err.Error(), "labels/set") {
			t.Errorf("verb %q: error %v does not show a good one", bad, err)
		}
	}
}

func TestTopics(t *testing.T) {
	topics, err := api.NewTopics("fleet/toklip", "robot-1")
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]api.Topic{
		topics.Availability():                          {Node: "robot-1", Kind: api.KindAvailability},
		topics.Info():                                  {Node: "robot-1", Kind: api.KindInfo},
		topics.State():                                 {Node: "robot-1", Kind: api.KindState},
		topics.Metrics():                               {Node: "robot-1", Kind: api.KindMetrics},
		topics.Command("ping"):                         {Node: "robot-1", Kind: api.KindCommand, Verb: "ping"},
		topics.Camera("front", api.KindTokensJSON):     {Node: "robot-1", Kind: api.KindTokensJSON, Camera: "front"},
		"fleet/toklip/other/camera/back/status":        {Node: "other", Kind: api.KindStatus, Camera: "back"},
		"fleet/toklip/robot-1/camera/front/embedding":  {Node: "robot-1", Kind: api.KindEmbedding, Camera: "front"},
		"fleet/toklip/robot-1/camera/front/tokens/bin": {},
		"fleet/toklip/robot-1/camera/front":            {},
		"fleet/toklip/robot-1/info/x":                  {},
		"fleet/toklip/robot-1/command/":                {},
		topics.Command("labels/set"):                   {Node: "robot-1", Kind: api.KindCommand, Verb: "labels/set"},
		topics.Camera("front", api.KindEvent):          {Node: "robot-1", Kind: api.KindEvent, Camera: "front"},
		topics.Camera("front", api.KindRegionsJSON):    {Node: "robot-1", Kind: api.KindRegionsJSON, Camera: "front"},
		"fleet/toklip/robot-1/command/a/b/c":           {},
		"fleet/toklip/robot-1/command/a/":              {},
		"fleet/toklip/robot-1/command/Labels/set":      {},
		"toklip/robot-1/info":                          {},
		topics.Reply("me"):                             {},
	} {
		got, ok := api.ParseTopic("fleet/toklip", topic)
		if ok != (want != api.Topic{}) || ok && got != want {
			t.Errorf("ParseTopic(%q) = %+v, %v; want %+v", topic, got, ok, want)
		}
	}
	for topic, want := range map[string]bool{topics.Info(): true, topics.Command("x"): true, topics.Reply("me"): false, "elsewhere": false,
		"fleet/toklip/robot-1/camera/front/tokens": true} {
		if got := topics.Owns(topic); got != want {
			t.Errorf("Owns(%q) = %v", topic, got)
		}
	}
	for _, prefix := range []string{"/a", "a/", "a//b", "a b", "a/#", "+", "$SYS", "a\x00"} {
		if _, err := api.NewTopics(prefix, "n"); err == nil {
			t.Errorf("prefix %q is accepted", prefix)
		}
	}
}

func TestRedactURI(t *testing.T) {
	for in, want := range map[string]string{
		"rtsp://user:secret@10.0.0.7:554/stream?token=secret":             "rtsp://10.0.0.7:554/stream",
		"rtsp://user:se/cr@et@10.0.0.7/stream":                            "rtsp://10.0.0.7/stream",
		"rtsp://user:se/c?r@et@10.0.0.7/stream":                           "rtsp://…",
		"rtsp://10.0.0.7/stream?user=admin&password=s@cret":               "rtsp://…",
		"v4l2:///dev/video0":                                              "v4l2:///dev/video0",
		"file:///clips/a@b.mp4?loop=true":                                 "file:///clips/a@b.mp4",
		"csi://0":                                                         "csi://0",
		"gst:rtspsrc location=rtsp://u:secret@h user-pw=secret ! appsink": "gst:…",
		"secret": "",
	} {
		if got := api.RedactURI(in); got != want {
			t.Errorf("RedactURI(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCell(t *testing.T) {
	// 100x50 fitted into a square: padded by a quarter above and below.
	h := &toklipv1.Header{Width: 100, Height: 50, Window: &toklipv1.Window{X: 0, Y: -25, Width: 100, Height: 100}}
	if _, _, _, _, ok := api.Cell(h, 4, 4, 0, 0); ok {
		t.Error("a cell of padding is not refused")
	}
	x0, y0, x1, y1, ok := api.Cell(h, 4, 4, 1, 2)
	if !ok || x0 != 50 || y0 != 0 || x1 != 75 || y1 != 25 {
		t.Errorf("cell = %v %v %v %v %v", x0, y0, x1, y1, ok)
	}
	if _, _, _, _, ok := api.Cell(h, 4, 4, 4, 0); ok {
		t.Error("a cell outside the grid is not refused")
	}
	if _, _, _, _, ok := api.Cell(&toklipv1.Header{}, 4, 4, 0, 0); ok {
		t.Error("a header without window gives a cell")
	}
}
