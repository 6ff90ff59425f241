package graph

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/toklip/toklip/model/onnx"
)

// Ranges of activations are measured by the fp32 encoder itself: outputs are added to its graph that give the largest
// magnitudes of each Linear's input. Enough of them are kept to find a percentile over all frames.

// tail is the share of values that the percentile method clips: it is the 99.99th.
const tail = 1e-4

// keepTail is how many times its own share of the tail a frame hands over. Ranges are exact unless one frame holds more
// than that of all values in the tail, and then a little too small.
const keepTail = 8

// Ways of choosing a range from what was seen.
const (
	MethodMax        = "max"        // the largest magnitude: nothing is clipped
	MethodPercentile = "percentile" // the 99.99th percentile of magnitudes
)

// Ranges gathers what frames show of the Linear layers' inputs. One goroutine at a time.
type Ranges struct {
	method string
	seen   map[string]*seen
}

// NewRanges begins with nothing seen.
func NewRanges(method string) (*Ranges, error) {
	if method != MethodMax && method != MethodPercentile {
		return nil, fmt.Errorf("method %q is unknown: choose %s or %s", method, MethodPercentile, MethodMax)
	}
	return &Ranges{method: method, seen: map[string]*seen{}}, nil
}

// Observed is what an encoder graph was given to see its Linear layers' inputs.
type Observed struct {
	File    []byte   // the graph with the outputs added
	Outputs []string // their names: the largest magnitudes, falling
	linears []string
	counts  []int64 // values of each input
}

// Observe adds outputs to the encoder graph (or a part of it) in file, for [Ranges.Add]. It is to run with one frame at a time.
func (r *Ranges) Observe(file []byte) (*Observed, error) {
	m, err := onnx.Decode(file)
	if err != nil {
		return nil, err
	}
	const large = 1 << 28 // tokens, or a side of weights: more is in no model, and products would overflow
	if len(m.Inputs) != 1 || len(m.Inputs[0].Shape) < 2 || m.Inputs[0].Shape[1].Size < 1 || m.Inputs[0].Shape[1].Size > large {
		return nil, fmt.Errorf("observe graph %q: it has not one input [batch, tokens, ...]", m.Graph)
	}
	tokens := m.Inputs[0].Shape[1].Size
	weights := map[string]onnx.Tensor{}
	for _, t := range m.Initializers {
		weights[t.Name] = t
	}
	products := map[string]onnx.Node{}
	for _, n := range m.Nodes {
		if n.Op == "MatMul" && len(n.Inputs) == 2 {
			products[n.Name] = n
		}
	}
	o := &Observed{}
	flat := onnx.Tensor{Name: "observed/flat", Type: onnx.Int64, Shape: []int64{1}, Raw: onnx.AppendInts(nil, []int64{-1})}
	patch := onnx.Patch{Initializers: []onnx.Tensor{flat}}
	sizes := map[int64]bool{}
	const most = 4096 // blocks: more are in no model
	for _, name := range QuantisedLinears(most) {
		n, ok := products[name+matmul]
		if !ok {
			continue
		}
		w := weights[n.Inputs[1]]
		if len(w.Shape) != 2 || w.Shape[0] < 1 || w.Shape[0] > large {
			return nil, fmt.Errorf("observe graph %q: the weights of %q are no constant matrix", m.Graph, name)
		}
		at := "observed/" + name
		count, k := tokens*w.Shape[0], int64(1)
		patch.Nodes = append(patch.Nodes, onnx.Node{Op: "Abs", Name: at + "/abs", Inputs: []string{n.Inputs[0]}, Outputs: []string{at + "/abs"}})
		if r.method == MethodMax {
			patch.Nodes = append(patch.Nodes,
				onnx.Node{Op: "ReduceMax", Name: at + "/max", Inputs: []string{at + "/abs"}, Outputs: []string{at + "/max"}, Attrs: []onnx.Attr{onnx.Int("keepdims", 1)}},
				onnx.Node{Op: "Reshape", Name: at, Inputs: []string{at + "/max", flat.Name}, Outputs: []string{at}})
		} else {
			k = min(int64(math.Ceil(float64(count)*tail))*keepTail, count)
			size := fmt.Sprintf("observed/%d", k)
			if !sizes[k] {
				sizes[k] = true
				patch.Initializers = append(patch.Initializers, onnx.Tensor{Name: size, Type: onnx.Int64, Shape: []int64{1}, Raw: onnx.AppendInts(nil, []int64{k})})
			}
			patch.Nodes = append(patch.Nodes,
				onnx.Node{Op: "Reshape", Name: at + "/flat", Inputs: []string{at + "/abs", flat.Name}, Outputs: []string{at + "/flat"}},
				onnx.Node{Op: "TopK", Name: at, Inputs: []string{at + "/flat", size}, Outputs: []string{at, at + "/indices"}})
		}
		patch.Outputs = append(patch.Outputs, onnx.ValueInfo{Name: at, Type: onnx.Float32, Shape: []onnx.Dim{onnx.Fixed(k)}})
		o.Outputs, o.linears, o.counts = append(o.Outputs, at), append(o.linears, name), append(o.counts, count)
	}
	if len(o.linears) == 0 {
		return nil, fmt.Errorf("observe graph %q: none of the encoder's Linear layers is in it", m.Graph)
	}
	o.File, err = patch.Apply(file)
	return o, err
}

