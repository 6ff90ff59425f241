package texttower

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

const forever = time.Hour

func TestChild(t *testing.T) {
	s := newStage(t, ChildOptions{Options: Options{Cache: cacheOf(t)}, Idle: forever})
	if s.PID() != 0 {
		t.Error("a process without need")
	}
	s.right("a red box", "a blue ball", "a red box")
	pid := s.PID()
	if pid == 0 || s.computed.Load() != 2 {
		t.Errorf("process %d, %d texts computed, want one and 2", pid, s.computed.Load())
	}
	// What is the same to the model is computed once.
	got, err := s.Embed(t.Context(), []string{"A  Red_box!", "a green door"})
	if err != nil || !slices.Equal(got[0], fakeEmbedding("a red box")) || s.computed.Load() != 3 || s.PID() != pid {
		t.Errorf("%v, %v, %d computed, process %d", got, err, s.computed.Load(), s.PID())
	}
	if got, err := s.Embed(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	// The kernel knows whom to end first, and frames come before texts.
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil || string(score) != "1000\n" {
		t.Errorf("oom_score_adj %q, %v", score, err)
	}
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil || string(own) == "1000\n" {
		t.Errorf("oom_score_adj of this process %q, %v", own, err)
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("%v, %v", tasks, err)
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that ended
		}
		_, fields, _ := strings.Cut(string(stat), ") ")
		if nice := strings.Fields(fields)[16]; nice != fmt.Sprint(niceness) && nice != "19" { // 19: the test itself runs so
			t.Errorf("%s: niceness %s", task, nice)
		}
	}
}

// With everything cached no process is started, be it by another child before.
func TestChildCached(t *testing.T) {
	cache := cacheOf(t)
	newStage(t, ChildOptions{Options: Options{Cache: cache}}).right("one", "two")
	s := newStage(t, ChildOptions{Options: Options{Cache: cache}}, "0 exits")
	s.right("two", "one", "two")
	if s.PID() != 0 || s.computed.Load() != 0 {
		t.Errorf("process %d, %d computed", s.PID(), s.computed.Load())
	}
	s.play()
	s.right("two", "three")
	if s.computed.Load() != 1 {
		t.Errorf("%d computed, want 1", s.computed.Load())
	}
	// Another tower's embeddings are other ones.
	other := newStage(t, ChildOptions{Options: Options{Cache: cache}})
	other.name = "another hash fp32"
	other.right("one")
	if other.computed.Load() != 1 {
		t.Error("the embedding of another tower was taken")
	}
}

func TestBadTexts(t *testing.T) {
	s := newStage(t, ChildOptions{})
	for want, text := range map[string]string{
		"the text is empty":                     "",
		"not valid UTF-8":                       "a\xff",
		"has 1001 bytes: at most 1000":          strings.Repeat("x", 1001),
		"nothing but punctuation and spaces":    " !?_ ",
		`"\x80xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`: "\x80" + strings.Repeat("x", 1<<20),
	} {
		_, err := s.Embed(t.Context(), []string{"good", text})
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	if s.PID() != 0 || s.computed.Load() != 0 {
		t.Error("something was run")
	}
}

// Whatever the process does instead of its work is an error that says so, it is gone then, and the next call has a new one.
func TestFaults(t *testing.T) {
	for part, want := range map[string]string{
		"garbage": `text process: it wrote "Segmentation fault": invalid character 'S' looking for beginning of value; its last words: what went before`,
		"empty":   `text process: it wrote "": EOF`,
		"other":   `text process: it answered for "b?", asked was "b"`,
		"narrow":  `text process: text "b": the tower gave 3 numbers, the model's embeddings have 4`,
		"zeros":   `text process: text "b": the tower gave an embedding of zeros: its weights are damaged`,
		"failed":  `embed texts: the tower is full`,
		"exits":   `text process: it ended with exit status 3; its last words: panic: first | second`,
		"silent":  `text process: it ended without an answer`,
		"killed":  `text process: it was killed, as the kernel does where memory runs out (the text tower takes up to 2.7 GB; imported with --text-precision fp16 it needs half)`,
		"endless": `text process: it wrote a line of more than 4194304 bytes`,
	} {
		t.Run(part, func(t *testing.T) {
			s := newStage(t, ChildOptions{Options: Options{Cache: cacheOf(t)}, Idle: forever}, "1 "+part)
			begun := time.Now()
			_, err := s.Embed(t.Context(), []string{"a", "b", "c"})
			if err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("got %v\nwant %s", err, want)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			if s.PID() != 0 {
				t.Error("the process is still there")
			}
			s.right("a", "b", "c")
			if got := s.computed.Load(); got != 3+2 { // "a" was kept
				t.Errorf("%d computed, want 5", got)
			}
		})
	}
}

// A process that is gone when it is needed again is nobody's fault: another one does the work.
func TestStartedAgain(t *testing.T) {
	s := newStage(t, ChildOptions{Idle: forever}, "1 silent", "1 killed", "good")
	s.right("a")
	s.right("b") // the first dies of it, the second answers
	s.right("c") // likewise
	s.right("d", "e")

	// While nobody looks.
	pid := s.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	s.right("f")
	pid = s.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "its end is noticed", func() bool { return s.PID() == 0 })

	// But two in a row are a fault, and so is one that had answered.
	s.play("0 silent")
	if _, err := s.Embed(t.Context(), []string{"g"}); err == nil {
		t.Error("a process that never answers is good")
	}
	s.right("h")
	s.play("0 silent")
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Embed(t.Context(), []string{"i"}); err == nil {
		t.Error("it was started a third time")
	}
}

