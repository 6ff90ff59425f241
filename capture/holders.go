package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mitchellh/go-ps"
	"golang.org/x/sys/unix"
)

// A Holder is a process that has a device open.
type Holder struct {
	PID  int
	Name string
}

// String is "PID 123 (cheese)".
func (h Holder) String() string { return fmt.Sprintf("PID %d (%s)", h.PID, h.Name) }

// WhoHolds lists the processes, this one left out, that have the device (or file)
// open under any of its names. Processes of other users are seen by root alone.
func WhoHolds(device string) ([]Holder, error) {
	var want unix.Stat_t
	if err := unix.Stat(device, &want); err != nil {
		return nil, fmt.Errorf("who holds %q: %w", device, err)
	}
	list, err := ps.Processes()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var holders []Holder
	for _, p := range list {
		if p.Pid() == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", strconv.Itoa(p.Pid()), "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue // Another user's, or just ended.
		}
		for _, fd := range fds {
			var st unix.Stat_t
			if unix.Stat(filepath.Join(dir, fd.Name()), &st) == nil && same(&st, &want) {
				holders = append(holders, Holder{PID: p.Pid(), Name: p.Executable()})
				break
			}
		}
	}
	return holders, nil
}

func same(a, b *unix.Stat_t) bool {
	if a.Mode&unix.S_IFMT == unix.S_IFCHR && b.Mode&unix.S_IFMT == unix.S_IFCHR {
		return a.Rdev == b.Rdev
	}
	return a.Dev == b.Dev && a.Ino == b.Ino
}

// Busy says who holds a device, for an error message; "" if nobody is seen.
func Busy(device string) string {
	holders, err := WhoHolds(device)
	if err != nil || len(holders) == 0 {
		return ""
	}
	const enough = 3
	var names []string
	for _, h := range holders[:min(len(holders), enough)] {
		names = append(names, h.String())
	}
	if more := len(holders) - enough; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return "device busy: held by " + strings.Join(names, ", ")
}
