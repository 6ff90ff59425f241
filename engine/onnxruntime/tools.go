package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"slices"

	"github.com/toklip/toklip/engine"
	ort "github.com/yalue/onnxruntime_go"
)

// EncodeImage runs one picture that is pre-processed already through tokenizer and
// encoder: image is f32 [3,S,S] in RGB planes, normalised. It returns new slices: ids
// [N], features [N*D], embedding [E], the last two nil for a model without encoder. It
// is for tools; it must not run beside a backend that uses the same Graphs.
func (g *Graphs) EncodeImage(image []float32) (ids []int32, features, embedding []float32, err error) {
	s := g.model.ImageSize
	if want := 3 * s * s; len(image) != want {
		return nil, nil, nil, fmt.Errorf("encode image: %d values, model %q takes [3,%d,%d]: %d", len(image), g.model.Name, s, s, want)
	}
	copy(g.Images(), image)
	found, err := g.Tokenize(1)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("encode image: %w", err)
	}
	ids = slices.Clone(found)
	if g.encoder == nil {
		return ids, nil, nil, nil
	}
	features, embedding, err = g.EncodeIDs(ids)
	return ids, features, embedding, err
}

// EncodeIDs runs the encoder on one frame's ids [N] and returns new slices: features
// [N*D] and embedding [E]. As EncodeImage, it is for tools.
func (g *Graphs) EncodeIDs(ids []int32) (features, embedding []float32, err error) {
	if len(ids) != g.model.Tokens() {
		return nil, nil, fmt.Errorf("encode ids: %d tokens, model %q has a grid of %dx%d", len(ids), g.model.Name, g.model.Rows, g.model.Cols)
	}
	copy(g.TokenIDs(), ids)
	f, e, err := g.Encode(1)
	if err != nil {
		return nil, nil, fmt.Errorf("encode ids: %w", err)
	}
	return slices.Clone(f), slices.Clone(e), nil
}

// Decoder turns ids back into pictures. It serves one goroutine at a time.
type Decoder struct {
	model *engine.Model
	run   *session
}

// LoadDecoder loads the model's decoder, checked like Load does.
func (r *Runtime) LoadDecoder(m *engine.Model, opts Options) (*Decoder, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if m.Decoder == "" {
		return nil, fmt.Errorf("load decoder: model %q has none", m.Name)
	}
	opts.MaxBatch = 1 // Decode takes one frame
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("load decoder: %w", err)
	}
	run, err := loadSession("decoder", m.Decoder, []tensorSpec{idsSpec(m)}, []tensorSpec{imageSpec(m)}, opts)
	if err != nil {
		return nil, err
	}
	return &Decoder{model: m, run: run}, nil
}

// Decode gives the decoder's output for ids [N]: f32 [3,S,S], RGB planes, nominally in
// [-1,1]. The slice is valid until the next call.
func (d *Decoder) Decode(ids []int32) ([]float32, error) {
	if d.run.run == nil {
		return nil, engine.ErrClosed
	}
	if len(ids) != d.model.Tokens() {
		return nil, fmt.Errorf("decode: %d tokens, model %q has a grid of %dx%d", len(ids), d.model.Name, d.model.Rows, d.model.Cols)
	}
	if err := d.model.CheckIDs(ids); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	copy(d.run.in[0].ints, ids)
	if err := d.run.do(1); err != nil {
		return nil, err
	}
	return d.run.out[0].floats[:3*d.model.ImageSize*d.model.ImageSize], nil
}

// DecodeRGB gives the picture for ids [N] as S x S pixels of 3 bytes, R, G, B, row by
// row, values outside [-1,1] cut.
func (d *Decoder) DecodeRGB(ids []int32) ([]byte, error) {
	planes, err := d.Decode(ids)
	if err != nil {
		return nil, err
	}
	return d.model.Pixels(planes), nil
}

// Close frees the decoder. Calling it again does nothing.
func (d *Decoder) Close() error { return d.run.close() }

// Tensor is an input or output of Run: a shape and exactly one kind of values.
type Tensor struct {
	Shape   []int64
	Float32 []float32
	Int32   []int32
}

