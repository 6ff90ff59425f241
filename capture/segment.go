package capture

// The shared memory of one worker and one geometry: a segment. The worker makes
// it as a memfd of fixed size, sealed against shrinking (a shrunken file under a
// mapping would end the daemon with SIGBUS), and sends it over the control
// socket. When the geometry changes it makes another; a segment never changes
// its own. All integers are in the machine's byte order: both ends run on it.
//
//	page 0, the header: 4096 bytes
//	  written once, before the segment is sent
//	     0  [8]byte  magic "TOKLIPSM"
//	     8  u32      layout version, now 1
//	    12  u32      header bytes, 4096
//	    16  u32      N, number of slots, 3 to 16
//	    20  u32      width in pixels
//	    24  u32      height in pixels
//	    28  u32      stride: bytes from row to row
//	    32  u32      pixel format (PixelFormat)
//	    36  u32      generation: 1 for a worker's first segment, 2 for the next
//	    40  u64      offset of slot 0's pixels, a multiple of 4096
//	    48  u64      bytes from slot to slot, a multiple of 4096
//	    56  u64      bytes of the whole segment
//	  written by the worker all along, each an atomic
//	    64  u64      latest: sequence<<8 | slot of the newest complete frame, 0: none yet
//	    72  u64      captured: number of the last frame that was published or dropped
//	    80  u64      heartbeat, CLOCK_MONOTONIC in ns
//	   128  u64 x 3  frames the worker dropped: no slot, rate, broken
//	  1024 + 128*i   descriptor of slot i
//	     +0  u32     state, atomic: 0 free, 0x80000000 being written, else the number of readers
//	     +4  u32     clock (Clock)
//	     +8  u64     sequence, atomic: 0 while the pixels are not a whole frame
//	    +16  i64     capture time, wall clock, ns
//	    +24  i64     capture time, CLOCK_MONOTONIC, ns
//	    +32  u64 x 3 the drop counters as of this frame
//	pages 1.., the pixels of slot 0, 1, ..., each from a page boundary on
//
// Protocol. The worker takes a slot that is not the latest by moving its state
// from 0 to "being written", clears its sequence, fills pixels and descriptor,
// stores the sequence, sets the state to 0 and then publishes latest. The reader
// loads latest, adds itself to that slot's readers unless it is being written,
// and then looks at the sequence: if it is zero or old, the worker was faster,
// and the reader lets go and loads latest again. So a slot is never written while
// read, and no side ever waits for the other. Captured is stored after latest.
//
// After each published frame the worker writes a byte to a pipe, unless that is
// full; the daemon's read takes all that came since, so that notifications coalesce.
//
// Slots are whole pages so that a GPU driver can map and pin them one by one.

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"
)

const (
	segmentMagic   = "TOKLIPSM"
	segmentVersion = 1

	headerBytes     = 4096
	pageBytes       = 4096
	descriptorStart = 1024
	descriptorBytes = 128

	minSlots = 3
	maxSlots = 16

	offLatest    = 64
	offCaptured  = 72
	offHeartbeat = 80
	offDrops     = 128

	slotState    = 0
	slotClock    = 4
	slotSequence = 8
	slotWall     = 16
	slotMono     = 24
	slotDrops    = 32

	beingWritten = 1 << 31
)

// Geometry is the form of a source's pictures.
type Geometry struct {
	// Width and Height are in pixels, Stride in bytes; Stride may exceed
	// Width * BytesPerPixel.
	Width, Height, Stride int
	Format                PixelFormat
}

// Bytes is the size of a picture, Height*Stride.
func (g Geometry) Bytes() int { return g.Height * g.Stride }

// Packed is the geometry of rows without gaps.
func Packed(width, height int, format PixelFormat) Geometry {
	return Geometry{Width: width, Height: height, Stride: width * format.BytesPerPixel(), Format: format}
}

func (g Geometry) check() error {
	bpp := g.Format.BytesPerPixel()
	switch {
	case bpp == 0:
		return fmt.Errorf("pixel format %d is unknown", uint32(g.Format))
	case g.Width < 1 || g.Height < 1 || g.Width > maxSide || g.Height > maxSide:
		return fmt.Errorf("size %dx%d is out of range 1 to %d", g.Width, g.Height, maxSide)
	case g.Stride < g.Width*bpp || g.Stride > 4*maxSide+pageBytes:
		return fmt.Errorf("stride %d does not fit %d pixels of %s", g.Stride, g.Width, g.Format)
	}
	return nil
}

