package source_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/toklip/toklip/capture"
)

// quarters is red at the top left, green, blue, white clockwise to the bottom left.
func quarters(w, h int) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.RGBA{A: 255}
			switch {
			case x < w/2 && y < h/2:
				c.R = 255
			case y < h/2:
				c.G = 255
			case x >= w/2:
				c.B = 255
			default:
				c.R, c.G, c.B = 255, 255, 255
			}
			m.SetRGBA(x, y, c)
		}
	}
	return m
}

func jpegOf(t *testing.T, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// turned puts an EXIF orientation into a JPEG.
func turned(data []byte, orientation uint16) []byte {
	tiff := []byte("II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00")
	tiff = binary.LittleEndian.AppendUint16(tiff, orientation)
	tiff = append(tiff, 0, 0, 0, 0, 0, 0)
	body := append([]byte("Exif\x00\x00"), tiff...)
	out := append([]byte{0xff, 0xd8, 0xff, 0xe1}, binary.BigEndian.AppendUint16(nil, uint16(len(body)+2))...)
	return append(append(out, body...), data[2:]...)
}

func TestImagesInOrderBrokenOnesSkipped(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, quarters(40, 20)); err != nil {
		t.Fatal(err)
	}
	whole := jpegOf(t, quarters(64, 32))
	write("a.png", b.Bytes())
	write("b.JPG", whole)
	write("c-turned.jpeg", turned(whole, 6)) // Turn 90° clockwise to show.
	write("d-cut.jpg", whole[:len(whole)/2])
	write("e-cut.png", b.Bytes()[:b.Len()/2])
	write("f-text.png", []byte("no picture at all"))
	write("g-empty.jpg", nil)
	write("h.png", b.Bytes())
	write("notes.txt", []byte("ignored"))

	g := open(t, "images://"+dir+"?fps=1000")
	red, green, white := [3]byte{0, 0, 255}, [3]byte{0, 255, 0}, [3]byte{255, 255, 255}
	for _, want := range []struct {
		name    string
		w, h    int
		topLeft [3]byte
		broken  bool
	}{
		{"a", 40, 20, red, false}, {"b", 64, 32, red, false}, {"c", 32, 64, white, false},
		{"d", 0, 0, red, true}, {"e", 0, 0, red, true}, {"f", 0, 0, red, true}, {"g", 0, 0, red, true},
		{"h", 40, 20, red, false},
	} {
		shot, err := g.Grab(context.Background(), nil)
		if want.broken {
			if !errors.Is(err, capture.ErrBroken) || !bytes.HasPrefix([]byte(err.Error()), []byte(want.name)) {
				t.Errorf("%s: error %v, want a broken picture with its name", want.name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", want.name, err)
		}
		if shot.Width != want.w || shot.Height != want.h || shot.Format != capture.BGR8 {
			t.Errorf("%s: %+v, want %dx%d", want.name, shot.Geometry, want.w, want.h)
			continue
		}
		at := 5*shot.Stride + 5*3
		if got := [3]byte(shot.Pixels[at : at+3]); !near(got, want.topLeft) {
			t.Errorf("%s: top left is %v, want %v", want.name, got, want.topLeft)
		}
		at = 5*shot.Stride + (shot.Width-5)*3
		right := green
		if want.topLeft == white {
			right = red
		}
		if got := [3]byte(shot.Pixels[at : at+3]); !near(got, right) {
			t.Errorf("%s: top right is %v, want %v", want.name, got, right)
		}
	}
	if _, err := g.Grab(context.Background(), nil); !errors.Is(err, io.EOF) {
		t.Errorf("after the last picture: %v", err)
	}
}

func near(a, b [3]byte) bool {
	for i := range a {
		if d := int(a[i]) - int(b[i]); d < -12 || d > 12 {
			return false
		}
	}
	return true
}

func TestImagesLoop(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"1.jpg", "2.jpg"} {
		if err := os.WriteFile(filepath.Join(dir, name), jpegOf(t, quarters(32, 32)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := open(t, "images://"+dir+"?fps=1000&loop=true")
	for range 7 {
		if _, err := g.Grab(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
	}
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "x.png"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	g = open(t, "images://"+bad+"?fps=1000&loop=true")
	if _, err := g.Grab(context.Background(), nil); !errors.Is(err, capture.ErrBroken) {
		t.Errorf("broken picture: %v", err)
	}
	if _, err := g.Grab(context.Background(), nil); err == nil || errors.Is(err, capture.ErrBroken) {
		t.Errorf("a folder without one good picture must end, not spin: %v", err)
	}
}
