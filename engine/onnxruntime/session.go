package onnxruntime

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	ort "github.com/yalue/onnxruntime_go"
)

// tensorSpec is what a model says of an input or output of one of its graphs: element
// type and the dimensions behind the batch, which is dynamic.
type tensorSpec struct {
	name  string
	kind  ort.TensorElementDataType
	dims  []int64
	fixed bool // there is no batch: dims are all dimensions
}

func (t tensorSpec) len() int {
	n := int64(1)
	for _, d := range t.dims {
		n *= d
	}
	return int(n)
}

func (t tensorSpec) String() string {
	if t.fixed {
		return fmt.Sprintf("%s %s [%s]", t.name, kindName(t.kind), joinDims(t.dims))
	}
	return fmt.Sprintf("%s %s [batch,%s]", t.name, kindName(t.kind), joinDims(t.dims))
}

func kindName(k ort.TensorElementDataType) string {
	switch k {
	case ort.TensorElementDataTypeFloat:
		return "float32"
	case ort.TensorElementDataTypeInt32:
		return "int32"
	}
	return k.String()
}

func joinDims(dims []int64) string {
	var b strings.Builder
	for i, d := range dims {
		if i > 0 {
			b.WriteByte(',')
		}
		if d < 0 {
			b.WriteByte('?')
			continue
		}
		fmt.Fprint(&b, d)
	}
	return b.String()
}

// buffer is the memory of one tensor for every place of a batch, one behind the other:
// exactly one of the slices is set. It is pinned while a session refers to it.
type buffer struct {
	floats []float32
	ints   []int32
}

func newBuffer(t tensorSpec, batch int) buffer {
	if t.kind == ort.TensorElementDataTypeInt32 {
		return buffer{ints: make([]int32, batch*t.len())}
	}
	return buffer{floats: make([]float32, batch*t.len())}
}

// value is the tensor of one place, with a batch dimension of 1.
func (b buffer) value(t tensorSpec, place int) (ort.Value, error) {
	shape := ort.NewShape(append([]int64{1}, t.dims...)...)
	from, to := place*t.len(), (place+1)*t.len()
	if b.ints != nil {
		return ort.NewTensor(shape, b.ints[from:to])
	}
	return ort.NewTensor(shape, b.floats[from:to])
}

func (b buffer) pin(p *runtime.Pinner) {
	if b.ints != nil {
		p.Pin(&b.ints[0])
	} else {
		p.Pin(&b.floats[0])
	}
}

// session is one loaded graph with its tensors, bound once for each place of a batch.
// It serves one goroutine at a time.
//
// A batch runs frame by frame: on a CPU one frame keeps all cores busy, so that a
// larger run saves no time, while it needs the intermediate tensors of all frames at
// once (s256: 160 MB more for each) and, in int8, scales activations by the
// largest of all frames, so that a frame's numbers would depend on its neighbours.
type session struct {
	role, file string
	in, out    []buffer // as in the specs it was loaded with

	run      *ort.DynamicAdvancedSession
	bindings []*ort.IoBinding // of place i
	values   []ort.Value
	pins     runtime.Pinner
}

