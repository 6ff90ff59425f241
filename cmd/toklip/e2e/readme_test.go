package e2e

import (
	"image/jpeg"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toklip/toklip/capture/capturetest"
	"github.com/toklip/toklip/cmd/toklip/e2e/e2etest"
	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/trttest"
)

// readmeCommands are the commands in README's shell blocks, without their comments.
func readmeCommands(t *testing.T, root string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for i, block := range strings.Split(string(text), "```") {
		body, ok := strings.CutPrefix(block, "sh\n")
		if i%2 == 0 || !ok {
			continue
		}
		for line := range strings.Lines(body) {
			line, _, _ = strings.Cut(line, " #")
			if line = strings.TrimSpace(line); line != "" {
				commands = append(commands, line)
			}
		}
	}
	return commands
}

// TestREADME runs every command that the README tells a user to type, in its order. What it changes: the model is a tiny one, the
// broker's port a free one, what needs a GPU has the implementation for tests instead, what would run on is ended. A command that it does not know fails it.
func TestREADME(t *testing.T) {
	toklip, _ := programs(t)
	root, err := capturetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := t.TempDir()
	for link, to := range map[string]string{"bin": filepath.Dir(toklip), "configs": filepath.Join(root, "configs")} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	writeJPEG(t, filepath.Join(dir, "photo.jpg"))
	shell := func(line string) (string, error) {
		cmd := exec.Command("bash", "-c", line)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(line string) {
		t.Helper()
		if out, err := shell(line); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	must("bin/toklip model synth --preset tiny --precision fp32,fp16,int8 --tokenizer " + reference(t, "golden", "tiny_tokenizer.model") + " --out models/toklip-s-256")
	onTest := trt.ShimVariable + "=" + trttest.Shim(t) + " " + trt.AllowTestVariable + "=1 "

	port := e2etest.FreePort(t)
	demo := start(t, toklip, "run", "--demo", "--listen", "127.0.0.1:"+port)
	demo.LineWith(t, "tokens")

	known := 0
	for _, line := range readmeCommands(t, root) {
		known++
		switch {
		case strings.HasPrefix(line, "git clone"), strings.HasPrefix(line, "make "): // this very checkout; TestDemo runs what `make demo` does
		case strings.HasPrefix(line, "mosquitto_sub "):
			must(strings.Replace(line, "mosquitto_sub ", "mosquitto_sub -W 30 -p "+port+" ", 1))
		case strings.HasPrefix(line, "mosquitto_pub "):
			must(strings.Replace(line, "mosquitto_pub ", "mosquitto_pub -p "+port+" ", 1))
		case line == "bin/toklip watch":
			out, err := shell(line + " --duration 2s --broker mqtt://127.0.0.1:" + port)
			if err != nil || !strings.Contains(out, "demo/clip") {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
		case strings.HasPrefix(line, "bin/toklip model pull"):
			// Without acceptance nothing is downloaded: the terms are shown.
			out, err := shell("mv models kept; " + line + " </dev/null; code=$?; mv kept models; exit $code") // it would not replace a model
			if err == nil || !strings.Contains(out, "repeat the command with --accept-license") {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
		case strings.HasPrefix(line, "bin/toklip run --config"):
			runConfigured(t, dir, line)
		case strings.HasPrefix(line, "bin/toklip doctor"):
			if out, _ := shell(line); !strings.Contains(out, "ONNX Runtime") { // may find things missing
				t.Errorf("%s: %s", line, out)
			}
		case strings.HasPrefix(line, "bin/toklip engine "), strings.Contains(line, "--backend tensorrt"):
			must(onTest + line) // no GPU here
		case strings.HasPrefix(line, "bin/toklip "):
			must(line)
		default:
			t.Errorf("README has a command that this test does not know: %s", line)
		}
	}
	if known < 10 {
		t.Errorf("found %d commands in README, expected at least 10", known)
	}
	if _, err := os.Stat(filepath.Join(dir, "seen.png")); err != nil {
		t.Errorf("decode left no picture: %v", err)
	}
}

// runConfigured starts the daemon as the README does; its webcam need not be there.
func runConfigured(t *testing.T, dir, line string) {
	t.Helper()
	args := strings.Fields(line)
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	daemon := start(t, args[0], append(args[1:], "--listen", "127.0.0.1:"+e2etest.FreePort(t))...)
	t.Chdir(wd)
	e2etest.WaitFor(t, "the daemon of the README is ready", func() bool { return strings.Contains(daemon.Out.String(), "msg=ready") })
	if code, _ := daemon.Stop(t); code != 0 {
		t.Errorf("%s: ended with code %d", line, code)
	}
}

func writeJPEG(t *testing.T, path string) {
	t.Helper()
	in, err := os.Open(reference(t, "images", "coffee.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	picture, err := png.Decode(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := jpeg.Encode(out, picture, nil); err != nil {
		t.Fatal(err)
	}
}
