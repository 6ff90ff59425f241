package engine

import "runtime/debug"

// submit begins the batch and reports whether it has to be waited for. Frames that the
// backend has not read by then are released when the batch is done.
func (p *Pipeline) submit(backend Backend, b *Batch) bool {
	b.begun = p.clock.now()
	err := guard(backend.Submit, b)
	if err != nil {
		p.fail(b, err)
		p.done(b)
		return false
	}
	b.queued = p.clock.now()
	return true
}

// guard calls f and turns a panic into an error: a fault of a backend must not end
// the daemon.
func guard(f func(*Batch) error, b *Batch) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f(b)
}

// collect ends a submitted batch and delivers its results.
func (p *Pipeline) collect(b *Batch) {
	p.mu.Lock()
	backend, about := p.backend, &p.about
	p.mu.Unlock()
	start := p.clock.now()
	b.Stages.Queue = since(b.queued, start)
	if err := guard(backend.Wait, b); err != nil {
		p.fail(b, err)
	} else {
		p.deliver(b, about)
	}
	p.done(b)
}

// deliver completes the results and hands them to the sink.
func (p *Pipeline) deliver(b *Batch, about *Description) {
	now := p.clock.now()
	p.mu.Lock()
	p.m.Batches++
	inference := b.begun + int64(b.Stages.Preprocess)
	good := 0
	for i := range b.Items {
		it := &b.Items[i]
		c, r := it.cam, it.Result
		if it.Err != nil {
			c.stats.drops.Invalid++
			continue
		}
		good++
		r.Stages = b.Stages
		r.Stages.Wait = since(it.at, b.begun)
		r.Stages.Total = since(it.at, now)
		r.Age = since(r.CaptureMono, inference)
		r.Batch = len(b.Items)
		r.Backend, r.Precision = about.Name, about.Precision
		p.judge(c, r, b.number)
		c.stats.results++
		c.stats.lastResult, c.stats.lastAge = now, r.Age
		p.m.Results++
		if r.Reused {
			c.stats.reused++
			p.m.Reused++
		}
		p.m.Age.Add(r.Age)
		p.m.Wait.Add(r.Stages.Wait)
		p.m.Total.Add(r.Stages.Total)
		// Frames after this one may have been dropped already; the result speaks of those before it.
		r.Drops = it.lost
		r.Drops.Invalid, r.Drops.Failed = c.stats.drops.Invalid, c.stats.drops.Failed
	}
	if good > 0 { // else the networks did not run, and nothing is known of them
		p.lastErr, p.failing = nil, 0
		p.m.Prepare.Add(b.Stages.Preprocess)
		p.m.Tokenize.Add(b.Stages.Tokenize)
		p.m.Queue.Add(b.Stages.Queue)
		if b.Stages.Encode > 0 {
			p.m.Encode.Add(b.Stages.Encode)
		}
	}
	p.mu.Unlock()
	for i := range b.Items {
		if it := &b.Items[i]; it.Err == nil {
			p.sink.Deliver(it.Result)
		} else {
			p.log.Debug("frame refused", "camera", it.cam.name, "sequence", it.Result.Sequence, "error", it.Err)
		}
	}
}

// judge makes the result, of that batch, a keyframe where it has to be one. Called with
// p.mu held.
func (p *Pipeline) judge(c *Camera, r *Result, batch uint64) {
	s := shape{r.Width, r.Height, r.Format, r.Resize}
	if c.lastShape == (shape{}) {
		r.Reused = false // what the backend has kept of this stream is nothing that this camera has shown
	}
	due := p.keyframeInterval > 0 && r.CaptureMono-c.keyframe >= p.keyframeInterval
	if s != c.lastShape || due || c.failed != 0 {
		r.Keyframe = true
		r.Changed.Fill(len(r.IDs))
	}
	if r.Keyframe {
		c.keyframe = r.CaptureMono
		c.stats.keyframes++
	}
	if batch > c.failed { // a batch may fail in Submit while the one before is still under way
		c.failed = 0
	}
	c.lastShape = s
}

// fail counts the frames of a batch that the backend failed and tells of the error.
func (p *Pipeline) fail(b *Batch, err error) {
	p.mu.Lock()
	p.lastErr = err
	p.failing++
	p.m.Errors++
	for i := range b.Items {
		c := b.Items[i].cam
		c.stats.drops.Failed++
		c.failed = max(c.failed, b.number)
	}
	failing, name := p.failing, p.about.Name
	p.mu.Unlock()
	// A backend that fails every frame must not fill the log: doubling distances.
	if failing&(failing-1) == 0 {
		p.log.Error("backend failed a batch", "backend", name, "in_a_row", failing, "permanent", IsPermanent(err), "error", err)
	}
	if p.onError != nil {
		p.onError(err)
	}
}

// done makes room for the next batch.
func (p *Pipeline) done(b *Batch) {
	b.Clear()
	p.mu.Lock()
	p.inFlight--
	p.batches = append(p.batches, b)
	p.mu.Unlock()
	p.notify()
}