// loadSession loads the graph of that role after comparing its tensors with the specs.
func loadSession(role, file string, in, out []tensorSpec, opts Options) (_ *session, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("load %s %q: %w", role, file, err)
		}
	}()
	if err := checkTensors(file, in, out); err != nil {
		return nil, err
	}
	s := &session{role: role, file: file}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	options, err := opts.sessionOptions()
	if err != nil {
		return nil, err
	}
	defer options.Destroy()
	// Names are given through the bindings.
	if s.run, err = ort.NewDynamicAdvancedSession(file, nil, nil, options); err != nil {
		return nil, explainGraph(err)
	}
	for _, t := range in {
		s.in = append(s.in, newBuffer(t, opts.MaxBatch))
	}
	for _, t := range out {
		s.out = append(s.out, newBuffer(t, opts.MaxBatch))
	}
	for _, b := range slices.Concat(s.in, s.out) {
		b.pin(&s.pins)
	}
	for place := range opts.MaxBatch {
		binding, err := s.run.CreateIoBinding()
		if err != nil {
			return nil, fmt.Errorf("bind tensors: %w", err)
		}
		s.bindings = append(s.bindings, binding)
		for i, t := range in {
			if err := s.bind(binding.BindInput, t, s.in[i], place); err != nil {
				return nil, err
			}
		}
		for i, t := range out {
			if err := s.bind(binding.BindOutput, t, s.out[i], place); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *session) bind(to func(string, ort.Value) error, t tensorSpec, b buffer, place int) error {
	v, err := b.value(t, place)
	if err == nil {
		s.values = append(s.values, v)
		err = to(t.name, v)
	}
	if err != nil {
		return fmt.Errorf("bind %s, place %d: %w", t.name, place, err)
	}
	return nil
}

// do runs the graph on the first n places.
func (s *session) do(n int) error {
	for place, binding := range s.bindings[:n] {
		if err := s.run.RunWithBinding(binding); err != nil {
			return fmt.Errorf("run %s %q, frame %d of %d: %w", s.role, s.file, place, n, err)
		}
	}
	return nil
}

// close frees everything; nothing may be running.
func (s *session) close() error {
	var errs []error
	for _, b := range s.bindings {
		errs = append(errs, b.Destroy())
	}
	for _, v := range s.values {
		errs = append(errs, v.Destroy())
	}
	if s.run != nil {
		errs = append(errs, s.run.Destroy())
	}
	s.pins.Unpin()
	s.bindings, s.values, s.run = nil, nil, nil
	return errors.Join(errs...)
}

// checkTensors compares the graph's inputs and outputs with what the model says of
// them. The graph may have further outputs but no further inputs.
func checkTensors(file string, in, out []tensorSpec) error {
	if info, err := os.Stat(file); err != nil {
		return fmt.Errorf("%w (is the model folder complete? `toklip model info` tells)", err)
	} else if info.IsDir() {
		return errors.New("is a folder, not an ONNX file")
	}
	inputs, outputs, err := graphTensors(file)
	if err != nil {
		return err
	}
	for _, part := range [...]struct {
		what string
		want []tensorSpec
		have []ort.InputOutputInfo
	}{{"input", in, inputs}, {"output", out, outputs}} {
		for _, t := range part.want {
			at := slices.IndexFunc(part.have, func(h ort.InputOutputInfo) bool { return h.Name == t.name })
			if at < 0 {
				return fmt.Errorf("it has no %s %q, only %s; the model wants %v", part.what, t.name, names(part.have), t)
			}
			if h := part.have[at]; !fits(h, t) {
				return fmt.Errorf("%s %q is %s [%s], the model wants %v", part.what, t.name, kindName(h.DataType), joinDims(h.Dimensions), t)
			}
		}
	}
	if len(inputs) != len(in) {
		return fmt.Errorf("it has the inputs %s, only %v is expected", names(inputs), in)
	}
	return nil
}

// graphTensors reads what a file says of its inputs and outputs. The library tells
// this of a loaded graph only; without optimising and packing, loading maps the
// weights and reads none of them.
func graphTensors(file string) (inputs, outputs []ort.InputOutputInfo, err error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, nil, fmt.Errorf("make session options: %w", err)
	}
	defer options.Destroy()
	for _, set := range [...]func() error{
		func() error { return options.SetGraphOptimizationLevel(ort.GraphOptimizationLevelDisableAll) },
		func() error { return options.AddSessionConfigEntry("session.disable_prepacking", "1") },
		func() error { return options.SetIntraOpNumThreads(1) },
	} {
		if err := set(); err != nil {
			return nil, nil, fmt.Errorf("set session options: %w", err)
		}
	}
	inputs, outputs, err = ort.GetInputOutputInfoWithOptions(file, options)
	if err != nil {
		return nil, nil, explainGraph(err)
	}
	return inputs, outputs, nil
}

func fits(h ort.InputOutputInfo, t tensorSpec) bool {
	if h.OrtValueType != ort.ONNXTypeTensor || h.DataType != t.kind {
		return false
	}
	dims := h.Dimensions
	if !t.fixed {
		if len(dims) == 0 || dims[0] >= 0 {
			return false
		}
		dims = dims[1:]
	}
	if len(dims) != len(t.dims) {
		return false
	}
	for i, d := range dims {
		// A dimension the graph leaves open is settled when it runs.
		if d >= 0 && d != t.dims[i] {
			return false
		}
	}
	return true
}

func names(infos []ort.InputOutputInfo) string {
	var list []string
	for _, i := range infos {
		list = append(list, fmt.Sprintf("%q", i.Name))
	}
	return strings.Join(list, ", ")
}

// explainGraph says what the library's error on loading a graph most likely means.
func explainGraph(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "Protobuf parsing failed"), strings.Contains(text, "INVALID_PROTOBUF"), strings.Contains(text, "No graph was found"):
		return fmt.Errorf("not an ONNX file, or damaged; import the model again: %w", err)
	case strings.Contains(text, "xternal"):
		return fmt.Errorf("its weights file is missing or too short; import the model again: %w", err)
	case strings.Contains(text, "opset"), strings.Contains(text, "Unsupported model IR version"), strings.Contains(text, "is not a registered function/op"):
		return fmt.Errorf("this ONNX Runtime (%s) does not know everything in it: %w", ort.GetVersion(), err)
	case strings.Contains(text, "bad_alloc"), strings.Contains(text, "Failed to allocate memory"):
		return fmt.Errorf("not enough memory: %w", err)
	}
	return err
}
