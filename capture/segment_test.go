package capture

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

// heapSegment lays a segment out in Go's heap, where the race detector sees it.
func heapSegment(t testing.TB, g Geometry, slots int) (*segmentWriter, *mapping) {
	t.Helper()
	l := layout{Geometry: g, slots: slots, generation: 1}
	words := make([]uint64, l.total()/8)
	mem := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), l.total())
	w := newSegmentWriter(mem, l, 0, Drops{})
	m, err := newMapping(mem, func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	return w, m
}

// fillWith writes the number all over a picture; number reads it back and fails
// the test if two places disagree.
func fillWith(pixels []byte, n uint64) {
	for i := 0; i+8 <= len(pixels); i += 8 {
		binary.NativeEndian.PutUint64(pixels[i:], n)
	}
}

func number(t testing.TB, pixels []byte) uint64 {
	n := binary.NativeEndian.Uint64(pixels)
	for i := 8; i+8 <= len(pixels); i += 8 {
		if got := binary.NativeEndian.Uint64(pixels[i:]); got != n {
			t.Errorf("torn frame: %d at 0, %d at %d", n, got, i)
			return n
		}
	}
	return n
}

func TestNewestFrameWins(t *testing.T) {
	w, m := heapSegment(t, Packed(8, 4, Gray8), 3)
	var f Frame
	if m.acquire(&f, 0) {
		t.Fatal("a frame before the first was published")
	}
	for n := uint64(1); n <= 5; n++ {
		fillWith(w.begin(), n)
		w.publish(n, Stamp{Wall: int64(n), Mono: -int64(n)}, ClockDriver, Drops{Rate: n})
	}
	if !m.acquire(&f, 0) {
		t.Fatal("no frame")
	}
	if got := number(t, f.Pixels); got != 5 || f.Sequence != 5 || f.CaptureWall != 5 || f.CaptureMono != -5 ||
		f.Clock != ClockDriver || f.Drops.Rate != 5 || f.Width != 8 || f.Height != 4 || f.Stride != 8 || f.Format != Gray8 {
		t.Errorf("picture %d in %+v, want the fifth", got, &f)
	}
	var second Frame
	if m.acquire(&second, f.Sequence) {
		t.Error("the same frame was handed out as a newer one")
	}
	f.Release()
	f.Release()
	if s := atomic32(m.mem, descriptor(f.slot)+slotState).Load(); s != 0 {
		t.Errorf("after two releases the slot's state is %#x, want 0", s)
	}
}

func TestHeldFramesAreNotOverwritten(t *testing.T) {
	w, m := heapSegment(t, Packed(16, 16, BGR8), 4)
	held := make([]Frame, 3)
	n := uint64(0)
	for i := range held {
		n++
		fillWith(w.begin(), n)
		w.publish(n, Now(), ClockRead, Drops{})
		if !m.acquire(&held[i], n-1) {
			t.Fatal("no frame")
		}
		if i == 1 { // Two held, one latest: one is left to write in, always.
			for range 10 {
				n++
				fillWith(w.begin(), n)
				w.publish(n, Now(), ClockRead, Drops{})
			}
		}
	}
	// Three held, of which one is the latest; the fourth takes one more frame.
	n++
	fillWith(w.begin(), n)
	w.publish(n, Now(), ClockRead, Drops{})
	if w.begin() != nil {
		t.Error("a slot was found while three are held and the fourth is the latest")
	}
	for i := range held {
		if got := number(t, held[i].Pixels); got != held[i].Sequence {
			t.Errorf("held frame %d turned into %d", held[i].Sequence, got)
		}
	}
	held[0].Release()
	if w.begin() == nil {
		t.Error("no slot after one was released")
	}
}

// A reader that keeps one frame at a time leaves all slots but three without memory.
func TestSlotsNotNeededAreNotTouched(t *testing.T) {
	w, m := heapSegment(t, Packed(16, 16, Gray8), 8)
	var f Frame
	for n := uint64(1); n <= 100; n++ {
		fillWith(w.begin(), n)
		w.publish(n, Stamp{}, ClockRead, Drops{})
		last := f.Sequence
		f.Release()
		if !m.acquire(&f, last) || number(t, f.Pixels) != n {
			t.Fatalf("frame %d did not arrive", n)
		}
	}
	for i := 3; i < m.slots; i++ {
		if got := number(t, m.pixels(m.mem, i)); got != 0 {
			t.Errorf("slot %d holds frame %d", i, got)
		}
	}
}

