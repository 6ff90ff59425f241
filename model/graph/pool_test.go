package graph

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/engine/onnxruntime/onnxruntimetest"
	"github.com/toklip/toklip/model/checkpoint"
)

// TestRegionPool holds the pool against the same in plain Go, and a mask of ones against the encoder's own embedding.
func TestRegionPool(t *testing.T) {
	r := synthetic(t, "tiny", false)
	dir, a := build(t, r, Config{}, Options{})
	g := openGolden(t, "tiny.npz")
	n, d := a.Tokens(), a.Dim
	frames, _ := run(t, filepath.Join(dir, "encoder.onnx"), g.ids(), []int64{3, int64(n)}, "ids", "features", "embedding")

	var masks []float32
	for i := range n { // every cell alone
		row := make([]float32, n)
		row[i] = 1
		masks = append(masks, row...)
	}
	half, whole := make([]float32, n), make([]float32, n)
	for i := range n {
		half[i], whole[i] = float32(i%2), 1
	}
	masks = append(append(masks, half...), whole...)
	regions := len(masks) / n
	for frame := range 3 {
		features := frames["features"][frame*n*d : (frame+1)*n*d]
		results, err := onnxruntimetest.Run(t.Context(), filepath.Join(dir, "pool.onnx"), []map[string]onnxruntime.Tensor{{
			"features": {Shape: []int64{int64(n), int64(d)}, Float32: features},
			"mask":     {Shape: []int64{int64(regions), int64(n)}, Float32: masks},
		}}, []string{"embedding"})
		if err != nil {
			t.Fatal(err)
		}
		got := results[0]["embedding"].Float32
		closeTo(t, "all tokens", got[(regions-1)*d:], frames["embedding"][frame*d:(frame+1)*d], d, 2e-6, 0.9999999)
		for i := range regions {
			want := plainPool(t, r, a, features, masks[i*n:(i+1)*n])
			closeTo(t, "region", got[i*d:(i+1)*d], want, d, 2e-5, 0.999999)
		}
	}
}

// plainPool is the attention pool over the tokens that the mask marks, written down as it is defined.
func plainPool(t *testing.T, r checkpoint.Reader, a *Arch, features, mask []float32) []float32 {
	t.Helper()
	load := func(name string) []float64 {
		info, ok := r.Lookup(poolKey + "." + name)
		if !ok {
			t.Fatalf("no tensor %q", name)
		}
		v := make([]float32, info.Len())
		if err := r.ReadFloat32(info.Name, v, 0); err != nil {
			t.Fatal(err)
		}
		return widen(v)
	}
	linear := func(name string, x []float64) []float64 {
		w, y := load(name+".weight"), load(name+".bias")
		for o := range y {
			for i, v := range x {
				y[o] += w[o*len(x)+i] * v
			}
		}
		return y
	}
	d, hd := a.Dim, a.Dim/a.Heads
	q := linear("q", load("latent"))
	var keys, values [][]float64
	for i, on := range mask {
		if on != 0 {
			kv := linear("kv", widen(features[i*d:(i+1)*d]))
			keys, values = append(keys, kv[:d]), append(values, kv[d:])
		}
	}
	mixed := make([]float64, d)
	for h := range a.Heads {
		weights, sum := make([]float64, len(keys)), 0.0
		for i, k := range keys {
			var s float64
			for j := h * hd; j < (h+1)*hd; j++ {
				s += q[j] * k[j]
			}
			weights[i] = math.Exp(s / math.Sqrt(float64(hd)))
			sum += weights[i]
		}
		for i, v := range values {
			for j := h * hd; j < (h+1)*hd; j++ {
				mixed[j] += weights[i] / sum * v[j]
			}
		}
	}
	y := linear("proj", mixed)
	var mean, variance float64
	for _, v := range y {
		mean += v / float64(d)
	}
	for _, v := range y {
		variance += (v - mean) * (v - mean) / float64(d)
	}
	scale, shift := load("norm.weight"), load("norm.bias")
	h := make([]float64, d)
	for i, v := range y {
		h[i] = (v-mean)/math.Sqrt(variance+normEps)*scale[i] + shift[i]
	}
	h = linear("mlp.fc1", h)
	for i, v := range h {
		h[i] = 0.5 * v * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v)))
	}
	h = linear("mlp.fc2", h)
	out := make([]float32, d)
	for i := range out {
		out[i] = float32(y[i] + h[i])
	}
	return out
}

func widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}
