package capture_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/capture"
)

// self is this test binary, playing a role.
func self(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// waitGone waits until a process that is no child of ours has ended.
func waitGone(t *testing.T, pid int, limit time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		state, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		// A zombie whose adopter does not reap has ended as well.
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) || strings.Contains(string(state), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there: %s", pid, state)
		}
	}
}

func TestWorkerDiesWithItsDaemon(t *testing.T) {
	// A worker that works, and one that hangs and ignores everything but SIGKILL.
	for _, worker := range []string{"work:", "stubborn"} {
		t.Run(worker, func(t *testing.T) {
			daemon := self(t, "daemon:"+worker)
			out, err := daemon.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := daemon.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil || pid < 2 {
				t.Fatalf("worker's id %q", line)
			}
			if err := syscall.Kill(pid, 0); err != nil {
				t.Fatalf("worker %d does not run: %v", pid, err)
			}
			if err := daemon.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = daemon.Wait() // "signal: killed"
			waitGone(t, pid, 5*time.Second)
		})
	}
}

func TestOrphansAreFoundAndEnded(t *testing.T) {
	// Programs with names of their own, so that a test beside this one is left alone.
	dir := t.TempDir()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	worker := "toklip-cap" + strconv.Itoa(os.Getpid()%100000)
	link := filepath.Join(dir, worker)
	if err := os.Link(path, link); err != nil {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(link, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The shell ends at once, so that its background jobs lose their parent; the
	// jobs ignore SIGTERM.
	orphan := func(node string) int {
		t.Helper()
		cmd := exec.Command("sh", "-c", `"$0" --node "$1" --camera front >/dev/null 2>&1 & echo $!`, link, node)
		cmd.Env = append(os.Environ(), roleVariable+"=sleep")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
		return pid
	}
	node := "node" + strconv.Itoa(os.Getpid())
	ours, others := orphan(node), orphan(node+"-2")
	o := capture.OrphanOptions{Node: node, Worker: worker}
	var found []capture.Orphan
	for deadline := time.Now().Add(5 * time.Second); len(found) == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if found, err = capture.FindOrphans(o); err != nil {
			t.Fatal(err)
		}
	}
	if len(found) != 1 || found[0].PID != ours || found[0].Camera != "front" {
		t.Fatalf("found %+v, want process %d of camera front", found, ours)
	}
	if any, err := capture.FindOrphans(capture.OrphanOptions{Worker: worker}); err != nil || len(any) != 2 {
		t.Errorf("of any node: %+v, %v; want both", any, err)
	}
	if _, err := capture.ReapOrphans(context.Background(), capture.OrphanOptions{Worker: worker}); err == nil {
		t.Error("workers of any node may be ended")
	}
	// The test binary needs a moment to ignore SIGTERM; either way it must end.
	gone, err := capture.ReapOrphans(context.Background(), o)
	if err != nil || len(gone) != 1 || gone[0].PID != ours {
		t.Fatalf("reaped %+v, %v", gone, err)
	}
	waitGone(t, ours, time.Second)
	if err := syscall.Kill(others, 0); err != nil {
		t.Errorf("the worker of another node was ended: %v", err)
	}
	if gone, err := capture.ReapOrphans(context.Background(), o); err != nil || len(gone) != 0 {
		t.Errorf("a second time: %+v, %v", gone, err)
	}
}

func TestChildrenAreNoOrphans(t *testing.T) {
	r := start(t, counter, "work:", func(o *capture.Options) { o.Node = "family" })
	var f capture.Frame
	r.Take(&f)
	f.Release()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	found, err := capture.FindOrphans(capture.OrphanOptions{Node: "family", Worker: filepath.Base(path)})
	if err != nil || len(found) != 0 {
		t.Errorf("a running camera's worker counts as orphan: %+v, %v", found, err)
	}
}

func TestWhoHolds(t *testing.T) {
	device := filepath.Join(t.TempDir(), "video0")
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := capture.Busy(device); got != "" {
		t.Errorf("nobody holds it, but: %s", got)
	}
	cheese := exec.Command("sleep", "60")
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	cheese.ExtraFiles = []*os.File{f}
	if err := cheese.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	defer func() {
		_ = cheese.Process.Kill()
		_ = cheese.Wait()
	}()
	want := "device busy: held by PID " + strconv.Itoa(cheese.Process.Pid) + " (sleep)"
	var got string
	for deadline := time.Now().Add(5 * time.Second); got != want && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		got = capture.Busy(device)
	}
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := capture.WhoHolds("/dev/video99"); err == nil {
		t.Error("no error for a device that is not there")
	}
}
