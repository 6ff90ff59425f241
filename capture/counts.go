package capture

// counts keeps a camera's books over the lives of its workers. The rule it keeps:
// a frame's sequence = frames delivered up to it + drops up to it.
//
// Workers number their frames from 1; base carries what earlier workers captured.
type counts struct {
	delivered uint64 // by all workers
	base      uint64 // captured by earlier workers
	earlier   Drops  // by earlier workers, Restart included

	// Of the current worker:
	last     uint64 // its number of the last frame delivered
	taken    uint64 // delivered
	skipped  uint64 // superseded before last
	writer   Drops  // what it reported to have dropped itself
	newest   uint64 // captured by it, as last seen
	replaced uint64 // superseded for certain, as last seen; runs ahead of skipped
}

// deliver books the frame and completes its Sequence and Drops, which hold the
// worker's own numbers on entry.
func (n *counts) deliver(f *Frame) {
	w := f.Drops
	n.taken++
	n.delivered++
	n.last = f.Sequence
	// Everything up to this frame that was neither delivered nor dropped by the
	// worker was replaced by a newer frame. Guard against a lying worker.
	n.skipped = max(n.skipped, sub(f.Sequence, n.taken+w.Total()))
	n.newest = max(n.newest, f.Sequence)
	n.raise(w)
	f.Sequence += n.base
	f.Drops = add(n.earlier, w)
	f.Drops.Superseded += n.skipped
}

// observe notes what the worker has captured and dropped so far.
func (n *counts) observe(m *mapping) {
	captured, w := m.totals()
	n.newest = max(n.newest, captured)
	n.raise(w)
	// Of what was captured and neither delivered nor dropped by the worker, only
	// the newest frame may still be taken. (The worker raises captured last, after
	// the frame was published or dropped, and totals reads it first, so that this
	// never counts too much.)
	n.replaced = max(n.replaced, sub(captured, n.taken+w.Total()+1))
}

func (n *counts) raise(w Drops) {
	n.writer.NoSlot = max(n.writer.NoSlot, w.NoSlot)
	n.writer.Rate = max(n.writer.Rate, w.Rate)
	n.writer.Broken = max(n.writer.Broken, w.Broken)
}

// endWorker closes the worker's account: what it captured after the last
// delivered frame and did not drop itself is lost with it.
func (n *counts) endWorker() {
	n.earlier = add(n.earlier, n.writer)
	n.earlier.Superseded += n.skipped
	n.earlier.Restart += sub(n.newest, n.taken+n.skipped+n.writer.Total())
	n.base += n.newest
	n.last, n.taken, n.skipped, n.newest, n.replaced = 0, 0, 0, 0, 0
	n.writer = Drops{}
}

func (n *counts) captured() uint64 { return n.base + n.newest }

// drops are the losses known now.
func (n *counts) drops() Drops {
	d := add(n.earlier, n.writer)
	d.Superseded += max(n.skipped, n.replaced)
	return d
}

func add(a, b Drops) Drops {
	return Drops{
		Superseded: a.Superseded + b.Superseded,
		NoSlot:     a.NoSlot + b.NoSlot,
		Rate:       a.Rate + b.Rate,
		Broken:     a.Broken + b.Broken,
		Restart:    a.Restart + b.Restart,
	}
}

// sub is a-b, 0 if that were negative.
func sub(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}
