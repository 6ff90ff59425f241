package preprocess

import (
	"runtime/debug"
	"syscall"
	"testing"
)

// guarded is n bytes that end right before a page whose reading or writing
// faults, or begin right after one.
func guarded(t *testing.T, n int, atEnd bool) []byte {
	t.Helper()
	page := syscall.Getpagesize()
	inner := roundUp(n, page)
	m, err := syscall.Mmap(-1, 0, inner+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(m); err != nil {
			t.Error(err)
		}
	})
	for _, guard := range [][]byte{m[:page], m[page+inner:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	from := page
	if atEnd {
		from += inner - n
	}
	return m[from : from+n : from+n]
}

// TestReadsNothingOutside puts frames against pages that must not be touched: the
// assembly has no bounds checks of its own, and a frame in shared memory may end
// where the mapping does.
func TestReadsNothingOutside(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	try := func(g Geometry, padding int, k kernel, atEnd bool) {
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("%v padding %d, %v, guard at end %v: %v", g, padding, k, atEnd, p)
			}
		}()
		r, err := newResizer(g, k)
		if err != nil {
			t.Fatal(err)
		}
		stride := g.Format.RowBytes(g.Width) + padding
		src := guarded(t, g.Format.FrameBytes(g.Width, g.Height, stride), atEnd)
		dst := guarded(t, 3*g.Size*g.Size, atEnd)
		if err := r.RGB(dst, src, stride); err != nil {
			t.Error(err)
		}
	}
	for _, k := range kernels() {
		for f := range formatNames {
			for m := range modeNames {
				for _, s := range [][3]int{{2, 2, 5}, {6, 4, 8}, {34, 22, 16}, {36, 90, 16}, {38, 92, 16}, {62, 30, 31}, {256, 144, 64}, {144, 256, 64}} {
					for _, atEnd := range []bool{true, false} {
						g := Geometry{s[0], s[1], Format(f), s[2], Mode(m)}
						try(g, 0, k, atEnd)
						try(g, 3, k, atEnd)
					}
				}
			}
		}
	}
}
