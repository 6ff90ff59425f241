package capture

import "encoding/binary"

// segmentWriter is the worker's side of a segment. One goroutine uses it, save
// for beat.
type segmentWriter struct {
	layout
	mem    []byte
	latest int // slot last published, -1: none
	open   int // slot being written, -1: none
}

// newSegmentWriter lays a segment out over zeroed memory of l.total() bytes.
// captured and drops carry on from the worker's previous segment.
func newSegmentWriter(mem []byte, l layout, captured uint64, drops Drops) *segmentWriter {
	l.write(mem)
	atomic64(mem, offCaptured).Store(captured)
	storeDrops(mem, offDrops, drops)
	w := &segmentWriter{layout: l, mem: mem, latest: -1, open: -1}
	w.beat()
	return w
}

// begin takes a slot and returns its pixels, or nil if all are held by readers.
// A slot begun before and not finished is used again. The first free one is taken, not
// the next in turn: of slots that are never needed no page is ever touched.
func (w *segmentWriter) begin() []byte {
	if w.open >= 0 {
		return w.pixels(w.mem, w.open)
	}
	for i := range w.slots {
		if i == w.latest {
			continue
		}
		d := descriptor(i)
		if atomic32(w.mem, d+slotState).CompareAndSwap(0, beingWritten) {
			// From here on the old picture is spoilt, even if this one is given up: a
			// reader that still has the old value of latest must not take it.
			atomic64(w.mem, d+slotSequence).Store(0)
			w.open = i
			return w.pixels(w.mem, i)
		}
	}
	return nil
}

// publish makes the picture in the slot of begin the latest frame.
func (w *segmentWriter) publish(sequence uint64, at Stamp, clock Clock, drops Drops) {
	i := w.open
	d := descriptor(i)
	put := binary.NativeEndian
	put.PutUint32(w.mem[d+slotClock:], uint32(clock))
	put.PutUint64(w.mem[d+slotWall:], uint64(at.Wall))
	put.PutUint64(w.mem[d+slotMono:], uint64(at.Mono))
	storeDrops(w.mem, d+slotDrops, drops)
	atomic64(w.mem, d+slotSequence).Store(sequence)
	atomic32(w.mem, d+slotState).Store(0)
	w.open, w.latest = -1, i
	atomic64(w.mem, offLatest).Store(sequence<<8 | uint64(i))
	w.account(sequence, drops)
}

// account notes that the frame with this number was published or dropped.
func (w *segmentWriter) account(sequence uint64, drops Drops) {
	storeDrops(w.mem, offDrops, drops)
	atomic64(w.mem, offCaptured).Store(sequence)
	w.beat()
}

// beat says that the worker lives. Safe from any goroutine.
func (w *segmentWriter) beat() {
	atomic64(w.mem, offHeartbeat).Store(uint64(MonotonicNow()))
}
