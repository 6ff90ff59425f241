package capture

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/mitchellh/go-ps"
	"golang.org/x/sys/unix"
)

// An Orphan is a capture worker whose daemon is gone.
type Orphan struct {
	PID    int
	Parent int    // what adopted it, 1 as a rule
	Camera string // of its command line
}

// OrphanOptions tell our workers from others'.
type OrphanOptions struct {
	// Node is Options.Node of the cameras; "" finds those of any node, and ends none.
	Node string
	// Worker and Daemon are file names of the programs; default WorkerName and
	// "toklip". A worker whose parent runs Daemon is in use and no orphan.
	Worker, Daemon string
}

func (o *OrphanOptions) complete() {
	if o.Worker == "" {
		o.Worker = WorkerName
	}
	if o.Daemon == "" {
		o.Daemon = "toklip"
	}
}

// FindOrphans lists workers of this node that a crash left behind. A worker ends
// by itself when its daemon does; one that hangs in a driver may not.
func FindOrphans(o OrphanOptions) ([]Orphan, error) {
	o.complete()
	list, err := ps.Processes()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	name := map[int]string{}
	for _, p := range list {
		name[p.Pid()] = p.Executable()
	}
	var found []Orphan
	for _, p := range list {
		// The kernel keeps 15 bytes of a name.
		if p.Executable() != comm(o.Worker) || name[p.PPid()] == comm(o.Daemon) || p.PPid() == os.Getpid() {
			continue
		}
		if camera, ours := o.isOurs(p.Pid()); ours {
			found = append(found, Orphan{PID: p.Pid(), Parent: p.PPid(), Camera: camera})
		}
	}
	return found, nil
}

func comm(name string) string { return name[:min(len(name), 15)] }

// isOurs looks at the whole program name and the node in the command line.
func (o *OrphanOptions) isOurs(pid int) (camera string, ok bool) {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return "", false
	}
	args := bytes.Split(bytes.TrimSuffix(line, []byte{0}), []byte{0})
	if filepath.Base(string(args[0])) != o.Worker {
		return "", false
	}
	for i := 1; i+1 < len(args); i++ {
		switch string(args[i]) {
		case "--node":
			ok = o.Node == "" || string(args[i+1]) == o.Node
		case "--camera":
			camera = string(args[i+1])
		}
	}
	return camera, ok
}

// ReapOrphans ends the workers that FindOrphans lists, with SIGTERM and a second
// later with SIGKILL, and returns those that are gone. Call it before the first
// camera of the node runs.
func ReapOrphans(ctx context.Context, o OrphanOptions) ([]Orphan, error) {
	o.complete()
	if o.Node == "" {
		return nil, fmt.Errorf("end orphaned capture workers: no node named")
	}
	found, err := FindOrphans(o)
	if err != nil {
		return nil, err
	}
	var gone []Orphan
	for _, orphan := range found {
		ended, err := o.end(ctx, orphan)
		if err != nil {
			return gone, fmt.Errorf("end capture worker %d of camera %q, left by an earlier run: %w", orphan.PID, orphan.Camera, err)
		}
		if ended {
			gone = append(gone, orphan)
		}
	}
	return gone, nil
}

// end signals through a pidfd, which cannot reach a later process with the same
// id: the identity is checked again after it was opened.
func (o *OrphanOptions) end(ctx context.Context, orphan Orphan) (bool, error) {
	fd, err := unix.PidfdOpen(orphan.PID, 0)
	if err == unix.ESRCH {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if _, ours := o.isOurs(orphan.PID); !ours {
		return false, nil
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err == unix.ESRCH {
			return true, nil
		} else if err != nil {
			return false, err
		}
		for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			// A pidfd is readable once its process has ended.
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(poll, 50); err == nil && n == 1 {
				return true, nil
			}
		}
	}
	return false, fmt.Errorf("it does not end; it may hang in a driver")
}
