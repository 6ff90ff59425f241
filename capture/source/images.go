package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/toklip/toklip/capture"
	"gocv.io/x/gocv"
)

// images shows the pictures of a folder in the order of their names.
type images struct {
	folder string
	names  []string
	next   int
	good   bool // this round had a readable picture
	loop   bool
	info   capture.Info
	period time.Duration
	due    time.Time

	file bytes.Buffer
	mat  *gocv.Mat
}

func openImages(s capture.Source) (capture.Grabber, error) {
	names, err := pictureNames(s.Path)
	if err != nil {
		return nil, err
	}
	return &images{
		folder: s.Path, names: names, loop: s.Loop,
		info:   capture.Info{FPS: s.FPS, Clock: capture.ClockFile, Backend: "images"},
		period: time.Duration(float64(time.Second) / s.FPS),
	}, nil
}

func pictureNames(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		switch strings.ToLower(filepath.Ext(e.Name())) {
		case ".png", ".jpg", ".jpeg":
			if !e.IsDir() {
				names = append(names, e.Name())
			}
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no .png, .jpg or .jpeg among its %d entries", len(entries))
	}
	sort.Strings(names)
	return names, nil
}

func (g *images) Info() capture.Info { return g.info }

func (g *images) Grab(ctx context.Context, _ []byte) (capture.Shot, error) {
	if g.next == len(g.names) {
		if !g.loop {
			return capture.Shot{}, io.EOF
		}
		if !g.good {
			return capture.Shot{}, errors.New("none of the pictures can be read")
		}
		g.next, g.good = 0, false
	}
	timer := time.NewTimer(time.Until(g.due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return capture.Shot{}, ctx.Err()
	}
	name := g.names[g.next]
	g.next++
	m, err := g.decode(filepath.Join(g.folder, name))
	if err != nil {
		return capture.Shot{}, fmt.Errorf("%s: %w: %w", name, capture.ErrBroken, err)
	}
	g.closeMat()
	g.mat = &m
	geometry, err := geometryOf(&m)
	if err != nil {
		return capture.Shot{}, fmt.Errorf("%s: %w: %w", name, capture.ErrBroken, err)
	}
	pixels, err := m.DataPtrUint8()
	if err != nil {
		return capture.Shot{}, fmt.Errorf("%s: %w: %w", name, capture.ErrBroken, err)
	}
	g.good = true
	g.due = time.Now().Add(g.period)
	return capture.Shot{Geometry: geometry, Pixels: pixels, At: capture.Now(), Clock: capture.ClockFile}, nil
}

// decode reads a picture as BGR8, turned as its EXIF orientation says. OpenCV
// returns what it has of a JPEG cut short, grey below; that counts as broken.
func (g *images) decode(path string) (gocv.Mat, error) {
	g.file.Reset()
	f, err := os.Open(path)
	if err != nil {
		return gocv.Mat{}, err
	}
	_, err = g.file.ReadFrom(f)
	_ = f.Close()
	if err != nil {
		return gocv.Mat{}, err
	}
	data := g.file.Bytes()
	if len(data) == 0 {
		return gocv.Mat{}, errors.New("the file is empty")
	}
	if err := wholeJPEG(data); err != nil {
		return gocv.Mat{}, err
	}
	m, err := gocv.IMDecode(data, gocv.IMReadColor)
	if err != nil {
		return gocv.Mat{}, err
	}
	if m.Empty() {
		_ = m.Close()
		return gocv.Mat{}, errors.New("not a PNG or JPEG that can be decoded")
	}
	return m, nil
}

// wholeJPEG checks that a JPEG has its end marker after the picture's own data (an
// embedded preview has markers of its own). Other data passes.
func wholeJPEG(data []byte) error {
	if len(data) < 4 || data[0] != 0xff || data[1] != 0xd8 {
		return nil
	}
	cut := errors.New("JPEG is cut short")
	for at := 2; ; {
		if at >= len(data) {
			return cut
		}
		if data[at] != 0xff {
			return errors.New("JPEG without marker where one belongs")
		}
		for at < len(data) && data[at] == 0xff {
			at++
		}
		if at+3 > len(data) {
			return cut
		}
		marker, length := data[at], int(data[at+1])<<8|int(data[at+2])
		at += 1 + length
		if marker == 0xda { // Start of scan: entropy-coded data hides no marker.
			if at > len(data) || !bytes.Contains(data[at:], []byte{0xff, 0xd9}) {
				return cut
			}
			return nil
		}
		if length < 2 {
			return errors.New("JPEG with a segment of negative length")
		}
	}
}

func (g *images) closeMat() {
	if g.mat != nil {
		_ = g.mat.Close()
		g.mat = nil
	}
}

func (g *images) Close() error {
	g.closeMat()
	return nil
}
