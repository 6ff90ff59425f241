package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/cmd/toklip/texttower"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/trt/trttest"
)

// tinyWithTexts makes the tiny model with its text tower and the reference's tokenizer.
func tinyWithTexts(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tiny")
	toklip(t, "model", "synth", "--preset", "tiny", "--tokenizer", filepath.Join(reference(t), "golden", "tiny_tokenizer.model"), "--out", dir)
	return dir
}

// goldenJSON reads a JSON file of the reference data.
func goldenJSON[T any](t *testing.T, name string) T {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(reference(t), "golden", name))
	if err != nil {
		t.Fatal(err)
	}
	var value T
	if err := json.Unmarshal(content, &value); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// goldenLabels is tiny_labels.json: texts, and what they are to three images.
type goldenLabels struct {
	Texts         []string    `json:"texts"`
	TextEmbedding [][]float32 `json:"text_embedding"`
	Logits        [][]float64 `json:"logits"` // [image][text]
	Probs         [][]float64 `json:"probs"`
}

// jsonLines decodes what a command prints, strictly.
func jsonLines[T any](t *testing.T, text string) []T {
	t.Helper()
	var list []T
	for line := range strings.Lines(text) {
		var value T
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&value); err != nil {
			t.Fatalf("line %.80q: %v", line, err)
		}
		list = append(list, value)
	}
	return list
}

// TestGoldenText takes the reference's texts through the command line to ids and embeddings.
func TestGoldenText(t *testing.T) {
	dir := tinyWithTexts(t)
	cases := goldenJSON[[]struct {
		Text    string  `json:"text"`
		Context int     `json:"context_length"`
		IDs     []int32 `json:"ids"`
	}](t, "tokenizer.json")
	labels := goldenJSON[goldenLabels](t, "tiny_labels.json")
	var texts []string
	var want []float32
	for i, text := range labels.Texts {
		if text != "" { // refused: it says nothing
			texts = append(texts, text)
			want = append(want, labels.TextEmbedding[i]...)
		}
	}
	if len(texts) != 8 {
		t.Fatalf("%d texts, want 8", len(texts))
	}
	args := append([]string{"text", "--model", dir, "--text-cache", "none"}, texts...)
	got := jsonLines[texttower.Line](t, toklip(t, args...))
	if len(got) != len(texts) {
		t.Fatalf("%d lines for %d texts", len(got), len(texts))
	}
	var embeddings []float32
	compared := 0
	for i, line := range got {
		if line.Text != texts[i] {
			t.Errorf("line %d is of %q, want %q", i, line.Text, texts[i])
		}
		for _, c := range cases {
			if c.Text == line.Text && c.Context == 16 {
				compared++
				if !slices.Equal(line.Tokens, c.IDs) {
					t.Errorf("%q: tokens %v, want %v", line.Text, line.Tokens, c.IDs)
				}
			}
		}
		embeddings = append(embeddings, line.Embedding...)
	}
	if compared != len(texts) {
		t.Errorf("%d texts had their ids compared, want %d", compared, len(texts))
	}
	close32(t, "text embedding", embeddings, want, 96)
}

// TestGoldenLabel scores the reference's texts for its images.
func TestGoldenLabel(t *testing.T) {
	dir := tinyWithTexts(t)
	want := goldenJSON[goldenLabels](t, "tiny_labels.json")
	arrays := golden(t, "tiny.npz")
	images := filepath.Join(t.TempDir(), "images.npy")
	if err := arrays["images"].Save(images); err != nil {
		t.Fatal(err)
	}
	// Names are printable and the same only once, prompts need not be.
	var entries []map[string]any
	at := map[string]int{}
	for i, text := range want.Texts {
		if text == "" {
			continue
		}
		name := fmt.Sprintf("text %d", i)
		at[name] = i
		entries = append(entries, map[string]any{"label": name, "prompts": []string{text}})
	}
	content, err := json.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "labels.json")
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	got := jsonLines[labelled](t, toklip(t, "label", "--model", dir, "--text-cache", "none", "--labels-file", file, "--template", "{}", images))
	if len(got) != 3 {
		t.Fatalf("%d lines, want 3", len(got))
	}
	for image, line := range got {
		if line.File != images || line.Index != image || len(line.Labels) != len(at) || line.Regions != nil || line.Heatmap != nil {
			t.Errorf("line %d: %+v", image, line)
		}
		if !slices.IsSortedFunc(line.Labels, func(a, b labelScore) int { return int(math.Copysign(1, float64(b.Score-a.Score))) }) {
			t.Errorf("image %d: the best does not come first: %+v", image, line.Labels)
		}
		for _, l := range line.Labels {
			text := at[l.Label]
			logit, prob := want.Logits[image][text], want.Probs[image][text]
			if math.Abs(float64(l.Logit)-logit) > 2e-3 || math.Abs(float64(l.Score)-prob) > 5e-4 {
				t.Errorf("image %d, %q: logit %g, score %g, want %g, %g", image, want.Texts[text], l.Logit, l.Score, logit, prob)
			}
		}
	}
}

