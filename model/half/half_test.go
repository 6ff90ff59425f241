package half

import (
	"math"
	"strings"
	"testing"
)

// Every half-precision number survives the way through float32 and back.
func TestRoundTrip(t *testing.T) {
	for h := range 1 << 16 {
		v := To(uint16(h))
		if got := From(v); got != uint16(h) && !math.IsNaN(float64(v)) {
			t.Fatalf("%#04x is %v and comes back as %#04x", h, v, got)
		}
		if math.IsNaN(float64(v)) && !math.IsNaN(float64(To(From(v)))) {
			t.Fatalf("%#04x, which is no number, became %v", h, To(From(v)))
		}
	}
}

// From gives the nearest of the neighbours, the even one in the middle. Between any two neighbours five points are tried.
func TestNearest(t *testing.T) {
	for h := range 0x7bff {
		low, high := To(uint16(h)), To(uint16(h+1))
		middle := low + (high-low)/2 // exact: float32 has 13 bits more
		even := uint16(h + h&1)
		for v, want := range map[float32]uint16{
			low: uint16(h), math.Nextafter32(middle, low): uint16(h), middle: even, math.Nextafter32(middle, high): uint16(h + 1), high: uint16(h + 1),
		} {
			if got := From(v); got != want {
				t.Fatalf("%v became %#04x, want %#04x", v, got, want)
			}
			if got := From(-v); got != want|0x8000 {
				t.Fatalf("%v became %#04x, want %#04x", -v, got, want|0x8000)
			}
		}
	}
	for v, want := range map[float32]uint16{65519.996: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00, 1e-30: 0, float32(math.Inf(-1)): 0xfc00} {
		if got := From(v); got != want {
			t.Errorf("%v became %#04x, want %#04x", v, got, want)
		}
	}
}

func TestAppend(t *testing.T) {
	b, err := Append([]byte{7}, []float32{1, -2})
	if err != nil || string(b) != "\x07\x00\x3c\x00\xc0" {
		t.Errorf("% x, %v", b, err)
	}
	for _, v := range []float32{1e6, float32(math.NaN())} {
		if b, err := Append(nil, []float32{0, v}); err == nil || b != nil || !strings.Contains(err.Error(), "value 1 is") {
			t.Errorf("% x, %v", b, err)
		}
	}
}
