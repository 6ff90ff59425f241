// Package pattern draws the pictures of test://pattern sources in plain Go. They
// need no camera and no OpenCV, and the counter can be read back, so that a test
// knows which frame it holds and that it is whole.
package pattern

import (
	"context"
	"fmt"
	"time"

	"github.com/toklip/toklip/capture"
)

// A Pattern draws numbered BGR8 pictures. Draw may be called from several
// goroutines with different pictures.
type Pattern struct {
	draw func(g capture.Geometry, dst []byte, n uint64)
	g    capture.Geometry
}

// New returns the pattern with the given name, one of capture.Patterns:
//
//	bars      eight colour bars, a white tick walking along the lower edge
//	counter   the picture's number as black and white columns, see ReadCounter
//	gradient  a colour gradient that moves 4 pixels a picture
//	noise     new random pixels each time, the same for the same number
//	still     a gradient that never changes
func New(name string, width, height int) (*Pattern, error) {
	p := &Pattern{g: capture.Packed(width, height, capture.BGR8)}
	switch name {
	case "bars":
		p.draw = drawBars
	case "counter":
		if width < counterBits*2 {
			return nil, fmt.Errorf("counter pattern %d pixels wide: needs %d or more", width, counterBits*2)
		}
		p.draw = drawCounter
	case "gradient":
		p.draw = drawGradient
	case "noise":
		p.draw = drawNoise
	case "still":
		if width > 0 && height > 0 {
			picture := make([]byte, p.g.Bytes())
			drawGradient(p.g, picture, 0)
			p.draw = func(_ capture.Geometry, dst []byte, _ uint64) { copy(dst, picture) }
		}
	default:
		return nil, fmt.Errorf("test pattern %q is unknown: choose from %v", name, capture.Patterns())
	}
	if width < 1 || height < 1 {
		return nil, fmt.Errorf("test pattern of %dx%d pixels", width, height)
	}
	return p, nil
}

// Geometry is the form of the pictures.
func (p *Pattern) Geometry() capture.Geometry { return p.g }

// Draw fills dst, Geometry().Bytes() long, with picture n.
func (p *Pattern) Draw(dst []byte, n uint64) { p.draw(p.g, dst[:p.g.Bytes()], n) }

// repeat copies the first row to all others.
func repeat(g capture.Geometry, dst []byte) {
	for done := g.Stride; done < len(dst); done *= 2 {
		copy(dst[done:], dst[:done])
	}
}

func drawBars(g capture.Geometry, dst []byte, n uint64) {
	// White, yellow, cyan, green, magenta, red, blue, black: bits of 7-bar are G, R, B.
	for x := range g.Width {
		bar := 7 - x*8/g.Width
		level := func(bit int) byte { return byte(bar>>bit&1) * 191 }
		dst[3*x], dst[3*x+1], dst[3*x+2] = level(0), level(2), level(1)
	}
	repeat(g, dst)
	tick := max(1, g.Width/40)
	at := int(n * 4 % uint64(g.Width))
	for y := g.Height - max(1, g.Height/16); y < g.Height; y++ {
		for x := at; x < min(at+tick, g.Width); x++ {
			o := y*g.Stride + 3*x
			dst[o], dst[o+1], dst[o+2] = 255, 255, 255
		}
	}
}

func drawGradient(g capture.Geometry, dst []byte, n uint64) {
	shift := int(n * 4 % uint64(2*g.Width))
	first := dst[:3*g.Width]
	for x := range g.Width {
		level := (x + shift) % (2 * g.Width)
		if level >= g.Width {
			level = 2*g.Width - 1 - level // There and back: no edge.
		}
		red := byte(level * 255 / g.Width)
		first[3*x], first[3*x+1], first[3*x+2] = 255-red, 0, red
	}
	for y := 1; y < g.Height; y++ {
		row := dst[y*g.Stride : y*g.Stride+3*g.Width]
		copy(row, first)
		green := byte(y * 255 / g.Height)
		for x := 1; x < len(row); x += 3 {
			row[x] = green
		}
	}
}

// drawNoise uses splitmix64, which makes equal noise on every machine.
func drawNoise(g capture.Geometry, dst []byte, n uint64) {
	state := n*0xd1342543de82ef95 + 1
	for i := 0; i < len(dst); i += 8 {
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		z ^= z >> 31
		for j := i; j < min(i+8, len(dst)); j++ {
			dst[j] = byte(z)
			z >>= 8
		}
	}
}

// Open opens a test source; it is a capture.Opener.
func Open(_ context.Context, s capture.Source) (capture.Grabber, error) {
	if s.Kind != capture.Test {
		return nil, fmt.Errorf("source %s is no test pattern", s)
	}
	p, err := New(s.Pattern, s.Width, s.Height)
	if err != nil {
		return nil, err
	}
	return &grabber{
		p: p, fps: s.FPS, period: time.Duration(float64(time.Second) / s.FPS),
		own: make([]byte, p.g.Bytes()),
	}, nil
}

// grabber draws at a steady rate.
type grabber struct {
	p      *Pattern
	fps    float64
	period time.Duration
	next   time.Time
	timer  *time.Timer
	n      uint64
	own    []byte
}

func (g *grabber) Info() capture.Info {
	return capture.Info{FPS: g.fps, Clock: capture.ClockGenerated, Backend: "pattern"}
}

func (g *grabber) Grab(ctx context.Context, dst []byte) (capture.Shot, error) {
	if wait := time.Until(g.next); wait > 0 {
		if g.timer == nil {
			g.timer = time.NewTimer(wait)
		} else {
			g.timer.Reset(wait)
		}
		select {
		case <-g.timer.C:
		case <-ctx.Done():
			g.timer.Stop()
			return capture.Shot{}, ctx.Err()
		}
	}
	now := time.Now()
	g.next = g.next.Add(g.period)
	if now.Sub(g.next) > g.period {
		g.next = now.Add(g.period) // Late by more than a picture: do not hurry after.
	}
	shot := capture.Shot{Geometry: g.p.g, At: capture.Now(), Clock: capture.ClockGenerated}
	if len(dst) == 0 {
		dst, shot.Pixels = g.own, g.own
	}
	g.n++
	g.p.Draw(dst, g.n)
	return shot, nil
}

func (g *grabber) Close() error {
	if g.timer != nil {
		g.timer.Stop()
	}
	return nil
}
