package capture

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// newMemfd makes shared memory of a fixed size and maps it. The size can no
// longer be changed by anyone.
func newMemfd(size int) (fd int, mem []byte, err error) {
	fd, err = unix.MemfdCreate(WorkerName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, nil, fmt.Errorf("make shared memory: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
			fd = -1
		}
	}()
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return fd, nil, fmt.Errorf("make %d bytes of shared memory: %w", size, err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return fd, nil, fmt.Errorf("seal shared memory: %w", err)
	}
	mem, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fd, nil, fmt.Errorf("map %d bytes of shared memory: %w", size, err)
	}
	return fd, mem, nil
}
