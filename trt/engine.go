package trt

import "encoding/json"

// Engine is a plan on the GPU. Its methods may be called from any goroutine, one runs at a time.
type Engine struct{}

// Layers is the engine inspector's description.
func (e *Engine) Layers() (json.RawMessage, error) { return nil, ErrClosed }

// Tensor is an input or output of Run, in host memory, dense, row by row.
type Tensor struct {
	Name  string
	Shape []int64 // 1 to 8 dimensions
	// Data is []float32, []int32, or []uint16 for the bits of half precision. Its length is the
	// product of Shape.
	Data any
}

// Run runs the engine once and waits: inputs are copied in, outputs filled. It is for the decoder
// and for checks; frames go through a Pipeline. All inputs and outputs must be given. The engine of a
// pipeline may be run while no batch is under way.
func (e *Engine) Run(inputs, outputs []Tensor) error { return ErrClosed }

// Close frees the engine. It refuses with ErrBusy while a pipeline uses it.
func (e *Engine) Close() error { return nil }
