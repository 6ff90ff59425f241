package tensorrt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/toklip/toklip/cmd/toklip/child"
	"github.com/toklip/toklip/trt"
)

// Message is a line of a building process's standard output: one of its fields is set.
type Message struct {
	Progress *Progress `json:"progress,omitempty"`
	Built    []Built   `json:"built,omitempty"`
	Files    []string  `json:"files,omitempty"` // of an export, instead of Built
	Failed   *Failure  `json:"failed,omitempty"`
}

// Failure is how a building process says why it failed.
type Failure struct {
	Code    trt.Code `json:"code"` // 0 where the error has none
	Message string   `json:"message"`
}

// FailureOf describes an error for the process that waits for this one.
func FailureOf(err error) *Failure {
	f := &Failure{Message: err.Error()}
	_ = errors.As(err, &f.Code) // 0 if there is none
	return f
}

// ParseMessage reads a line.
func ParseMessage(line []byte) (Message, error) {
	var m Message
	if err := json.Unmarshal(line, &m); err != nil {
		return Message{}, fmt.Errorf("builder wrote %.80q: %w", line, err)
	}
	if p := m.Progress; p != nil && (!(p.Done >= 0 && p.Done <= 1) || p.Elapsed < 0 || p.Left < 0) {
		return Message{}, fmt.Errorf("builder wrote %.80q: progress that cannot be", line)
	}
	return m, nil
}

// BuildError is the failure of a building process.
type BuildError struct {
	Code    trt.Code // 0 if the process did not say
	Message string
	Log     string // last lines of its standard error
}

func (e *BuildError) Error() string {
	if e.Log == "" {
		return e.Message
	}
	return e.Message + "; its last words: " + e.Log
}

// Unwrap gives the code.
func (e *BuildError) Unwrap() error {
	if e.Code == 0 {
		return nil
	}
	return e.Code
}

// Process is a program that builds engines: this one, as `toklip engine build --json`. Building takes minutes and much
// memory, TensorRT 8 cannot be interrupted, and a fault in it must not end the daemon.
type Process child.Program

// ThisProgram is a process of the running program.
func ThisProgram(args ...string) Process { return Process(child.This(args...)) }

// Run runs the process to its end. Cancelling ctx ends it, by SIGTERM and then SIGKILL, within a second and a bit; so
// does the end of this process, however it comes. progress, which may be nil, is called from the caller's
// goroutine. The error is a *BuildError, or the context's.
func (p Process) Run(ctx context.Context, progress func(Progress)) ([]Built, error) {
	process, err := child.Program(p).Start(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("build engines: %w", context.Cause(ctx))
	case err != nil:
		return nil, &BuildError{Message: err.Error()}
	}
	var built []Built
	var failed *Failure
	var odd error
	lines := bufio.NewScanner(process.Out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		message, err := ParseMessage(lines.Bytes())
		switch {
		case err != nil:
			odd = err
		case message.Failed != nil:
			failed = message.Failed
		case message.Built != nil:
			built = message.Built
		case message.Progress != nil && progress != nil:
			progress(*message.Progress)
		}
	}
	odd = errors.Join(odd, lines.Err())
	err = process.Wait() // drops what followed a line too long
	switch {
	case err == nil && odd == nil && built != nil:
		return built, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("build engines: %w", context.Cause(ctx))
	case failed != nil:
		return nil, &BuildError{Code: failed.Code, Message: failed.Message}
	case err != nil:
		return nil, &BuildError{Message: fmt.Sprintf("the building process ended with %v", err), Log: process.LastWords()}
	case odd != nil:
		return nil, &BuildError{Message: odd.Error(), Log: process.LastWords()}
	}
	return nil, &BuildError{Message: "the building process ended without saying what it built", Log: process.LastWords()}
}