func TestAbandonedSlotIsNotRead(t *testing.T) {
	w, m := heapSegment(t, Packed(8, 8, Gray8), 3)
	for n := uint64(1); n <= 3; n++ {
		fillWith(w.begin(), n)
		w.publish(n, Now(), ClockRead, Drops{})
	}
	stale := atomic64(m.mem, offLatest).Load()
	fillWith(w.begin(), 4)
	w.publish(4, Now(), ClockRead, Drops{})
	// Begin in the slot that held frame 3, spoil it and give it up.
	copy(w.begin(), "half a picture")
	if w.open != int(stale&0xff) {
		t.Fatalf("slot %d begun, the test wants %d", w.open, stale&0xff)
	}
	atomic32(m.mem, descriptor(w.open)+slotState).Store(0)
	// A slow reader still believes in frame 3.
	atomic64(m.mem, offLatest).Store(stale)
	var f Frame
	if m.acquire(&f, 2) {
		t.Errorf("a spoilt slot was handed out as frame %d", f.Sequence)
	}
}

// TestHammer lets writer and reader go as fast as they can. Run with -race it
// proves the protocol's ordering, since the memory is Go's own.
func TestHammer(t *testing.T) {
	const want = 5000
	w, m := heapSegment(t, Packed(64, 12, BGR8), 5)
	var done sync.WaitGroup
	var enough atomic.Bool
	done.Add(1)
	go func() {
		defer done.Done()
		var drops Drops
		for n := uint64(1); !enough.Load(); n++ {
			dst := w.begin()
			if dst == nil {
				drops.NoSlot++
				w.account(n, drops)
				runtime.Gosched()
				continue
			}
			if n%17 == 0 { // Rate limit: begun, written, given up, used again.
				copy(dst, "not a picture")
				drops.Rate++
				w.account(n, drops)
				continue
			}
			fillWith(dst, n)
			w.publish(n, Stamp{Wall: int64(n)}, ClockRead, drops)
		}
	}()
	var books counts
	held := make([]Frame, 4) // One more than is free: now and then no slot is left.
	last := uint64(0)
	for taken := uint64(0); taken < want; {
		f := &held[rand.IntN(len(held))]
		f.Release()
		if !m.acquire(f, books.last) {
			runtime.Gosched()
			continue
		}
		taken++
		if f.Sequence <= last {
			t.Fatalf("frame %d after %d", f.Sequence, last)
		}
		last = f.Sequence
		if n := number(t, f.Pixels); n != f.Sequence || f.CaptureWall != int64(n) {
			t.Fatalf("frame %d shows %d and was stamped %d", f.Sequence, n, f.CaptureWall)
		}
		books.observe(m)
		books.deliver(f)
		if f.Sequence != taken+f.Drops.Total() {
			t.Fatalf("frame %d is the %dth delivered after %+v", f.Sequence, taken, f.Drops)
		}
	}
	enough.Store(true)
	done.Wait()
	for i := range held {
		held[i].Release()
	}
	t.Logf("%d of %d taken, %+v", want, last, books.drops())
}

func TestHandOverAllocatesNothing(t *testing.T) {
	w, m := heapSegment(t, Packed(640, 480, BGR8), 4)
	var f Frame
	picture := make([]byte, w.Bytes())
	n := uint64(0)
	if allocs := testing.AllocsPerRun(100, func() {
		n++
		copy(w.begin(), picture)
		w.publish(n, Now(), ClockRead, Drops{})
		if !m.acquire(&f, n-1) {
			t.Error("no frame")
		}
		f.Release()
	}); allocs != 0 {
		t.Errorf("%v allocations a frame", allocs)
	}
}

func goodHeader() []byte {
	l := layout{Geometry: Packed(8, 8, BGR8), slots: 3, generation: 1}
	mem := make([]byte, l.total())
	l.write(mem)
	return mem
}

