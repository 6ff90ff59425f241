package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onTerminal runs the program on a terminal that answers nothing but what is typed, and returns what it showed.
func onTerminal(t *testing.T, folder, typed string, args ...string) (shown string, code int) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "toklip", args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "HF_ENDPOINT=", "HF_TOKEN=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := master.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	read := make(chan error, 1)
	go func() {
		_, err := out.ReadFrom(master) // ends with EIO once nobody has the terminal open
		read <- err
	}()
	err = cmd.Wait()
	terminal.Close()
	if e := <-read; !errors.Is(e, syscall.EIO) {
		t.Fatalf("read terminal: %v", e)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// TestSilentTerminal: no command asks the terminal anything as it starts, or waits for an answer.
func TestSilentTerminal(t *testing.T) {
	begun := time.Now()
	shown, code := onTerminal(t, t.TempDir(), "", "version")
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("took %v", took) // a library that waits for an answer waits for 5 s
	}
	if code != exitOK || !strings.HasPrefix(shown, "toklip devel (") || strings.ContainsRune(shown, '\x1b') {
		t.Errorf("exit code %d, shown %q", code, shown)
	}
}

// TestTermsAtTerminal: a person at a terminal may accept the terms by hand, and sees a bar.
func TestTermsAtTerminal(t *testing.T) {
	server := httptest.NewServer(&hub{folder: filepath.Join(reference(t), "golden")})
	defer server.Close()
	folder := t.TempDir()
	args := []string{"model", "pull", "a/steady:tiny_vq_only.pt", "--endpoint", server.URL, "--no-import"}

	shown, code := onTerminal(t, folder, "n\n", args...)
	if code != exitFailure || !strings.Contains(shown, "Accept these terms? [y/N] ") || !strings.Contains(shown, "are not accepted") {
		t.Errorf("refused: exit code %d, shown %q", code, shown)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	shown, code = onTerminal(t, folder, "y\n", args...)
	if code != exitOK || !strings.Contains(shown, "100% |") || !strings.Contains(shown, "(SHA-256 as the server announced)") {
		t.Errorf("accepted: exit code %d, shown %q", code, shown)
	}
	got, err := os.ReadFile(filepath.Join(folder, "downloads", "tiny_vq_only.pt"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(reference(t), "golden", "tiny_vq_only.pt"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("another file was downloaded")
	}
}

// TestErrorAfterBar: an error stands on a line of its own.
func TestErrorAfterBar(t *testing.T) {
	folder := t.TempDir()
	dir := filepath.Join(folder, "tiny")
	toklip(t, "model", "synth", "--preset", "tiny", "--no-text", "--out", dir)
	path := filepath.Join(dir, "decoder.onnx.data")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[100] ^= 1
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	shown, code := onTerminal(t, folder, "", "model", "info", "--verify", "tiny")
	if code != exitFailure || !strings.Contains(shown, "\ntoklip: verify model") {
		t.Errorf("exit code %d, shown %q", code, shown)
	}
}