// Run loads the graph in file, whatever its tensors are, runs it once for each element
// of inputs in order, and unloads it. Each result holds the named outputs and belongs
// to the caller. Cancelling ctx ends the work between two runs. It is for tools that
// look at graphs one at a time, with little memory rather than fast; opts.MaxBatch does not matter.
func (r *Runtime) Run(ctx context.Context, file string, inputs []map[string]Tensor, outputs []string, opts Options) (_ []map[string]Tensor, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("run %q: %w", file, err)
		}
	}()
	if len(inputs) == 0 {
		return nil, nil
	}
	if opts, err = opts.withDefaults(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(file); err != nil {
		return nil, err
	}
	options, err := opts.sessionOptions()
	if err != nil {
		return nil, err
	}
	defer options.Destroy()
	if err := spareMemory(options); err != nil {
		return nil, err
	}
	var names []string
	for name := range inputs[0] {
		names = append(names, name)
	}
	session, err := ort.NewDynamicAdvancedSession(file, names, outputs, options)
	if err != nil {
		return nil, explainGraph(err)
	}
	defer func() {
		err = errors.Join(err, session.Destroy())
		trim() // or the next graph's weights come on top of what this one's left
	}()
	results := make([]map[string]Tensor, 0, len(inputs))
	for i, in := range inputs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		result, err := runOnce(session, names, in, outputs)
		if err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		results = append(results, result)
	}
	return results, nil
}

// AnyTensor stands for every package's own type of what goes into a graph and comes out.
type AnyTensor interface {
	~struct {
		Shape   []int64
		Float32 []float32
		Int32   []int32
	}
}

// RunAs is [Runtime.Run] on the caller's type of tensor.
func RunAs[T AnyTensor](ctx context.Context, r *Runtime, file string, inputs []map[string]T, outputs []string, opts Options) ([]map[string]T, error) {
	results, err := r.Run(ctx, file, convert[T, Tensor](inputs), outputs, opts)
	if err != nil {
		return nil, err
	}
	return convert[Tensor, T](results), nil
}

func convert[From, To AnyTensor](list []map[string]From) []map[string]To {
	out := make([]map[string]To, len(list))
	for i, tensors := range list {
		out[i] = make(map[string]To, len(tensors))
		for name, t := range tensors {
			out[i][name] = To(t)
		}
	}
	return out
}

func runOnce(session *ort.DynamicAdvancedSession, names []string, in map[string]Tensor, outputs []string) (_ map[string]Tensor, err error) {
	if len(in) != len(names) {
		return nil, fmt.Errorf("%d tensors, the first input had %d", len(in), len(names))
	}
	values := make([]ort.Value, 0, len(names)+len(outputs))
	var pins runtime.Pinner // tensors refer to the caller's memory until they are destroyed
	defer func() {
		defer pins.Unpin()
		for _, v := range values {
			err = errors.Join(err, v.Destroy())
		}
	}()
	for _, name := range names {
		t, ok := in[name]
		if !ok {
			return nil, fmt.Errorf("no tensor %q", name)
		}
		v, err := t.value(&pins)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		values = append(values, v)
	}
	out := make([]ort.Value, len(outputs))
	err = session.Run(values, out)
	for _, v := range out {
		// An output that the binding could not read, such as one without dimensions, is an interface with a nil pointer in it.
		if v != nil && !reflect.ValueOf(v).IsNil() {
			values = append(values, v)
		}
	}
	if err != nil {
		return nil, err
	}
	result := make(map[string]Tensor, len(outputs))
	for i, name := range outputs {
		switch v := out[i].(type) {
		case *ort.Tensor[float32]:
			result[name] = Tensor{Shape: v.GetShape(), Float32: slices.Clone(v.GetData())}
		case *ort.Tensor[int32]:
			result[name] = Tensor{Shape: v.GetShape(), Int32: slices.Clone(v.GetData())}
		default:
			return nil, fmt.Errorf("output %q is a %T, only float32 and int32 tensors are read", name, v)
		}
	}
	return result, nil
}

func (t Tensor) value(pins *runtime.Pinner) (ort.Value, error) {
	switch {
	case len(t.Shape) == 0:
		return nil, errors.New("it has no shape")
	case (len(t.Float32) == 0) == (len(t.Int32) == 0):
		return nil, errors.New("it must hold either float32 or int32 values")
	case len(t.Float32) > 0:
		pins.Pin(&t.Float32[0])
		return ort.NewTensor(ort.NewShape(t.Shape...), t.Float32)
	}
	pins.Pin(&t.Int32[0])
	return ort.NewTensor(ort.NewShape(t.Shape...), t.Int32)
}