// TestLabelWhere: a region of everything is the picture, parts of it are not, and a heat map has the scores of all neighbourhoods.
func TestLabelWhere(t *testing.T) {
	dir := tinyWithTexts(t)
	arrays := golden(t, "tiny.npz")
	images := filepath.Join(t.TempDir(), "images.npy")
	if err := arrays["images"].Save(images); err != nil {
		t.Fatal(err)
	}
	got := jsonLines[labelled](t, toklip(t, "label", "--model", dir, "--text-cache", "none", "--labels", "a red ball,robot", images,
		"--region", "all=0,0,1,1", "--region", "corner=0.75,0.75,0.25,0.25", "--heatmap", "robot", "--radius", "0"))
	same := func(a, b []labelScore) bool {
		return slices.EqualFunc(a, b, func(a, b labelScore) bool {
			return a.Label == b.Label && math.Abs(float64(a.Cosine-b.Cosine)) < 1e-5
		})
	}
	for i, line := range got {
		if len(line.Regions) != 2 || line.Regions[0].Region != "all" || line.Regions[1].Region != "corner" {
			t.Fatalf("image %d: regions %+v", i, line.Regions)
		}
		if !same(line.Regions[0].Labels, line.Labels) {
			t.Errorf("image %d: the region of everything has %+v, the picture %+v", i, line.Regions[0].Labels, line.Labels)
		}
		if same(line.Regions[1].Labels, line.Labels) {
			t.Errorf("image %d: the corner is as the picture", i)
		}
		h := line.Heatmap
		if h == nil || h.Label != "robot" || h.Grid != [2]int{4, 4} || len(h.Cosine) != 16 || len(h.Score) != 16 {
			t.Fatalf("image %d: heat map %+v", i, h)
		}
		// The last cell is the corner.
		for _, l := range line.Regions[1].Labels {
			if l.Label == "robot" && math.Abs(float64(l.Cosine-h.Cosine[15])) > 1e-5 {
				t.Errorf("image %d: cosine %g in the corner, %g in the heat map", i, l.Cosine, h.Cosine[15])
			}
		}
	}
	// A neighbourhood of everything is the picture, whatever its middle.
	wide := jsonLines[labelled](t, toklip(t, "label", "--model", dir, "--text-cache", "none", "--labels", "robot", images, "--heatmap", "robot", "--radius", "4"))
	for i, line := range wide {
		for cell, cosine := range line.Heatmap.Cosine {
			if math.Abs(float64(cosine-line.Labels[0].Cosine)) > 1e-5 {
				t.Errorf("image %d, cell %d: cosine %g, of the picture %g", i, cell, cosine, line.Labels[0].Cosine)
			}
		}
	}
}

// textChild is a child whose process is this test binary as toklip.
func textChild(t *testing.T, dir string, idle time.Duration) *texttower.Child {
	t.Helper()
	manifest, err := model.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	child, err := texttower.NewChild(texttower.ChildOptions{
		Options: texttower.Options{Dir: dir, Manifest: manifest, Threads: 1, Logger: trttest.Logger(t, slog.LevelInfo)},
		Idle:    idle, Name: "toklip",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := child.Close(); err != nil {
			t.Error(err)
		}
	})
	return child
}

