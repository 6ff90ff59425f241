package engine

import (
	"context"
	"errors"
	"fmt"
)

// swapRequest asks the scheduler for another backend.
type swapRequest struct {
	to   Backend
	old  Backend
	err  error
	done chan struct{} // closed when old or err is set
}

// Swap makes b the backend of the following batches and returns the one before, which
// has ended its last batch and is the caller's to close. Cameras keep offering
// meanwhile; the newest frame of each waits as it always does, none is dropped for the
// swap. The first result of b for each camera is a keyframe, and not Reused.
//
// b's model must have the shapes of the running one. If ctx ends first, the old
// backend goes on and b is still the caller's.
func (p *Pipeline) Swap(ctx context.Context, b Backend) (old Backend, err error) {
	if b == nil {
		return nil, errors.New("swap backend: there is none to swap to")
	}
	p.swapping.Lock()
	defer p.swapping.Unlock()
	req := &swapRequest{to: b, done: make(chan struct{})}
	p.mu.Lock()
	p.swap = req
	if !p.running {
		p.applySwap()
	}
	p.mu.Unlock()
	p.notify()
	select {
	case <-req.done:
	case <-ctx.Done():
		p.mu.Lock()
		if p.swap == req {
			p.swap = nil
			req.err = ctx.Err()
		}
		p.mu.Unlock()
		p.notify()
	}
	if req.err != nil {
		return nil, fmt.Errorf("swap backend: %w", req.err)
	}
	return req.old, nil
}

// applySwap does what Swap asked for once no batch is under way. Called with p.mu held.
func (p *Pipeline) applySwap() {
	if p.swap == nil || p.inFlight > 0 {
		return
	}
	req := p.swap
	p.swap = nil
	old := p.backend
	if req.err = p.install(req.to); req.err == nil {
		req.old = old
		p.m.Swaps++
		p.log.Info("backend swapped", "from", old.Describe().Name, "to", p.about.Name, "precision", p.about.Precision)
	}
	close(req.done)
}
