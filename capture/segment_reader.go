package capture

import (
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// mapping is the daemon's side of a segment. It lives until the camera and every
// frame in use have let go of it, so that a picture stays readable after its
// worker died.
type mapping struct {
	layout
	mem   []byte
	unmap func([]byte)

	mu   sync.Mutex
	refs int
}

// newMapping takes over mem, calling unmap when the last user has let go; on
// error mem stays the caller's.
func newMapping(mem []byte, unmap func([]byte)) (*mapping, error) {
	l, err := readLayout(mem)
	if err != nil {
		return nil, err
	}
	return &mapping{layout: l, mem: mem, unmap: unmap, refs: 1}, nil
}

// openMapping maps the memfd a worker sent. The descriptor can be closed afterwards.
func openMapping(fd int) (*mapping, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("shared memory of the capture worker: not a memfd: %w", err)
	}
	if seals&unix.F_SEAL_SHRINK == 0 {
		return nil, fmt.Errorf("shared memory of the capture worker: not sealed against shrinking (seals %#x)", seals)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("shared memory of the capture worker: %w", err)
	}
	largest := layout{Geometry: Packed(maxSide, maxSide, BGRx8), slots: maxSlots}
	if st.Size < headerBytes || st.Size > int64(largest.total()) {
		return nil, fmt.Errorf("shared memory of the capture worker: %d bytes cannot be right", st.Size)
	}
	// Writable: readers count themselves in the slots' states.
	mem, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of shared memory: %w", st.Size, err)
	}
	m, err := newMapping(mem, munmap)
	if err != nil {
		munmap(mem)
		return nil, err
	}
	return m, nil
}

func munmap(mem []byte) {
	// It fails only for memory that is no mapping.
	_ = unix.Munmap(mem)
}

// acquire fills f with the latest frame, if its number is above last. f then
// holds the worker's own numbers (see counts.deliver).
func (m *mapping) acquire(f *Frame, last uint64) bool {
	// The worker can outrun us only as often as it publishes; the bound keeps a
	// corrupt segment from catching us for ever.
	for range 1000 {
		latest := atomic64(m.mem, offLatest).Load()
		i := int(latest & 0xff)
		if latest>>8 <= last || i >= m.slots {
			return false
		}
		d := descriptor(i)
		state := atomic32(m.mem, d+slotState)
		readers := state.Load()
		if readers >= beingWritten-1 || !state.CompareAndSwap(readers, readers+1) {
			continue
		}
		sequence := atomic64(m.mem, d+slotSequence).Load()
		if sequence <= last {
			state.Add(^uint32(0))
			continue
		}
		get := binary.NativeEndian
		f.Width, f.Height, f.Stride, f.Format = m.Width, m.Height, m.Stride, m.Format
		f.Sequence = sequence
		f.Clock = Clock(get.Uint32(m.mem[d+slotClock:]))
		f.CaptureWall = int64(get.Uint64(m.mem[d+slotWall:]))
		f.CaptureMono = int64(get.Uint64(m.mem[d+slotMono:]))
		f.Drops = loadDrops(m.mem, d+slotDrops)
		f.Pixels = m.pixels(m.mem, i)
		f.hold, f.slot = m, i
		f.released.Store(false)
		m.ref()
		return true
	}
	return false
}

// release ends a reader's use of slot i.
func (m *mapping) release(i int) {
	atomic32(m.mem, descriptor(i)+slotState).Add(^uint32(0))
	m.unref()
}

// totals reads the worker's counters, captured first (see counts.observe).
func (m *mapping) totals() (captured uint64, drops Drops) {
	captured = atomic64(m.mem, offCaptured).Load()
	return captured, loadDrops(m.mem, offDrops)
}

// heartbeat is the worker's last sign of life, CLOCK_MONOTONIC in ns.
func (m *mapping) heartbeat() int64 {
	return int64(atomic64(m.mem, offHeartbeat).Load())
}

// latest is the number of the newest frame, 0 if there is none.
func (m *mapping) latest() uint64 {
	return atomic64(m.mem, offLatest).Load() >> 8
}

func (m *mapping) ref() {
	m.mu.Lock()
	m.refs++
	m.mu.Unlock()
}

func (m *mapping) unref() {
	m.mu.Lock()
	m.refs--
	last := m.refs == 0
	m.mu.Unlock()
	if last {
		m.unmap(m.mem)
		m.mem = nil
	}
}