func TestCannotStart(t *testing.T) {
	s := newStage(t, ChildOptions{Program: "/nothing/here", Name: "tower"})
	if _, err := s.Embed(t.Context(), []string{"a"}); err == nil || !strings.Contains(err.Error(), "start tower text --model models/fake --json") {
		t.Errorf("%v", err)
	}
}

// Cancelling ends the process at once; what was done until then is kept.
func TestCancel(t *testing.T) {
	cache := cacheOf(t)
	s := newStage(t, ChildOptions{Options: Options{Cache: cache}, Idle: forever}, "1 hangs")
	cancel, ended := s.begun("a", "b")
	until(t, "the first text is done", func() bool { _, ok := cache.Get(s.name, "a"); return ok })
	pid := s.PID()
	cause := errors.New("enough")
	begun := time.Now()
	cancel(cause)
	if err := <-ended; !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	gone(t, pid)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	s.right("a", "b")
	if got := s.computed.Load(); got != 2+1 {
		t.Errorf("%d computed, want 3", got)
	}
	// One that was cancelled before does nothing at all.
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := s.Embed(ctx, []string{"c"}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	s.right("d")
}

// One call runs, some wait, one more is refused; who waits and is cancelled is gone without the process.
func TestQueue(t *testing.T) {
	s := newStage(t, ChildOptions{Idle: forever, Queue: 2}, "0 hangs")
	_, first := s.begun("a")
	until(t, "the first one runs", s.playing)
	cancelSecond, second := s.begun("b")
	until(t, "the second one waits", func() bool { return len(s.requests) == 1 })
	_, third := s.begun("c")
	until(t, "the third one waits", func() bool { return len(s.requests) == 2 })
	if _, err := s.Embed(t.Context(), []string{"d"}); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "2 calls wait for it already") {
		t.Errorf("%v", err)
	}
	cancelSecond(nil)
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	pid := s.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err == nil || !strings.Contains(err.Error(), "it was killed") {
		t.Errorf("%v", err)
	}
	if err := <-third; err != nil {
		t.Errorf("%v", err)
	}
}

// Calls that ask for the same at the same time have it computed once.
func TestTogether(t *testing.T) {
	s := newStage(t, ChildOptions{Options: Options{Cache: cacheOf(t)}, Idle: forever})
	var calls errgroup.Group
	for range 8 {
		calls.Go(func() error {
			got, err := s.Embed(t.Context(), []string{"a", "b"})
			if err == nil && !slices.Equal(got[1], fakeEmbedding("b")) {
				err = fmt.Errorf("got %v", got)
			}
			return err
		})
	}
	if err := calls.Wait(); err != nil {
		t.Error(err)
	}
	if got := s.computed.Load(); got != 2 {
		t.Errorf("%d computed, want 2", got)
	}
}

