package trt

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"
)

// Engine is a plan on the GPU. Its methods may be called from any goroutine, one runs at a time.
type Engine struct {
	library *Library
	cleanup runtime.Cleanup
	users   int // pipelines; guarded by library.mu
	number  int // of engines loaded before it

	mu     sync.Mutex     // locked before library.mu; of two engines, the one of the lower number first
	handle unsafe.Pointer // nil once closed
}

// Load puts a plan on the GPU. The plan is read during the call only. dlaCore is the one the plan was
// built for, -1 for none. ErrBadPlan where the plan is damaged, foreign or of another version.
func (l *Library) Load(plan []byte, dlaCore int) (*Engine, error) {
	const op = "load engine"
	var dla int32
	if err := numbers(number{"DLA core", dlaCore, &dla}); err != nil {
		return nil, &Error{op, ErrInvalid, err.Error()}
	}
	if len(plan) == 0 {
		return nil, &Error{op, ErrBadPlan, "the plan is empty: build it again"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle == nil {
		return nil, closed(op)
	}
	e := &Engine{library: l, number: l.loaded}
	var handle unsafe.Pointer // a variable of its own: C must not see the rest of e
	if err := l.result(op, l.api.engineLoad(l.handle, plan, dla, &handle)); err != nil {
		return nil, err
	}
	e.handle = handle
	l.engines++
	l.loaded++
	e.cleanup = watch(e, l.ring, "engine", caller())
	return e, nil
}

// Layers is the engine inspector's description.
func (e *Engine) Layers() (json.RawMessage, error) {
	const op = "describe engine"
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.handle == nil {
		return nil, closed(op)
	}
	api := e.library.api
	var s unsafe.Pointer
	if err := e.library.result(op, api.engineLayers(e.handle, &s)); err != nil {
		return nil, err
	}
	defer api.stringFree(s)
	layers := json.RawMessage(api.stringCopy(s))
	if !json.Valid(layers) {
		return nil, &Error{op, ErrInternal, "the engine inspector's answer is no JSON"}
	}
	return layers, nil
}

// Tensor is an input or output of Run, in host memory, dense, row by row.
type Tensor struct {
	Name  string
	Shape []int64 // 1 to 8 dimensions
	// Data is []float32, []int32, or []uint16 for the bits of half precision. Its length is the
	// product of Shape.
	Data any
}

// Run runs the engine once and waits: inputs are copied in, outputs filled. It is for the decoder and
// for checks; frames go through a Pipeline. All inputs and outputs must be given. The engine of a
// pipeline may be run while no batch is under way.
func (e *Engine) Run(inputs, outputs []Tensor) error {
	const op = "run engine"
	var pins arena
	defer pins.free()
	in, err := tensors(&pins, inputs)
	if err != nil {
		return &Error{op, ErrInvalid, "input " + err.Error()}
	}
	out, err := tensors(&pins, outputs)
	if err != nil {
		return &Error{op, ErrInvalid, "output " + err.Error()}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.handle == nil {
		return closed(op)
	}
	return e.library.result(op, e.library.api.engineRun(e.handle, in, out))
}

// tensors makes C's form of tensors and pins their memory.
func tensors(pins *arena, ts []Tensor) ([]tensorArg, error) {
	args := make([]tensorArg, len(ts))
	for i, t := range ts {
		a := &args[i]
		elements := int64(1)
		for _, d := range t.Shape {
			if d < 1 || elements > 1<<40/d {
				return nil, fmt.Errorf("%q: shape %v cannot be", t.Name, t.Shape)
			}
			elements *= d
		}
		if n := len(t.Shape); n < 1 || n > 8 {
			return nil, fmt.Errorf("%q: %d dimensions are not 1 to 8", t.Name, n)
		}
		var length int
		switch data := t.Data.(type) {
		case []float32:
			a.typ, a.size, length, a.data = typeFP32, 4*uintptr(len(data)), len(data), pinned(pins, data)
		case []uint16:
			a.typ, a.size, length, a.data = typeFP16, 2*uintptr(len(data)), len(data), pinned(pins, data)
		case []int32:
			a.typ, a.size, length, a.data = typeInt32, 4*uintptr(len(data)), len(data), pinned(pins, data)
		default:
			return nil, fmt.Errorf("%q: data of type %T is none of []float32, []uint16, []int32", t.Name, t.Data)
		}
		if int64(length) != elements {
			return nil, fmt.Errorf("%q: %d elements are not the %d of shape %v", t.Name, length, elements, t.Shape)
		}
		var err error
		if a.name, err = pins.text("name", t.Name); err != nil {
			return nil, err
		}
		if a.name == 0 {
			return nil, errors.New("tensor without a name")
		}
		a.shape, a.rank = pinned(pins, t.Shape), int32(len(t.Shape))
	}
	return args, nil
}

// Close frees the engine. It refuses with ErrBusy while a pipeline uses it.
func (e *Engine) Close() error {
	const op = "close engine"
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.handle == nil {
		return nil
	}
	l := e.library
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.users > 0 {
		return &Error{op, ErrBusy, fmt.Sprintf("%d pipelines use it: close them first", e.users)}
	}
	err := l.result(op, l.api.engineFree(e.handle))
	e.handle = nil
	l.engines--
	e.cleanup.Stop()
	return err
}