func TestCorruptHeaderIsRefused(t *testing.T) {
	if _, err := readLayout(goodHeader()); err != nil {
		t.Fatalf("a good header: %v", err)
	}
	put := binary.NativeEndian
	for name, c := range map[string]struct {
		spoil func([]byte) []byte
		want  string
	}{
		"short":      {func(b []byte) []byte { return b[:100] }, "shorter than its header"},
		"magic":      {func(b []byte) []byte { b[0] = 'x'; return b }, `begins with "xOKLIPSM"`},
		"version":    {func(b []byte) []byte { put.PutUint32(b[8:], 9); return b }, "layout version 9"},
		"header":     {func(b []byte) []byte { put.PutUint32(b[12:], 0); return b }, "header of 0 bytes"},
		"no slots":   {func(b []byte) []byte { put.PutUint32(b[16:], 0); return b }, "0 slots"},
		"many slots": {func(b []byte) []byte { put.PutUint32(b[16:], 1<<31); return b }, "2147483648 slots"},
		"one more":   {func(b []byte) []byte { put.PutUint32(b[16:], 4); return b }, "bytes announced"},
		"width":      {func(b []byte) []byte { put.PutUint32(b[20:], 1<<30); return b }, "out of range"},
		"height":     {func(b []byte) []byte { put.PutUint32(b[24:], 0); return b }, "out of range"},
		"stride":     {func(b []byte) []byte { put.PutUint32(b[28:], 1); return b }, "stride 1 does not fit"},
		"format":     {func(b []byte) []byte { put.PutUint32(b[32:], 77); return b }, "pixel format 77"},
		"offset":     {func(b []byte) []byte { put.PutUint64(b[40:], 1<<63); return b }, "do not follow"},
		"step":       {func(b []byte) []byte { put.PutUint64(b[48:], 8); return b }, "do not follow"},
		"total":      {func(b []byte) []byte { put.PutUint64(b[56:], 1<<40); return b }, "bytes announced"},
		"cut off":    {func(b []byte) []byte { return b[:len(b)-1] }, "there"},
	} {
		_, err := readLayout(c.spoil(goodHeader()))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

func FuzzSegment(f *testing.F) {
	f.Add(goodHeader()[:2048])
	w, _ := heapSegment(f, Packed(8, 8, BGR8), 3)
	w.begin()
	w.publish(1, Now(), ClockRead, Drops{})
	f.Add(append([]byte(nil), w.mem[:2048]...))
	f.Fuzz(func(t *testing.T, header []byte) {
		// A worker may write anything, at any time: nothing may panic or hang.
		words := make([]uint64, 64<<10/8)
		mem := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)
		copy(mem, header)
		m, err := newMapping(mem, func([]byte) {})
		if err != nil {
			return
		}
		var frame Frame
		var books counts
		for range 3 {
			books.observe(m)
			if m.acquire(&frame, books.last) {
				if len(frame.Pixels) != m.Bytes() {
					t.Fatalf("%d bytes for %+v", len(frame.Pixels), m.Geometry)
				}
				books.deliver(&frame)
				frame.Release()
			}
			books.endWorker()
		}
	})
}

func BenchmarkHandOver(b *testing.B) {
	for _, c := range []struct {
		name string
		g    Geometry
	}{{"1080p", Packed(1920, 1080, BGR8)}, {"640x480", Packed(640, 480, BGR8)}} {
		for _, copied := range []bool{true, false} {
			name := c.name + "/in-place"
			if copied {
				name = c.name + "/copied"
			}
			b.Run(name, func(b *testing.B) {
				l := layout{Geometry: c.g, slots: 4, generation: 1}
				fd, mem, err := newMemfd(l.total())
				if err != nil {
					b.Fatal(err)
				}
				w := newSegmentWriter(mem, l, 0, Drops{})
				m, err := openMapping(fd)
				if err != nil {
					b.Fatal(err)
				}
				picture := make([]byte, c.g.Bytes())
				fillWith(picture, 1) // Pages never written to are all one page.
				var f Frame
				var n uint64
				b.ReportAllocs()
				b.SetBytes(int64(c.g.Bytes()))
				for b.Loop() {
					n++
					dst := w.begin()
					if copied {
						copy(dst, picture)
					}
					w.publish(n, Now(), ClockRead, Drops{})
					if !m.acquire(&f, n-1) || f.Sequence != n {
						b.Fatal("frame lost")
					}
					f.Release()
				}
				m.unref()
				munmap(mem)
			})
		}
	}
}