func TestIdle(t *testing.T) {
	for _, idle := range []time.Duration{0, time.Second} { // a second is more than a start takes
		s := newStage(t, ChildOptions{Idle: idle})
		begun := time.Now()
		s.right("a")
		pid := s.PID()
		until(t, "it ends", func() bool { return s.PID() == 0 })
		if pid != 0 {
			gone(t, pid)
		}
		if took := time.Since(begun); took < idle {
			t.Errorf("idle %v: it ended %v after the call began", idle, took)
		}
		s.right("b")
	}
}

func TestHangs(t *testing.T) {
	s := newStage(t, ChildOptions{Idle: forever, Stall: time.Second}, "1 hangs")
	_, err := s.Embed(t.Context(), []string{"a", "b"})
	if err == nil || !strings.Contains(err.Error(), "the text process hangs: for 1s it neither answered nor computed") || s.PID() != 0 {
		t.Errorf("%v, process %d", err, s.PID())
	}
	// One that computes has more time, but not for ever.
	s = newStage(t, ChildOptions{Idle: forever, Stall: 200 * time.Millisecond}, "1 spins")
	begun := time.Now()
	_, err = s.Embed(t.Context(), []string{"a", "b"})
	if err == nil || !strings.Contains(err.Error(), "the text process hangs: ") || s.PID() != 0 {
		t.Errorf("%v, process %d", err, s.PID())
	}
	if took := time.Since(begun); took < s.stall {
		t.Errorf("it took %v", took)
	}
}

func TestClose(t *testing.T) {
	s := newStage(t, ChildOptions{Idle: forever, Queue: 3}, "0 hangs")
	_, running := s.begun("a")
	until(t, "one runs", s.playing)
	_, waiting := s.begun("b")
	until(t, "one waits", func() bool { return len(s.requests) == 1 })
	pid := s.PID()
	begun := time.Now()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(begun); took >= endAfter { // it is not asked to end first
		t.Errorf("it took %v", took)
	}
	gone(t, pid)
	for _, ended := range []<-chan error{running, waiting} {
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("%v", err)
		}
	}
	if _, err := s.Embed(t.Context(), []string{"c"}); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	// A process that does not care for the end of its input has little time.
	s = newStage(t, ChildOptions{Idle: forever}, "1 deaf")
	s.right("a")
	begun = time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 5*endAfter {
		t.Errorf("it took %v", took)
	}
}

// More texts than pipes hold, in both directions.
func TestMany(t *testing.T) {
	s := newStage(t, ChildOptions{Idle: forever})
	texts := make([]string, 2000)
	for i := range texts {
		texts[i] = fmt.Sprintf("number %d %s", i, strings.Repeat("x", 200))
	}
	s.right(texts...)
}

// A cache that cannot be written costs time, and a line in the log, once.
func TestCacheFails(t *testing.T) {
	cache := cacheOf(t)
	var log bytes.Buffer
	s := newStage(t, ChildOptions{Options: Options{Cache: cache, Logger: slog.New(slog.NewTextHandler(&log, nil))}, Idle: forever})
	if err := os.RemoveAll(cache.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cache.Dir(), nil, 0o644); err != nil { // a file in place of the folder
		t.Fatal(err)
	}
	s.right("a", "b")
	s.right("a")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "text embeddings are not kept"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
}

func TestCheck(t *testing.T) {
	m := fakeManifest()
	if err := Check("dir", m); err != nil {
		t.Error(err)
	}
	m.Text.Tokenizer = nil
	if _, err := NewChild(ChildOptions{Options: Options{Dir: "dir", Manifest: m}}); !errors.Is(err, ErrNoTokenizer) ||
		!strings.Contains(err.Error(), `toklip model import CKPT --out dir --tokenizer tokenizer.model`) {
		t.Errorf("%v", err)
	}
	m.Graphs = nil
	if _, err := NewDirect(Options{Dir: "dir", Manifest: m}); !errors.Is(err, ErrNoTower) || !strings.Contains(err.Error(), "--text-precision") {
		t.Errorf("%v", err)
	}
	m = fakeManifest()
	m.Text.Context = 0
	if err := Check("dir", m); !errors.Is(err, ErrNoTower) || !strings.Contains(err.Error(), "model.toml does not describe the text tower") {
		t.Errorf("%v", err)
	}
}
