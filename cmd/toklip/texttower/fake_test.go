package texttower

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/textcache"
	"github.com/toklip/toklip/trt/trttest"
)

// partsFile, in the environment, makes this test binary play `toklip text --json`. The file it names has the parts to play, a line
// for each start: the first is taken off it.
const partsFile = "TOKLIP_TEST_PARTS"

const fakeDim = 4

func TestMain(m *testing.M) {
	if file := os.Getenv(partsFile); file != "" {
		os.Exit(play(file))
	}
	goleak.VerifyTestMain(m)
}

// fakeEmbedding is what a part gives for a text.
func fakeEmbedding(text string) []float32 {
	sum := sha256.Sum256([]byte(text))
	e := make([]float32, fakeDim)
	for i := range e {
		e[i] = float32(sum[i]) + 0.5
	}
	return e
}

// play plays a part: what follows the answers to so many texts, as in "2 garbage".
func play(file string) int {
	content, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	part, rest, _ := strings.Cut(string(content), "\n")
	if err := os.WriteFile(file, []byte(rest), 0o644); err != nil {
		panic(err)
	}
	answers, then := 1<<30, "good"
	if part != "" && part != "good" {
		if _, err := fmt.Sscanf(part, "%d %s", &answers, &then); err != nil {
			panic(part)
		}
	}
	in := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for n := 0; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if then == "deaf" {
				select {}
			}
			return 0
		}
		text, err := ReadText(line)
		if err != nil {
			panic(err)
		}
		good := Line{Text: text, Tokens: []int32{1, 0}, Embedding: fakeEmbedding(text)}
		if n < answers {
			_ = out.Encode(good)
			continue
		}
		switch then {
		case "garbage":
			fmt.Fprintln(os.Stderr, "what went before")
			fmt.Println("Segmentation fault")
			select {}
		case "empty":
			fmt.Println()
		case "other":
			good.Text += "?"
			_ = out.Encode(good)
		case "narrow":
			good.Embedding = good.Embedding[1:]
			_ = out.Encode(good)
		case "zeros":
			good.Embedding = make([]float32, fakeDim)
			_ = out.Encode(good)
		case "failed":
			_ = out.Encode(Failed{"the tower is full"})
			return 1
		case "exits":
			fmt.Fprintln(os.Stderr, "panic: first")
			fmt.Fprintln(os.Stderr, "second")
			return 3
		case "silent":
			return 0
		case "killed":
			fmt.Print(`{"text":"a`) // in the middle of a line
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "endless":
			for {
				fmt.Print(strings.Repeat("x", 1<<16))
			}
		case "spins":
			for { //nolint:staticcheck // SA5002: it is to spin
			}
		case "hangs", "deaf":
			select {}
		}
	}
}

// stage is a child that plays parts, and what is seen of it.
type stage struct {
	*Child
	t        *testing.T
	parts    string
	computed atomic.Int64 // texts the tower ran for
}

func fakeManifest() *model.Manifest {
	return &model.Manifest{
		FormatVersion: model.FormatVersion, Name: "fake", Encoder: model.Encoder{EmbeddingDim: fakeDim},
		Text: model.Text{
			Present: true, Precision: model.FP32, Context: 2, Vocabulary: 10, Hash: "0123", Tokenizer: &model.File{Name: "tokenizer.model"},
		},
		Graphs: []model.Graph{{Role: model.RoleText, Precision: model.FP32, File: model.File{Name: "text.onnx", Size: 2_700_000_000}}},
	}
}

// newStage makes a child whose processes play the parts, one after the other, and good ones then.
func newStage(t *testing.T, opts ChildOptions, parts ...string) *stage {
	t.Helper()
	s := &stage{t: t, parts: filepath.Join(t.TempDir(), "parts")}
	s.play(parts...)
	t.Setenv(partsFile, s.parts)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // by default a second passes at the end of each process
	opts.Dir, opts.Manifest = "models/fake", fakeManifest()
	opts.Computing = func(n int) { s.computed.Add(int64(n)) }
	if opts.Logger == nil {
		opts.Logger = trttest.Logger(t, slog.LevelInfo)
	}
	child, err := NewChild(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Child = child
	t.Cleanup(func() {
		pid := child.PID()
		if err := child.Close(); err != nil {
			t.Error(err)
		}
		if pid != 0 {
			gone(t, pid)
		}
	})
	return s
}

func (s *stage) play(parts ...string) {
	s.t.Helper()
	if err := os.WriteFile(s.parts, []byte(strings.Join(parts, "\n")), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// playing reports whether a process has taken the last part.
func (s *stage) playing() bool {
	left, err := os.ReadFile(s.parts)
	return err == nil && len(left) == 0 && s.PID() != 0
}

// right embeds texts, which must work.
func (s *stage) right(texts ...string) {
	s.t.Helper()
	got, err := s.Embed(s.t.Context(), texts)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(got) != len(texts) {
		s.t.Fatalf("%d embeddings of %d texts", len(got), len(texts))
	}
	for i, text := range texts {
		if !slices.Equal(got[i], fakeEmbedding(text)) {
			s.t.Errorf("%q: %v, want %v", text, got[i], fakeEmbedding(text))
		}
	}
}

// begun begins to embed texts, and returns what ends the call and how it ended.
func (s *stage) begun(texts ...string) (cancel context.CancelCauseFunc, ended <-chan error) {
	s.t.Helper()
	ctx, cancel := context.WithCancelCause(s.t.Context())
	s.t.Cleanup(func() { cancel(nil) })
	result := make(chan error, 1)
	go func() {
		_, err := s.Embed(ctx, texts)
		result <- err
	}()
	return cancel, result
}

func cacheOf(t *testing.T) *textcache.Cache {
	t.Helper()
	cache, err := OpenCache(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

// until waits for something to become true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

// gone waits until there is no process of that number.
func gone(t *testing.T, pid int) {
	t.Helper()
	until(t, fmt.Sprintf("process %d is gone", pid), func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}