type seen struct {
	largest []float32 // magnitudes, falling
	count   int64     // of all values
}

// Add takes one frame's outputs, in the order of [Observed.Outputs].
func (r *Ranges) Add(o *Observed, outputs [][]float32) error {
	if len(outputs) != len(o.linears) {
		return fmt.Errorf("%d outputs came of %d observed", len(outputs), len(o.linears))
	}
	for i, name := range o.linears {
		for _, v := range outputs[i] {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("the input of %s holds %v", name, v)
			}
		}
		if len(outputs[i]) == 0 {
			return fmt.Errorf("nothing came of the input of %s", name)
		}
		s := r.seen[name]
		if s == nil {
			s = &seen{}
			r.seen[name] = s
		}
		s.largest = append(s.largest, outputs[i]...)
		s.count += o.counts[i]
		slices.SortFunc(s.largest, func(a, b float32) int { return cmp.Compare(b, a) })
		// What the percentile over all frames can still need, whatever comes.
		keep := 1
		if r.method == MethodPercentile {
			keep = (int(float64(s.count)*tail) + 1) * keepTail
		}
		s.largest = s.largest[:min(len(s.largest), keep)]
	}
	return nil
}

// Found are the ranges of all Linear layers seen, by name.
func (r *Ranges) Found() map[string]float32 {
	out := map[string]float32{}
	for name, s := range r.seen {
		at := 0
		if r.method == MethodPercentile {
			at = min(int(float64(s.count)*tail), len(s.largest)-1)
		}
		out[name] = s.largest[at]
	}
	return out
}

// SetRanges gives the int8 encoder for TensorRT in file, as [BuildQDQ] writes it, other ranges. Each quantised Linear of the graph
// needs one.
func SetRanges(file []byte, ranges map[string]float32) ([]byte, error) {
	m, err := onnx.Decode(file)
	if err != nil {
		return nil, err
	}
	var p onnx.Patch
	for _, n := range m.Nodes {
		if n.Op != "QuantizeLinear" || len(n.Inputs) < 2 {
			continue
		}
		name := n.Inputs[1][:max(len(n.Inputs[1])-len(inputScale), 0)]
		if name+inputScale != n.Inputs[1] {
			return nil, fmt.Errorf("set ranges: scale %q of node %q is of no Linear", n.Inputs[1], n.Name)
		}
		most, ok := ranges[name]
		if !ok {
			return nil, fmt.Errorf("set ranges: none was measured for %s", name)
		}
		p.Replace = append(p.Replace, onnx.Tensor{Name: n.Inputs[1], Type: onnx.Float32, Raw: onnx.AppendFloats(nil, []float32{scaleOf(most)})})
	}
	if len(p.Replace) == 0 {
		return nil, fmt.Errorf("set ranges: graph %q quantises nothing", m.Graph)
	}
	return p.Apply(file)
}
