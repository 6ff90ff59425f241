package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/mitchellh/go-ps"
)

// nodeLock keeps two daemons from running under one node name on one machine: they would push each other off the
// broker for ever. The kernel drops the lock with the process, however it ends.
type nodeLock struct{ file *os.File }

func lockNode(node string) (*nodeLock, error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("toklip-%d-%s.lock", os.Getuid(), node))
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock node %s: %w; TMPDIR may name a folder that can be written", node, err)
	}
	return lockFile(file, node)
}

// lockFile locks an open file, which it takes over.
func lockFile(file *os.File, node string) (*nodeLock, error) {
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer file.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock node %s: %w", node, err)
		}
		return nil, fmt.Errorf("node %s runs already, as %s; stop it or choose another node name", node, holder(file))
	}
	// Who holds the lock is for an error message of the next one. It is the kernel's lock that counts, and a full disk
	// is no reason not to run.
	if file.Truncate(0) == nil {
		_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	return &nodeLock{file}, nil
}

// holder describes the process whose id stands in the lock file.
func holder(file *os.File) string {
	text := make([]byte, 20)
	n, _ := file.ReadAt(text, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil {
		return "another process"
	}
	if process, err := ps.FindProcess(pid); err == nil && process != nil {
		return fmt.Sprintf("process %d (%s)", pid, process.Executable())
	}
	return fmt.Sprintf("process %d", pid)
}

func (l *nodeLock) release() { l.file.Close() }
