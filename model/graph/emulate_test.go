package graph

import (
	"path/filepath"
	"testing"

	"github.com/toklip/toklip/model/half"
	"github.com/toklip/toklip/model/onnx"
)

// TestEmulation: in a graph for measuring, fp16 loses what it loses on a GPU: 1 + 0.0003 is 1.
func TestEmulation(t *testing.T) {
	g := &builder{Graph: onnx.NewGraph("x"), emulate: true}
	x := g.Input("x", onnx.Float32, onnx.Fixed(1))
	h := g.Op("Cast", "h", []string{x}, onnx.Int("to", int64(onnx.Float16)))
	raw, err := half.Append(nil, []float32{0.0003})
	if err != nil {
		t.Fatal(err)
	}
	c := g.Initializer(onnx.Tensor{Name: "c", Type: onnx.Float16, Raw: raw})
	s := g.Op("Add", "s", []string{h, c})
	d := g.Op("Sub", "d", []string{s, h})
	g.Op("Cast", "y", []string{d}, onnx.Int("to", int64(onnx.Float32)))
	g.Output("y", onnx.Float32, onnx.Fixed(1))
	p := filepath.Join(t.TempDir(), "x.onnx")
	if _, err := g.WriteFile(p); err != nil {
		t.Fatal(err)
	}
	f, _ := run(t, p, []float32{1}, []int64{1}, "x", "y")
	if f["y"][0] != 0 {
		t.Errorf("(1 + 0.0003) - 1 is %g in fp16", f["y"][0])
	}
}
