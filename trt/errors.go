package trt

import (
	"errors"
	"fmt"
)

// Code says what kind of failure an [Error] is. It is an error itself, so that errors.Is(err,
// ErrNoDevice) holds for every Error of that code.
type Code int32

// The codes of the shim's interface, toklip_trt_code.
const (
	ErrInvalid      Code = 1  // an argument cannot be; the message names it and its value
	ErrABIMismatch  Code = 2  // program and shim are of different versions
	ErrNoLibrary    Code = 3  // the shim, TensorRT, its parser or something they need is not installed
	ErrWrongVersion Code = 4  // TensorRT is there, of a version that no shim here can drive
	ErrNoDevice     Code = 5  // no driver, or no GPU it can use
	ErrOutOfMemory  Code = 6  // of the host or the GPU; the handle stays usable
	ErrDeviceLost   Code = 7  // a CUDA error that sticks: every handle of the device is dead, see Library.Reset
	ErrTimeout      Code = 8  // the GPU did not finish in time; the pipeline is dead, see Library.Reset
	ErrBadPlan      Code = 9  // a plan that is damaged, foreign or of another version
	ErrBadModel     Code = 10 // an ONNX file that TensorRT refuses
	ErrUnsupported  Code = 11 // this TensorRT or GPU cannot do what an option asks for
	ErrCancelled    Code = 12 // a build that was cancelled
	ErrBusy         Code = 13 // the handle still has users, or all batches are under way
	ErrFile         Code = 14 // a file cannot be read or written
	ErrInternal     Code = 15 // anything else
)

// ErrClosed is what methods of a closed handle return, Close itself excepted.
var ErrClosed = errors.New("closed")

// Error says what the code means.
func (c Code) Error() string {
	switch c {
	case ErrInvalid:
		return "invalid argument"
	case ErrABIMismatch:
		return "program and TensorRT shim are of different versions"
	case ErrNoLibrary:
		return "TensorRT is not installed"
	case ErrWrongVersion:
		return "unsupported version of TensorRT"
	case ErrNoDevice:
		return "no usable GPU"
	case ErrOutOfMemory:
		return "out of memory"
	case ErrDeviceLost:
		return "GPU lost"
	case ErrTimeout:
		return "GPU timed out"
	case ErrBadPlan:
		return "bad plan"
	case ErrBadModel:
		return "model refused by TensorRT"
	case ErrUnsupported:
		return "not supported here"
	case ErrCancelled:
		return "cancelled"
	case ErrBusy:
		return "busy"
	case ErrFile:
		return "file error"
	case ErrInternal:
		return "internal error"
	}
	return fmt.Sprintf("unknown code %d", int32(c))
}

// Error is what a call fails with.
type Error struct {
	Op      string // what was being done, such as `load engine`
	Code    Code
	Message string // sentences for a person: the thing, the value, the next step
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Op + ": " + e.Code.Error()
	}
	return e.Op + ": " + e.Message
}

// Unwrap gives the code.
func (e *Error) Unwrap() error { return e.Code }