// TestTextChild has the real program embed texts in a process of its own: the same numbers come back, and whatever ends the process,
// the next call is served.
func TestTextChild(t *testing.T) {
	dir := tinyWithTexts(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	child := textChild(t, dir, time.Hour)
	texts := []string{"a photo of a red ball", "¿dónde está el café? 你好 🤖", "tab\tand\nnewline", `quotes " and \ <&>`}
	want := jsonLines[texttower.Line](t, toklip(t, append([]string{"text", "--model", dir, "--text-cache", "none"}, texts...)...))
	check := func() {
		t.Helper()
		got, err := child.Embed(t.Context(), texts)
		if err != nil {
			t.Fatal(err)
		}
		for i := range texts {
			close32(t, texts[i], got[i], want[i].Embedding, 96)
		}
	}
	check()
	pid := child.PID()
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil || string(score) != "1000\n" {
		t.Errorf("oom_score_adj %q, %v", score, err)
	}
	check()
	if child.PID() != pid {
		t.Error("it was started again without need")
	}

	// Killed while it works, of which there is enough for it to be in the middle.
	many := make([]string, 3000)
	for i := range many {
		many[i] = fmt.Sprint("number ", i)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := child.Embed(t.Context(), many)
		ended <- err
	}()
	busy(t, pid)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "text process: it was killed, as the kernel does where memory runs out") {
		t.Errorf("%v", err)
	}
	check()

	// Cancelled while it works.
	pid = child.PID()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := child.Embed(ctx, many)
		ended <- err
	}()
	busy(t, pid)
	begun := time.Now()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(begun) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
	processGone(t, pid)
	check()

	// A folder that was replaced does not answer for the old one.
	other := filepath.Join(t.TempDir(), "other")
	toklip(t, "model", "synth", "--preset", "tiny", "--salt", "x", "--tokenizer", filepath.Join(reference(t), "golden", "tiny_tokenizer.model"), "--out", other)
	if err := errors.Join(os.RemoveAll(dir), os.Rename(other, dir)); err != nil {
		t.Fatal(err)
	}
	check() // what it has loaded stays
	pid = child.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	processGone(t, pid)
	if _, err := child.Embed(t.Context(), texts); err == nil || !strings.Contains(err.Error(), "the folder was replaced") {
		t.Errorf("%v", err)
	}
}

// TestTextChildWithoutMemory: a process that gets no memory says so, and this one goes on.
func TestTextChildWithoutMemory(t *testing.T) {
	dir := tinyWithTexts(t)
	manifest, err := model.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "toklip")
	test, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The shell gives the program's name, and with it what this binary is.
	script := fmt.Sprintf("#!/bin/bash\nulimit -v 150000\nexec -a toklip '%s' \"$@\"\n", test)
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	child, err := texttower.NewChild(texttower.ChildOptions{Options: texttower.Options{Dir: dir, Manifest: manifest}, Program: program})
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	_, err = child.Embed(t.Context(), []string{"a red box"})
	if err == nil || !strings.Contains(err.Error(), "text process: it ended with ") || !strings.Contains(err.Error(), "its last words: ") {
		t.Errorf("%v", err)
	}
	t.Log(err)
}

// TestTextChildOfDeadParent: the process goes with the one that started it, however that ends. This binary is both.
func TestTextChildOfDeadParent(t *testing.T) {
	const variable = "TOKLIP_TEST_MODEL"
	if dir := os.Getenv(variable); dir != "" {
		child := textChild(t, dir, time.Hour)
		if _, err := child.Embed(t.Context(), []string{"a red box"}); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("pid=%d\n", child.PID())
		time.Sleep(time.Hour)
	}
	dir := tinyWithTexts(t)
	test, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(test, "-test.run=^TestTextChildOfDeadParent$")
	parent.Env = append(os.Environ(), variable+"="+dir, "GORACE=atexit_sleep_ms=0")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for in := bufio.NewScanner(out); pid == 0 && in.Scan(); {
		if number, ok := strings.CutPrefix(in.Text(), "pid="); ok {
			if pid, err = strconv.Atoi(number); err != nil {
				t.Fatal(err)
			}
		}
	}
	if pid == 0 {
		t.Fatal("the process was not started")
	}
	if err := errors.Join(syscall.Kill(pid, 0), parent.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	processGone(t, pid)
}

// busy waits until a process has computed for a moment since.
func busy(t *testing.T, pid int) {
	t.Helper()
	begun := processTicks(t, pid)
	eventually(t, "the process computes", func() bool { return processTicks(t, pid) >= begun+5 })
}

// processTicks is how long a process has computed, in hundredths of a second.
func processTicks(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	ticks, err := strconv.Atoi(strings.Fields(rest)[11]) // utime
	if err != nil {
		t.Fatal(err)
	}
	return ticks
}

// processGone waits until a process has ended. A zombie that nobody in this sandbox waits for has.
func processGone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, "the process ends", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still waiting until %s", what)
		}
	}
}
