package checkpoint

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// chunkBytes is how much of a tensor is converted before the pages behind it may be given back.
	chunkBytes = 1 << 20
	// residentBytes is how much may be read of a mapping before all its pages are given back. It bounds the
	// resident size of a reader whatever the size of the checkpoint.
	residentBytes = 16 << 20
)

// mapping is a file mapped into memory for reading.
type mapping struct {
	mu   sync.RWMutex // held for reading while data is in use; Close takes it for writing
	data []byte       // nil once closed
	read atomic.Int64 // bytes read since pages were last given back
}

// mapFile maps the whole file. An empty file gives a mapping without data.
func mapFile(path string) (*mapping, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a named pipe without a writer would block for ever
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("is no regular file (%v)", info.Mode().Type())
	}
	size := info.Size()
	if size != int64(int(size)) {
		return nil, fmt.Errorf("%d bytes are too many to map on this machine", size)
	}
	if size == 0 {
		return &mapping{data: []byte{}}, nil
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	return &mapping{data: data}, nil
}

// view calls fn with the mapped bytes, which must not be used after it returns. A page that cannot be read,
// because the file was cut while it was open or the disk failed, is an error instead of a crash.
func (m *mapping) view(fn func(data []byte) error) (err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.data == nil {
		return os.ErrClosed
	}
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			if _, fault := r.(interface{ Addr() uintptr }); !fault {
				panic(r)
			}
			err = fmt.Errorf("the file became unreadable while it was open (was it cut or replaced?): %w", r)
		default:
			panic(r)
		}
	}()
	return fn(m.data)
}

// used says that n bytes were read inside of view, and gives the pages back when enough came together. The
// page cache still holds them; they only stop counting as memory of this process.
func (m *mapping) used(n int) {
	if m.read.Add(int64(n)) < residentBytes {
		return
	}
	m.read.Store(0)
	if len(m.data) > 0 {
		// Only advice: if it fails the pages stay, which is no error.
		_ = unix.Madvise(m.data, unix.MADV_DONTNEED)
	}
}

// close unmaps the file after the last reader left. A second call does nothing.
func (m *mapping) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	data := m.data
	m.data = nil
	if len(data) == 0 {
		return nil
	}
	return unix.Munmap(data)
}
