package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// parent, in the environment, makes this test binary a process with a child that writes its number to the file named.
const parent = "TOKLIP_TEST_PARENT"

func TestMain(m *testing.M) {
	if file := os.Getenv(parent); file != "" {
		process, err := shell(`echo $$ > "$0.new"; mv "$0.new" "$0"; while :; do sleep 0.1; done`, file).Start(context.Background())
		if err != nil {
			panic(err)
		}
		_ = process.Wait()
		return
	}
	goleak.VerifyTestMain(m)
}

func shell(script string, args ...string) Program {
	return Program{Path: "/bin/sh", Args: append([]string{"child", "-c", script}, args...)}
}

func start(t *testing.T, p Program) *Process {
	t.Helper()
	process, err := p.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return process
}

// gone waits until no process has the number.
func gone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(stat), ") Z ") {
			return // dead; whoever adopted it has not looked yet
		}
		if time.Now().After(end) {
			t.Fatalf("process %d runs on", pid)
		}
	}
}

// A process that is nice already starts no child that is less so, and does not fail over it.
func TestNicer(t *testing.T) {
	const nicer = "TOKLIP_TEST_NICER"
	if os.Getenv(nicer) == "" {
		again := exec.Command("nice", "-n", "19", os.Args[0], "-test.run=^TestNicer$", "-test.v")
		again.Env = append(os.Environ(), nicer+"=1")
		if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS: TestNicer") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	p := shell("cut -d' ' -f19 /proc/$$/stat")
	p.Nice = 1
	process := start(t, p)
	if out, err := io.ReadAll(process.Out); err != nil || string(out) != "19\n" {
		t.Errorf("%q, %v", out, err)
	}
	if err := process.Wait(); err != nil {
		t.Error(err)
	}
}

func TestTalk(t *testing.T) {
	p := shell(`while read -r line; do echo "<$line>"; done; echo 'one' >&2; echo 'two' >&2; exit 3`)
	p.Stdin = true
	process := start(t, p)
	if _, err := io.WriteString(process.In, "a\nb\n"); err != nil {
		t.Fatal(err)
	}
	if err := process.In.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(process.Out)
	if err != nil || string(out) != "<a>\n<b>\n" {
		t.Errorf("%q, %v", out, err)
	}
	var exit *exec.ExitError
	if err := process.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 3 || process.LastWords() != "one | two" {
		t.Errorf("%v, %q", err, process.LastWords())
	}
	process.Kill() // does nothing any more
}

func TestLastWordsAreBounded(t *testing.T) {
	process := start(t, shell(`i=0; while [ $i -lt 2000 ]; do echo "line $i" >&2; i=$((i+1)); done`))
	if err := process.Wait(); err != nil {
		t.Fatal(err)
	}
	words := process.LastWords()
	if len(words) > 2*lastWords || !strings.HasSuffix(words, "line 1998 | line 1999") {
		t.Errorf("%d bytes: %q", len(words), words)
	}
}

// What the kernel says of the process is what was asked for, in every thread.
func TestPriority(t *testing.T) {
	if now, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0); err != nil || now < 20-17 {
		t.Skipf("the test itself runs at %d, %v", 20-now, err)
	}
	p := shell("read -r go; cat /proc/$$/oom_score_adj; cut -d' ' -f19 /proc/$$/stat")
	p.Nice, p.OOMScoreAdj, p.Stdin = 17, 1000, true
	process := start(t, p)
	// The score is told when the process runs already; Start returns after it.
	if _, err := io.WriteString(process.In, "go\n"); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(process.Out)
	if err != nil || string(out) != "1000\n17\n" || process.Unadjusted != nil {
		t.Errorf("%q, %v, %v", out, err, process.Unadjusted)
	}
	if err := process.Wait(); err != nil {
		t.Error(err)
	}
	// This process is as it was, but for the thread that is about to end; the first one of a process cannot, and sleeps on.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		nicer := nicerThreads(t, 17)
		if len(nicer) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("threads %v became nice too", nicer)
		}
	}
}

func nicerThreads(t *testing.T, nice int) (threads []int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		if now, err := syscall.Getpriority(syscall.PRIO_PROCESS, id); err == nil && 20-now == nice && id != os.Getpid() {
			threads = append(threads, id)
		}
	}
	return threads
}

// A process that computes is told from one that waits.
func TestCPU(t *testing.T) {
	busy, idle := start(t, shell("while :; do :; done")), start(t, shell("exec sleep 60"))
	defer func() {
		for _, p := range []*Process{busy, idle} {
			p.Kill()
			_ = p.Wait()
			if p.CPU() != 0 {
				t.Error("a dead process computes")
			}
		}
	}()
	for end := time.Now().Add(20 * time.Second); busy.CPU() < 200*time.Millisecond; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the busy process has computed for %v", busy.CPU())
		}
	}
	if got := idle.CPU(); got > 100*time.Millisecond {
		t.Errorf("the idle process has computed for %v", got)
	}
}

func TestStartFails(t *testing.T) {
	process, err := Program{Path: "/nothing/here", Args: []string{"tower", "text"}}.Start(t.Context())
	if process != nil || err == nil || !strings.Contains(err.Error(), "start tower text: ") {
		t.Errorf("%v, %v", process, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if process, err := shell("sleep 60").Start(ctx); process != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", process, err)
	}
}

// A process ends with the context or when it is killed, what it started too, and nobody waits for output that is held open.
func TestEnds(t *testing.T) {
	for name, script := range map[string]string{
		"at once":    `echo $$; exec sleep 60`,
		"deaf":       `trap '' TERM; echo $$; while :; do sleep 0.1; done`,
		"with child": `sleep 60 & echo $!; wait`,
	} {
		for how, end := range map[string]func(*Process, context.CancelFunc){
			"cancel": func(_ *Process, cancel context.CancelFunc) { cancel() },
			"kill":   func(p *Process, _ context.CancelFunc) { p.Kill() },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				process, err := shell(script).Start(ctx)
				if err != nil {
					t.Fatal(err)
				}
				var pid int
				if _, err := fmt.Fscan(process.Out, &pid); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				end(process, cancel)
				_, _ = io.Copy(io.Discard, process.Out)
				if err := process.Wait(); err == nil {
					t.Error("it ended well")
				}
				if took := time.Since(begun); took > 3*time.Second {
					t.Errorf("it took %v", took)
				}
				gone(t, pid)
			})
		}
	}
}

// Output that nobody read keeps nobody.
func TestUnread(t *testing.T) {
	process := start(t, shell("exec yes"))
	time.Sleep(50 * time.Millisecond)
	process.Kill()
	ended := make(chan error, 1)
	go func() { ended <- process.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended well")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it is waited for")
	}
}

// However a process ends, its child goes too.
func TestParentsDeath(t *testing.T) {
	file := filepath.Join(t.TempDir(), "child")
	program := exec.Command("/proc/self/exe")
	program.Env = append(os.Environ(), parent+"="+file)
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	for end := time.Now().Add(20 * time.Second); pid == 0; time.Sleep(5 * time.Millisecond) {
		if text, err := os.ReadFile(file); err == nil {
			if pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
				t.Fatal(err)
			}
		}
		if time.Now().After(end) {
			t.Fatal("the child does not start")
		}
	}
	if err := program.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = program.Wait()
	gone(t, pid)
}
