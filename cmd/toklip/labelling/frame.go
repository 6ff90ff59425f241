package labelling

import (
	"sync"

	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/engine"
)

// Frame is the labels of one frame, on loan until Release. It holds the frame's result as long, so that one owner stands for
// all that a message is made of.
type Frame struct {
	Labels []*toklipv1.Label // best first
	Due    bool              // they are to be published: always, or because something changed

	result *engine.Result // nil: none
	home   *frames
}

// Release gives labels and result back. Once for every Frame.
func (f *Frame) Release() {
	if f.result != nil {
		f.result.Release()
		f.result = nil
	}
	f.home.put(f)
}

// frames keeps the messages of one set that are not in use. There are never more than publishing holds at once.
type frames struct {
	labels int // of a message

	mu   sync.Mutex
	free []*Frame
}

func (p *frames) get() *Frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		f := p.free[n-1]
		p.free = p.free[:n-1]
		return f
	}
	f := &Frame{Labels: make([]*toklipv1.Label, p.labels), home: p}
	for i := range f.Labels {
		f.Labels[i] = new(toklipv1.Label)
	}
	return f
}

func (p *frames) put(f *Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, f)
}
