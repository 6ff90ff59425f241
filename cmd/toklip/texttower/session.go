package texttower

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/toklip/toklip/cmd/toklip/child"
	"github.com/toklip/toklip/model"
)

// errEnded is of a process from which nothing more comes.
var errEnded = errors.New("it ended")

// endAfter is how long a process has to end once its input has.
const endAfter = time.Second

// session is one life of the process. A nil session has no process.
type session struct {
	tower   *tower
	stall   time.Duration
	process *child.Process
	lines   *bufio.Scanner
}

func newSession(c *Child, process *child.Process) *session {
	s := &session{tower: &c.tower, stall: c.stall, process: process, lines: bufio.NewScanner(process.Out)}
	s.lines.Buffer(nil, maxLine)
	s.lines.Split(wholeLines)
	return s
}

// wholeLines is [bufio.ScanLines] without the rest of a line that a process which died has left.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	advance, token, err = bufio.ScanLines(data, atEOF)
	if atEOF && bytes.IndexByte(data, '\n') < 0 {
		return len(data), nil, nil
	}
	return advance, token, err
}

// gone is closed when the process ended by itself.
func (s *session) gone() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.process.Done()
}

// embed has the process embed texts and takes what comes back, text by text. After an error, that of the context included, the
// process has ended.
func (s *session) embed(ctx context.Context, w *wanted, texts []int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, s.process.Kill)()
	heard := make(chan struct{}, 1)
	defer s.watch(heard, cancel)()

	written := make(chan struct{})
	go func() {
		defer close(written)
		s.write(w, texts)
	}()
	err := s.read(w, texts, heard)
	if err == nil {
		<-written
		return nil
	}
	stopped := ctx.Err() != nil // what was read since is of a process that was killed here
	err = s.fault(err)
	<-written // the pipe is closed
	if stopped {
		return context.Cause(ctx)
	}
	return err
}

// patience is how many times as long as one that does nothing a process may compute without an answer.
const patience = 12

// watch calls hangs if nothing is heard of the process for a time in which it does not compute either: on a busy machine it may have
// to wait for long. The caller calls stop, which waits.
func (s *session) watch(heard <-chan struct{}, hangs func(error)) (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		timer := time.NewTimer(s.stall)
		defer timer.Stop()
		since, computed := time.Now(), s.process.CPU()
		for {
			select {
			case <-over:
				return
			case <-heard:
				since = time.Now()
			case <-timer.C:
				before := computed
				computed = s.process.CPU()
				switch {
				case computed == before:
					hangs(fmt.Errorf("the text process hangs: for %v it neither answered nor computed", s.stall))
					return
				case time.Since(since) > patience*s.stall:
					hangs(fmt.Errorf("the text process hangs: for %v it computed and did not answer", patience*s.stall))
					return
				}
			}
			timer.Reset(s.stall)
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// write writes texts, a JSON string a line. It fails only where the process has ended, which whoever reads its answers notices too.
func (s *session) write(w *wanted, texts []int) {
	out := bufio.NewWriter(s.process.In)
	lines := json.NewEncoder(out)
	for _, i := range texts {
		if lines.Encode(w.texts[i]) != nil {
			return
		}
	}
	_ = out.Flush() // likewise
}

// read reads a line for each text and tells heard of it. The error is errEnded where there is none.
func (s *session) read(w *wanted, texts []int, heard chan<- struct{}) error {
	for _, i := range texts {
		if !s.lines.Scan() {
			if errors.Is(s.lines.Err(), bufio.ErrTooLong) {
				return fmt.Errorf("it wrote a line of more than %d bytes", maxLine)
			}
			return cmp.Or(s.lines.Err(), errEnded)
		}
		select {
		case heard <- struct{}{}:
		default: // it is to be told of already
		}
		line, err := parseLine(s.lines.Bytes())
		if err != nil {
			return err
		}
		if line.Text != w.texts[i] {
			return fmt.Errorf("it answered for %.60q, asked was %.60q", line.Text, w.texts[i])
		}
		if err := s.tower.take(w, i, line.Embedding); err != nil {
			return err
		}
	}
	return nil
}

// fault ends the process and says what was wrong with it: err, or how it ended by itself.
func (s *session) fault(err error) error {
	if !errors.Is(err, errEnded) {
		s.process.Kill()
	}
	ended := s.process.Wait()
	var said *failure
	if errors.As(err, &said) {
		return said // that is all there is to say
	}
	if errors.Is(err, errEnded) {
		var exit *exec.ExitError
		switch {
		case ended == nil:
			err = errors.New("it ended without an answer")
		case errors.As(ended, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
			err = s.killed()
		default:
			err = fmt.Errorf("it ended with %w", ended)
		}
	}
	if words := s.process.LastWords(); words != "" {
		return fmt.Errorf("text process: %w; its last words: %s", err, words)
	}
	return fmt.Errorf("text process: %w", err)
}

// killed is the error of a process that somebody killed.
func (s *session) killed() error {
	need := float64(s.tower.weights()) / 1e9
	hint := ""
	if s.tower.Manifest.Text.Precision == model.FP32 {
		hint = fmt.Sprintf("; imported with --text-precision %s it needs half", model.FP16)
	}
	return fmt.Errorf("it was killed, as the kernel does where memory runs out (the text tower takes up to %.2g GB%s)", need, hint)
}

// end ends the process, if there is one, and waits for it.
func (s *session) end() {
	if s == nil {
		return
	}
	_ = s.process.In.Close() // its work is done with the last line
	kill := time.AfterFunc(endAfter, s.process.Kill)
	defer kill.Stop()
	_ = s.process.Wait() // how it ends does not matter any more
}
