package onnxruntime

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// PhysicalCores is the number of cores this process may use, hardware threads of one
// core counted once, limits by affinity and control group obeyed (a share of a core
// rounded up); at least 1. More threads than that make matrix products slower.
func PhysicalCores() int {
	limit := runtime.GOMAXPROCS(0)
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err == nil {
		limit = min(limit, countCores(&set, "/sys/devices/system/cpu"))
	}
	// GOMAXPROCS knows of control groups only in programs that ask for Go 1.25 or newer.
	if quota := cpuQuota("/proc/self/cgroup", "/sys/fs/cgroup"); quota > 0 {
		limit = min(limit, int(math.Ceil(quota)))
	}
	return max(1, limit)
}

// countCores counts cores with a hardware thread in set; a thread whose core is not
// known counts as one.
func countCores(set *unix.CPUSet, sys string) int {
	cores := make(map[string]struct{})
	n := 0
	for cpu := range len(set) * 64 {
		if !set.IsSet(cpu) {
			continue
		}
		siblings, err := os.ReadFile(sys + "/cpu" + strconv.Itoa(cpu) + "/topology/thread_siblings_list")
		if err != nil {
			n++
			continue
		}
		cores[strings.TrimSpace(string(siblings))] = struct{}{}
	}
	return n + len(cores)
}

// cpuQuota is how many processors the process's control groups grant at once, the least of
// them and those above them; 0 for no limit. self lists the groups (cgroups(7)), mount is
// where their hierarchies lie. In a container a group's path may be that of the host, and
// only the hierarchy's root be there: that one then tells.
func cpuQuota(self, mount string) float64 {
	text, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	least := math.Inf(1)
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // number:controllers:path
		if len(parts) != 3 {
			continue
		}
		root := mount // of version 2, which names no controllers
		if parts[1] != "" {
			if !slices.Contains(strings.Split(parts[1], ","), "cpu") {
				continue
			}
			root = filepath.Join(mount, "cpu")
		}
		for group := filepath.Join("/", parts[2]); ; group = filepath.Dir(group) {
			if q := groupQuota(filepath.Join(root, group)); q > 0 {
				least = min(least, q)
			}
			if group == "/" {
				break
			}
		}
	}
	if math.IsInf(least, 1) {
		return 0
	}
	return least
}

// groupQuota is the limit that one control group sets, 0 for none.
func groupQuota(dir string) float64 {
	read := func(name string) []string {
		text, _ := os.ReadFile(filepath.Join(dir, name)) // one version's files are there at most
		return strings.Fields(string(text))
	}
	limit := read("cpu.max") // version 2: "max 100000" or "150000 100000"
	if len(limit) == 0 {     // version 1: -1 for no limit
		limit = append(read("cpu.cfs_quota_us"), read("cpu.cfs_period_us")...)
	}
	if len(limit) != 2 {
		return 0
	}
	quota, err := strconv.ParseFloat(limit[0], 64)
	period, err2 := strconv.ParseFloat(limit[1], 64)
	if err != nil || err2 != nil || !(quota > 0 && period > 0) {
		return 0
	}
	return quota / period
}
