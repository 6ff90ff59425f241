package model

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFolder keeps those who change a folder apart: calibrations, and imports that replace it. The kernel drops the lock with the
// process, however it ends.
func lockFolder(dir string) (release func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.New("the folder is being calibrated or replaced by another process")
		}
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	// Whoever had the lock may have put another folder in its place after it was opened here.
	if now, err := os.Stat(dir); err != nil {
		return nil, errors.Join(err, f.Close())
	} else if was, err := f.Stat(); err != nil || !os.SameFile(was, now) {
		return nil, errors.Join(errors.New("the folder was just replaced by another process; try again"), err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
