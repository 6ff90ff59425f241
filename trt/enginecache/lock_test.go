package enginecache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// process is the other process of these tests.
func process(role string) int {
	c, err := Open(os.Args[1])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	k := testKey()
	fail := func(err error) int { fmt.Println(err); return 1 }
	switch role {
	case "hold": // the lock, until standard input ends or it is killed
		l, err := c.Lock(context.Background(), k, nil)
		if err != nil {
			return fail(err)
		}
		if err := os.WriteFile(l.PlanPath(), []byte("half"), 0o644); err != nil {
			return fail(err)
		}
		fmt.Println("locked")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		if err := l.Close(); err != nil {
			return fail(err)
		}
	case "build": // unless somebody has; under the lock one at a time writes into the log
		l, err := c.Lock(context.Background(), k, func(h Holder) { fmt.Println("waiting for", h.PID) })
		if err != nil {
			return fail(err)
		}
		defer l.Close()
		if p, err := c.Load(k); err == nil {
			fmt.Println("found", len(p.Bytes))
			if err := p.Close(); err != nil {
				return fail(err)
			}
			return 0
		}
		alone, err := os.OpenFile(filepath.Join(c.Dir(), "alone"), os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return fail(fmt.Errorf("two builders: %w", err))
		}
		alone.Close()
		time.Sleep(150 * time.Millisecond)
		if err := os.WriteFile(l.PlanPath(), testPlan("ftrt", 3000), 0o644); err != nil {
			return fail(err)
		}
		if err := os.Remove(alone.Name()); err != nil {
			return fail(err)
		}
		if _, err := l.Commit(Build{}); err != nil {
			return fail(err)
		}
		fmt.Println("built")
	case "load": // and try to write
		p, err := c.Load(k)
		if err != nil {
			return fail(err)
		}
		fmt.Println("loaded", len(p.Bytes), "bytes")
		if _, err := c.Lock(context.Background(), k, nil); err != nil {
			fmt.Println(err)
		}
	case "full": // a disk that is full after a few bytes
		l, err := c.Lock(context.Background(), k, nil)
		if err != nil {
			return fail(err)
		}
		if err := os.WriteFile(l.PlanPath(), []byte("a plan"), 0o644); err != nil {
			return fail(err)
		}
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 100, Max: 100}); err != nil {
			return fail(err)
		}
		_, err = l.Commit(Build{})
		fmt.Println("commit:", err)
		if err := l.Close(); err != nil {
			return fail(err)
		}
	}
	return 0
}

// other is a command that runs process.
func other(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, dir)
	cmd.Env = append(os.Environ(), "ENGINECACHE_TEST_PROCESS="+role)
	return cmd
}

