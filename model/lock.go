package model

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFolder keeps two calibrations of a folder apart. The kernel drops the lock with the process, however it ends.
func lockFolder(dir string) (release func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.New("the folder is being calibrated by another process")
		}
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	return func() { _ = f.Close() }, nil
}
