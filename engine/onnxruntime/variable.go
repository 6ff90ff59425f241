package onnxruntime

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	ort "github.com/yalue/onnxruntime_go"
)

// variable is a loaded graph that runs on tensors of the caller's, of whatever size their first dimension has. It serves one
// goroutine at a time.
type variable struct {
	role, file string
	in, out    []tensorSpec
	run        *ort.DynamicAdvancedSession // nil once closed
}

// loadVariable loads the graph of that role after comparing its tensors with the specs. set, if given, changes how it is run.
func loadVariable(role, file string, in, out []tensorSpec, opts Options, set ...func(*ort.SessionOptions) error) (_ *variable, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("load %s %q: %w", role, file, err)
		}
	}()
	if opts, err = opts.withDefaults(); err != nil {
		return nil, err
	}
	if err := checkTensors(file, in, out); err != nil {
		return nil, err
	}
	options, err := opts.sessionOptions()
	if err != nil {
		return nil, err
	}
	defer options.Destroy()
	for _, s := range set {
		if err := s(options); err != nil {
			return nil, err
		}
	}
	v := &variable{role: role, file: file, in: in, out: out}
	if v.run, err = ort.NewDynamicAdvancedSession(file, tensorNames(in), tensorNames(out), options); err != nil {
		return nil, explainGraph(err)
	}
	return v, nil
}

func tensorNames(specs []tensorSpec) []string {
	list := make([]string, len(specs))
	for i, t := range specs {
		list[i] = t.name
	}
	return list
}

// do runs the graph once: in and out are the memory of the tensors in the order of the specs, n the size of what dimension is
// not fixed. options may be nil.
func (v *variable) do(n int, in, out []buffer, options *ort.RunOptions) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("run %s %q: %w", v.role, v.file, err)
		}
	}()
	var pins runtime.Pinner // tensors refer to the caller's memory until they are destroyed
	defer pins.Unpin()
	var values []ort.Value
	defer func() {
		for _, value := range values {
			err = errors.Join(err, value.Destroy())
		}
	}()
	buffers := slices.Concat(in, out)
	for i, t := range slices.Concat(v.in, v.out) {
		value, err := buffers[i].whole(t, n, &pins)
		if err != nil {
			return fmt.Errorf("tensor %s: %w", t.name, err)
		}
		values = append(values, value)
	}
	return v.run.RunWithOptions(values[:len(in)], values[len(in):], options)
}

// whole is a tensor of all of b, whose first dimension is n unless it is fixed.
func (b buffer) whole(t tensorSpec, n int, pins *runtime.Pinner) (ort.Value, error) {
	dims := t.dims
	if !t.fixed {
		dims = append([]int64{int64(n)}, dims...)
	}
	b.pin(pins)
	if b.ints != nil {
		return ort.NewTensor(ort.NewShape(dims...), b.ints)
	}
	return ort.NewTensor(ort.NewShape(dims...), b.floats)
}

// close frees the graph. Calling it again does nothing.
func (v *variable) close() error {
	if v.run == nil {
		return nil
	}
	err := v.run.Destroy()
	v.run = nil
	trim()
	return err
}