// runAsNobody runs process as a user who may read the folder and not write it.
func runAsNobody(t *testing.T, role, dir string) (string, error) {
	t.Helper()
	cmd := other(t, role, dir)
	if os.Getuid() == 0 {
		// The folders above are ours alone, and so is the test's program.
		public, err := os.MkdirTemp("", "enginecache")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(public) })
		b, err := os.ReadFile(cmd.Path)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path = filepath.Join(public, "test")
		if err := errors.Join(os.Chmod(public, 0o755), os.WriteFile(cmd.Path, b, 0o755)); err != nil {
			t.Fatal(err)
		}
		for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
	} else if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	} else {
		t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// holding starts a process that has the lock.
func holding(t *testing.T, c *Cache) (cmd *exec.Cmd, release func()) {
	t.Helper()
	cmd = other(t, "hold", c.Dir())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "locked\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd, sync.OnceFunc(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestLockWaits(t *testing.T) {
	c, k := openTest(t), testKey()
	cmd, release := holding(t, c)
	defer release()
	entries, err := c.List()
	if err != nil || len(entries) != 1 || entries[0].Building == nil || entries[0].Building.PID != cmd.Process.Pid || entries[0].Problem != "" {
		t.Errorf("list says %+v, %v", entries, err)
	}
	if r, err := c.GC(GCOptions{}); err != nil || len(r) != 0 {
		t.Errorf("removed %+v, %v", r, err)
	}
	wantNames(t, c, k.ID()+".build", k.ID()+".lock")

	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	var holders []Holder
	_, err = c.Lock(ctx, k, func(h Holder) { holders = append(holders, h); cancel(stopped) })
	if !errors.Is(err, stopped) || !strings.Contains(err.Error(), "process "+strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("gave up with %v", err)
	}
	if len(holders) != 1 || holders[0].PID != cmd.Process.Pid || time.Since(holders[0].Since) > time.Minute || !strings.Contains(holders[0].What, c.Dir()) {
		t.Errorf("told %+v", holders)
	}
	l, err := c.Lock(t.Context(), k, func(Holder) { go release() })
	if err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(l.Dir()); err != nil || len(files) != 0 {
		t.Errorf("the folder to build in has %v, %v", files, err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	wantNames(t, c)
	if _, err := l.Commit(Build{}); err == nil {
		t.Error("committed without the lock")
	}
	release()
}

// A builder that is killed leaves its folder, and no lock.
func TestKilledBuilder(t *testing.T) {
	c, k := openTest(t), testKey()
	for range 2 {
		cmd, _ := holding(t, c)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		entries, err := c.List()
		if err != nil || len(entries) != 1 || entries[0].Building != nil || !strings.Contains(entries[0].Problem, "ended early") {
			t.Errorf("list says %+v, %v", entries, err)
		}
		wantReason(t, c, k, Absent, "none")
	}
	dry, err := c.GC(GCOptions{DryRun: true, Keep: func(Entry) bool { return true }})
	if err != nil || len(dry) != 1 || len(names(t, c)) != 2 {
		t.Errorf("dry: %+v, %v", dry, err)
	}
	removed, err := c.GC(GCOptions{Keep: func(Entry) bool { return true }})
	if err != nil || !slices.Equal(removed, dry) {
		t.Errorf("removed %+v, %v", removed, err)
	}
	wantNames(t, c)
	cmd, _ := holding(t, c)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	put(t, c, k, testPlan("ftrt", 100))
	wantNames(t, c, k.ID()+".json", k.ID()+".plan")
}

// Many processes want the same plan: one builds it, one at a time, the others find it.
func TestOneBuilder(t *testing.T) {
	c := openTest(t)
	const n = 6
	var cmds [n]*exec.Cmd
	var outs [n]strings.Builder
	for i := range cmds {
		cmds[i] = other(t, "build", c.Dir())
		cmds[i].Stdout, cmds[i].Stderr = &outs[i], &outs[i]
		if err := cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	var built, found int
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, outs[i].String())
		}
		if strings.Contains(outs[i].String(), "built\n") {
			built++
		}
		if strings.Contains(outs[i].String(), "found 3000\n") {
			found++
		}
	}
	if built != 1 || found != n-1 {
		t.Errorf("%d built, %d found", built, found)
	}
	wantNames(t, c, testKey().ID()+".json", testKey().ID()+".plan")
}

// In one process locks exclude each other too, while entries are listed and collected.
func TestLockInProcess(t *testing.T) {
	c, k := openTest(t), testKey()
	var inside, builds int
	var mu sync.Mutex
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := c.GC(GCOptions{Keep: func(Entry) bool { return true }}); err != nil {
				t.Error(err)
			}
		}
	}()
	var builders sync.WaitGroup
	for range 4 {
		builders.Add(1)
		go func() {
			defer builders.Done()
			for range 3 {
				l, err := c.Lock(t.Context(), k, nil)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if inside++; inside != 1 {
					t.Errorf("%d have the lock", inside)
				}
				mu.Unlock()
				time.Sleep(2 * time.Millisecond)
				if err := os.WriteFile(l.PlanPath(), testPlan("ftrt", 1000), 0o644); err != nil {
					t.Error(err)
				}
				if _, err := l.Commit(Build{}); err != nil {
					t.Error(err)
				}
				mu.Lock()
				inside--
				builds++
				mu.Unlock()
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	builders.Wait()
	close(done)
	wg.Wait()
	p, err := c.Load(k)
	if err != nil || builds != 12 {
		t.Fatalf("%d builds, %v", builds, err)
	}
	p.Close()
}

func TestCommitErrors(t *testing.T) {
	c, k := openTest(t), testKey()
	l, err := c.Lock(t.Context(), k, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Commit(Build{}); err == nil || !strings.Contains(err.Error(), "left no plan") {
		t.Error(err)
	}
	if err := os.WriteFile(l.PlanPath(), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Commit(Build{}); err == nil || !strings.Contains(err.Error(), "empty plan") {
		t.Error(err)
	}
	if err := os.WriteFile(l.PlanPath(), []byte("plan"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Commit(Build{Report: []byte("{")}); err == nil || !strings.Contains(err.Error(), "no JSON") {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	wantNames(t, c)
}

// A disk that fills up while an engine is kept: the one that was there stays.
func TestDiskFull(t *testing.T) {
	c, k := openTest(t), testKey()
	put(t, c, k, testPlan("ftrt", 60))
	cmd := other(t, "full", c.Dir())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "commit: keep engine "+k.ID()) || !strings.Contains(string(out), "file too large") {
		t.Fatalf("%v\n%s", err, out)
	}
	wantNames(t, c, k.ID()+".json", k.ID()+".plan")
	p, err := c.Load(k)
	if err != nil || len(p.Bytes) != 60 {
		t.Fatal(err)
	}
	p.Close()
}

// What a full disk is called is the system's business, what to do about it ours.
func TestExplain(t *testing.T) {
	dir := t.TempDir()
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		err := explain(dir, fmt.Errorf("write: %w", &os.PathError{Op: "write", Path: "x", Err: e}))
		if !errors.Is(err, e) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "toklip engine gc") {
			t.Error(err)
		}
	}
	if err := explain(dir, syscall.EROFS); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "cannot write to") {
		t.Error(err)
	}
	if err := explain(dir, syscall.EIO); err != syscall.EIO {
		t.Error(err)
	}
}

func TestSetReport(t *testing.T) {
	c, k := openTest(t), testKey()
	if err := c.SetReport(t.Context(), k, []byte(`{}`)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without an entry: %v", err)
	}
	wantNames(t, c)
	put(t, c, k, testPlan("ftrt", 100))
	if err := c.SetReport(t.Context(), k, []byte(`{`)); err == nil {
		t.Error("no JSON was taken")
	}
	if err := c.SetReport(t.Context(), k, []byte(`{"agreement": 0.99}`)); err != nil {
		t.Fatal(err)
	}
	p, err := c.Load(k)
	if err != nil || !strings.Contains(string(p.Meta.Report), `"agreement": 0.99`) || p.Meta.TensorRT != "10.3.0.30" {
		t.Fatalf("%v, %+v", err, p)
	}
	p.Close()
	wantNames(t, c, k.ID()+".json", k.ID()+".plan")
}

// Whoever gives up the lock removes its file, which another one may just have opened.
func TestLockFileRemoved(t *testing.T) {
	c := openTest(t)
	var inside, most atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 3000 {
				f, err := c.tryLock("x")
				if errors.Is(err, syscall.EWOULDBLOCK) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n > most.Load() {
					most.Store(n)
				}
				runtime.Gosched()
				inside.Add(-1)
				if err := errors.Join(os.Remove(c.path("x", ".lock")), f.Close()); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if n := most.Load(); n != 1 {
		t.Errorf("%d had the lock at once", n)
	}
}
