package pattern

import (
	"bytes"
	"errors"
	"testing"

	"github.com/toklip/toklip/capture"
)

func TestCounterRoundTrip(t *testing.T) {
	for _, size := range [][2]int{{64, 1}, {65, 7}, {640, 480}, {1919, 3}} {
		p, err := New("counter", size[0], size[1])
		if err != nil {
			t.Fatal(err)
		}
		picture := make([]byte, p.Geometry().Bytes())
		for _, n := range []uint64{0, 1, 2, 255, 256, 1234567, numberMask} {
			p.Draw(picture, n)
			got, err := ReadCounter(p.Geometry(), picture)
			if err != nil || got != n {
				t.Errorf("%v: drew %d, read %d, %v", size, n, got, err)
			}
		}
	}
}

func TestCounterShowsTearing(t *testing.T) {
	p, err := New("counter", 128, 64)
	if err != nil {
		t.Fatal(err)
	}
	g := p.Geometry()
	a, b := make([]byte, g.Bytes()), make([]byte, g.Bytes())
	p.Draw(a, 7)
	p.Draw(b, 8)
	copy(a[63*g.Stride:], b[63*g.Stride:])
	if _, err := ReadCounter(g, a); !errors.Is(err, ErrTorn) {
		t.Errorf("last row of another picture: error %v, want ErrTorn", err)
	}
	if n, err := ReadCounter(g, make([]byte, g.Bytes())); err == nil {
		t.Errorf("a black picture reads as %d", n)
	}
}

func TestPatterns(t *testing.T) {
	const w, h = 160, 120
	for _, name := range capture.Patterns() {
		p, err := New(name, w, h)
		if err != nil {
			t.Fatal(err)
		}
		one, again, two := make([]byte, w*h*3), make([]byte, w*h*3), make([]byte, w*h*3)
		p.Draw(one, 1)
		p.Draw(again, 1)
		p.Draw(two, 2)
		if !bytes.Equal(one, again) {
			t.Errorf("%s: the same number gives two pictures", name)
		}
		if same := bytes.Equal(one, two); same != (name == "still") {
			t.Errorf("%s: pictures 1 and 2 equal: %v", name, same)
		}
		if bytes.Equal(one, make([]byte, len(one))) {
			t.Errorf("%s: nothing was drawn", name)
		}
	}
	if _, err := New("nothing", w, h); err == nil {
		t.Error("unknown pattern accepted")
	}
	if _, err := New("counter", 63, h); err == nil {
		t.Error("counter too narrow accepted")
	}
}

func TestBarsColours(t *testing.T) {
	p, err := New("bars", 80, 32)
	if err != nil {
		t.Fatal(err)
	}
	picture := make([]byte, p.Geometry().Bytes())
	p.Draw(picture, 0)
	// BGR at the middle of each bar, in the order of the SMPTE bars.
	want := [][3]byte{{191, 191, 191}, {0, 191, 191}, {191, 191, 0}, {0, 191, 0}, {191, 0, 191}, {0, 0, 191}, {191, 0, 0}, {0, 0, 0}}
	for i, w := range want {
		at := 3 * (i*10 + 5)
		if got := [3]byte(picture[at : at+3]); got != w {
			t.Errorf("bar %d is %v, want %v", i, got, w)
		}
	}
}
