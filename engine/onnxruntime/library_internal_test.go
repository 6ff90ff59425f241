package onnxruntime

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindLibraryNamed(t *testing.T) {
	dir := t.TempDir()
	configured, variable := write(t, dir+"/a/ort.so"), write(t, dir+"/b/libonnxruntime.so.1.30.0")
	t.Setenv(LibraryVariable, variable)
	for _, test := range []struct{ explicit, variable, want, err string }{
		{configured, variable, configured, ""},
		{"", variable, variable, ""},
		{"", dir + "/b", variable, ""}, // a folder
		{dir + "/gone.so", variable, "", "gone.so"},
		{"", dir + "/gone.so", "", LibraryVariable},
		{dir + "/a", "", "", "holds no libonnxruntime.so"},
	} {
		t.Setenv(LibraryVariable, test.variable)
		got, err := FindLibrary(test.explicit)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("FindLibrary(%q) with %q: %q, %v; want %q, error with %q", test.explicit, test.variable, got, err, test.want, test.err)
		}
	}
}

func TestSearchFolders(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/src/go.mod")
	if err := os.MkdirAll(dir+"/src/deep/er", 0o755); err != nil {
		t.Fatal(err)
	}
	got := searchFolders(dir+"/install/bin/toklip", dir+"/src/deep/er", "/opt/a:/opt/b")
	want := []string{dir + "/install/bin", dir + "/install/bin/lib", dir + "/install/lib", dir + "/src/.cache/lib", "/opt/a", "/opt/b"}
	if !slices.Equal(got[:len(want)], want) {
		t.Errorf("folders are %q, want %q first", got, want)
	}
	if got := searchFolders("", "", ""); !slices.Equal(got, systemFolders[:]) {
		t.Errorf("with nothing known: %q, want the system's folders", got)
	}
}

func TestInFolderTakesTheHighestVersion(t *testing.T) {
	dir := t.TempDir() + "/with [brackets]*"
	if got := inFolder(dir); got != "" {
		t.Errorf("in a folder that is not there: %q", got)
	}
	for _, v := range []string{"1.9.0", "1.30.0", "1.4.0", "1"} {
		write(t, dir+"/libonnxruntime.so."+v)
	}
	if got := inFolder(dir); got != dir+"/libonnxruntime.so.1.30.0" {
		t.Errorf("found %q, want version 1.30.0", got)
	}
	plain := write(t, dir+"/libonnxruntime.so")
	if got := inFolder(dir); got != plain {
		t.Errorf("found %q, want the plain name", got)
	}
}

func TestCountCores(t *testing.T) {
	dir := t.TempDir()
	for cpu, siblings := range map[string]string{"0": "0,2\n", "1": "1,3\n", "2": "0,2\n", "3": "1,3\n"} {
		path := write(t, dir+"/cpu"+cpu+"/topology/thread_siblings_list")
		if err := os.WriteFile(path, []byte(siblings), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		cpus []int
		want int
	}{{[]int{0, 1, 2, 3}, 2}, {[]int{0, 2}, 1}, {[]int{1}, 1}, {[]int{0, 7}, 2}, {nil, 0}} {
		var set unix.CPUSet
		for _, cpu := range test.cpus {
			set.Set(cpu)
		}
		if got := countCores(&set, dir); got != test.want {
			t.Errorf("CPUs %v: %d cores, want %d", test.cpus, got, test.want)
		}
	}
	if n := PhysicalCores(); n < 1 {
		t.Errorf("this machine has %d cores", n)
	}
}

func TestCPUQuota(t *testing.T) {
	for name, test := range map[string]struct {
		self  string
		files map[string]string // below the mount
		want  float64
	}{
		"version 2, in a container":   {"0::/\n", map[string]string{"cpu.max": "150000 100000\n"}, 1.5},
		"version 2, a group above":    {"0::/a/b\n", map[string]string{"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2},
		"version 2, the least counts": {"0::/a/b\n", map[string]string{"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "300000 100000\n"}, 3},
		"version 2, no limit":         {"0::/a\n", map[string]string{"a/cpu.max": "max 100000\n"}, 0},
		"version 1":                   {"7:memory:/m\n4:cpu,cpuacct:/d/x\n", map[string]string{"cpu/d/x/cpu.cfs_quota_us": "50000\n", "cpu/d/x/cpu.cfs_period_us": "100000\n"}, 0.5},
		"version 1, the host's path":  {"4:cpuacct,cpu:/d/x\n", map[string]string{"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.5},
		"version 1, no limit":         {"4:cpu:/\n", map[string]string{"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0},
		"another controller":          {"4:cpuset:/\n", map[string]string{"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0},
		"nonsense":                    {"x\n0::/\n", map[string]string{"cpu.max": "1 0 0"}, 0},
		"nothing":                     {"", nil, 0},
	} {
		mount := t.TempDir()
		for file, text := range test.files {
			if err := os.WriteFile(write(t, mount+"/"+file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		self := t.TempDir() + "/cgroup"
		if err := os.WriteFile(self, []byte(test.self), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := cpuQuota(self, mount); got != test.want {
			t.Errorf("%s: %v processors, want %v", name, got, test.want)
		}
	}
	if got := cpuQuota("/nowhere", t.TempDir()); got != 0 {
		t.Errorf("without a list of groups: %v", got)
	}
}
