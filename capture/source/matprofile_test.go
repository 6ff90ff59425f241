//go:build matprofile

package source_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/capture/source"
	"gocv.io/x/gocv"
)

// TestMatsAreClosed counts GoCV's Mats: as many after each source as before.
func TestMatsAreClosed(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"a.jpg": jpegOf(t, quarters(32, 16)), "b.jpg": jpegOf(t, quarters(16, 32)), "c.jpg": []byte("broken"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, uri := range []string{
		"file://" + counterClip(t, 10, 25, "clip.mp4") + "?rate=max",
		"images://" + dir + "?fps=1000",
		"gst:videotestsrc num-buffers=5 ! videoconvert ! video/x-raw,format=BGR ! appsink",
	} {
		before := gocv.MatProfile.Count()
		s, err := capture.ParseSource(uri)
		if err != nil {
			t.Fatal(err)
		}
		g, err := source.Open(context.Background(), s)
		if err != nil {
			t.Fatal(err)
		}
		memory := newSlots(t, clipWidth*clipHeight*3)
		frames := 0
		for {
			_, err := g.Grab(context.Background(), memory.take())
			if err == nil {
				frames++
			} else if !errors.Is(err, capture.ErrBroken) {
				if s.Kind != capture.Gst && !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				break
			}
		}
		if frames < 2 {
			t.Errorf("%s: %d frames", uri, frames)
		}
		if gocv.MatProfile.Count() == before && s.Kind != capture.Images {
			t.Errorf("%s: no Mat was open; the test sees nothing", uri)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if after := gocv.MatProfile.Count(); after != before {
			var b bytes.Buffer
			_ = gocv.MatProfile.WriteTo(&b, 1)
			t.Errorf("%s: %d Mats before, %d after\n%s", uri, before, after, b.String())
		}
	}
}