// layout is what can be computed from geometry and number of slots.
type layout struct {
	Geometry
	slots      int
	generation uint32
}

func (l layout) slotBytes() int { return (l.Bytes() + pageBytes - 1) / pageBytes * pageBytes }
func (l layout) total() int     { return headerBytes + l.slots*l.slotBytes() }

// pixels is where the picture of slot i lies.
func (l layout) pixels(mem []byte, i int) []byte {
	at := headerBytes + i*l.slotBytes()
	return mem[at : at+l.Bytes() : at+l.Bytes()]
}

func (l layout) write(mem []byte) {
	copy(mem, segmentMagic)
	put := binary.NativeEndian
	put.PutUint32(mem[8:], segmentVersion)
	put.PutUint32(mem[12:], headerBytes)
	put.PutUint32(mem[16:], uint32(l.slots))
	put.PutUint32(mem[20:], uint32(l.Width))
	put.PutUint32(mem[24:], uint32(l.Height))
	put.PutUint32(mem[28:], uint32(l.Stride))
	put.PutUint32(mem[32:], uint32(l.Format))
	put.PutUint32(mem[36:], l.generation)
	put.PutUint64(mem[40:], headerBytes)
	put.PutUint64(mem[48:], uint64(l.slotBytes()))
	put.PutUint64(mem[56:], uint64(l.total()))
}

// readLayout checks the fixed part of a header against the size of the memory it
// stands in. What it returns is a copy: the worker cannot change it afterwards.
func readLayout(mem []byte) (layout, error) {
	fail := func(format string, args ...any) (layout, error) {
		return layout{}, fmt.Errorf("shared memory of the capture worker: "+format, args...)
	}
	if len(mem) < headerBytes {
		return fail("%d bytes, shorter than its header", len(mem))
	}
	if magic := string(mem[:8]); magic != segmentMagic {
		return fail("begins with %q, not %q", magic, segmentMagic)
	}
	get := binary.NativeEndian
	if v := get.Uint32(mem[8:]); v != segmentVersion {
		return fail("layout version %d, this program reads %d: install toklip and %s of one build", v, segmentVersion, WorkerName)
	}
	if n := get.Uint32(mem[12:]); n != headerBytes {
		return fail("header of %d bytes, not %d", n, headerBytes)
	}
	n := get.Uint32(mem[16:])
	if n < minSlots || n > maxSlots {
		return fail("%d slots, not %d to %d", n, minSlots, maxSlots)
	}
	l := layout{slots: int(n), generation: get.Uint32(mem[36:]), Geometry: Geometry{
		Width: int(get.Uint32(mem[20:])), Height: int(get.Uint32(mem[24:])),
		Stride: int(get.Uint32(mem[28:])), Format: PixelFormat(get.Uint32(mem[32:])),
	}}
	if err := l.check(); err != nil {
		return fail("%w", err)
	}
	if start, step := get.Uint64(mem[40:]), get.Uint64(mem[48:]); start != headerBytes || step != uint64(l.slotBytes()) {
		return fail("slots of %d bytes from %d on do not follow from %dx%d, stride %d", step, start, l.Width, l.Height, l.Stride)
	}
	if total := get.Uint64(mem[56:]); total != uint64(l.total()) || len(mem) < l.total() {
		return fail("%d bytes announced, %d needed, %d there", total, l.total(), len(mem))
	}
	return l, nil
}

// Atomics in shared memory. Offsets are multiples of their size and mappings
// begin on pages, so they are aligned.

func atomic32(mem []byte, off int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&mem[off : off+4][0]))
}

func atomic64(mem []byte, off int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&mem[off : off+8][0]))
}

func descriptor(i int) int { return descriptorStart + i*descriptorBytes }

// loadDrops reads three drop counters.
func loadDrops(mem []byte, off int) Drops {
	return Drops{
		NoSlot: atomic64(mem, off).Load(),
		Rate:   atomic64(mem, off+8).Load(),
		Broken: atomic64(mem, off+16).Load(),
	}
}

func storeDrops(mem []byte, off int, d Drops) {
	atomic64(mem, off).Store(d.NoSlot)
	atomic64(mem, off+8).Store(d.Rate)
	atomic64(mem, off+16).Store(d.Broken)
}
