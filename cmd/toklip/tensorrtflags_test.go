package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/tensorrt"
)

// The building process is told everything that an engine's key depends on.
func TestBuildArgs(t *testing.T) {
	want := config.Default().Engine.TensorRT
	want.Shim, want.NVInfer, want.Parser, want.CUDA, want.CacheDir = "a b.so", "c", "d", "e", "f"
	want.Device, want.Workspace, want.OptimizationLevel, want.VersionCompatible, want.DLACore = 1, 2e9, 4, true, 1
	source := tensorrt.Source{Dir: "models/m", Precision: "int8", Batch: 3}
	missing := &tensorrt.Missing{Networks: []tensorrt.Network{{Role: "tokenizer"}, {Role: "encoder"}}, Damaged: true}
	args := buildArgs(want, source, missing, niceness)
	root := newRoot()
	cmd, rest, err := root.Find(args)
	if err != nil || cmd.CommandPath() != "toklip engine build" {
		t.Fatalf("%v is %s, %v", args, cmd.CommandPath(), err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Fatal(err)
	}
	for flag, value := range map[string]string{
		"model": "models/m", "precision": "int8", "batch": "3", "role": "[tokenizer,encoder]", "again": "true", "json": "true", "nice": "10",
		"shim": "a b.so", "nvinfer": "c", "parser": "d", "cuda": "e", "cache-dir": "f", "device": "1", "workspace": "2000000000",
		"optimization-level": "4", "version-compatible": "true", "dla-core": "1",
	} {
		if got := cmd.Flags().Lookup(flag).Value.String(); got != value {
			t.Errorf("--%s is %s, want %s", flag, got, value)
		}
	}
	// A key of the table that is no flag of the builder must be one that concerns running alone.
	running := []string{"plans", "build_timeout", "in_flight", "cuda_graph", "kernels", "timeout", "token_floor", "feature_floor", "embedding_floor"}
	for i := range reflect.TypeFor[config.TensorRT]().NumField() {
		key := reflect.TypeFor[config.TensorRT]().Field(i).Tag.Get("toml")
		if cmd.Flags().Lookup(strings.ReplaceAll(key, "_", "-")) == nil && !slices.Contains(running, key) {
			t.Errorf("key %s of the configuration does not reach the building process", key)
		}
	}
}

// Every thread of a builder gives way, those that come later too.
func TestLowerPriority(t *testing.T) {
	if os.Getenv("TOKLIP_TEST_NICE") == "" { // it cannot be taken back: another process does it
		cmd := exec.Command(os.Args[0], "-test.run=^TestLowerPriority$")
		cmd.Env = append(os.Environ(), "TOKLIP_TEST_NICE=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := lowerPriority(7); err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/stat")
	if err != nil || len(tasks) < 2 {
		t.Fatalf("%d threads, %v", len(tasks), err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 17 || fields[16] != "7" {
			t.Errorf("%s: %s", task, text)
		}
	}
	if own, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0); err != nil || own != 20-7 { // as the system call counts
		t.Errorf("priority %d, %v", own, err)
	}
}

func TestDays(t *testing.T) {
	for text, want := range map[string]string{"30d": "30d", "0": "0d", "36h": "36h0m0s", "0.5d": "12h0m0s"} {
		var d days
		if err := d.Set(text); err != nil || d.String() != want {
			t.Errorf("%s is %s, %v; want %s", text, d.String(), err, want)
		}
	}
	for _, text := range []string{"", "d", "-1d", "-1h", "1w", "1e9d", "99999999d"} {
		var d days
		if err := d.Set(text); err == nil {
			t.Errorf("%q is %s", text, d.String())
		}
	}
}
