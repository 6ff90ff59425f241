package labelling

import (
	"errors"
	"sync"
	"time"
)

// Pool makes embeddings of regions of a frame: features [N*D] are the encoder's, masks [regions*N] say with 1 which tokens a
// region sees. The result [regions*E] is valid until the next call. *onnxruntime.Pool is one.
type Pool interface {
	Pool(features, masks []float32, regions int) ([]float32, error)
	Close() error
}

// poolRetry is how long a pool that could not be opened is left alone.
const poolRetry = 10 * time.Second

// lazyPool opens the pool when it is first wanted. Callers take turns.
type lazyPool struct {
	open func() (Pool, error)

	mu     sync.Mutex
	pool   Pool
	fault  error // why it could not be opened
	tried  time.Time
	closed bool
}

// errPoolClosed is of a pool that is asked after the end.
var errPoolClosed = errors.New("the attention pool is closed")

// run pools regions and hands their embeddings to use, which may not keep them.
func (p *lazyPool) run(features, masks []float32, regions int, use func(embeddings []float32) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.ready(); err != nil {
		return err
	}
	embeddings, err := p.pool.Pool(features, masks, regions)
	if err != nil {
		return err
	}
	return use(embeddings)
}

func (p *lazyPool) ready() error {
	switch {
	case p.closed:
		return errPoolClosed
	case p.pool != nil:
		return nil
	case p.fault != nil && time.Since(p.tried) < poolRetry:
		return p.fault
	}
	p.tried = time.Now()
	pool, err := p.open()
	if err == nil { // else it may be a nil pointer, which as a Pool is not nil
		p.pool = pool
	}
	p.fault = err
	return err
}

// close waits for a run and closes the pool.
func (p *lazyPool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.pool == nil {
		return nil
	}
	err := p.pool.Close()
	p.pool = nil
	return err
}
