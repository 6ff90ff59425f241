package graph

import (
	"io"
	"math"

	"github.com/toklip/toklip/model/onnx"
)

// Int8 for ONNX Runtime: the weights of a Linear are int8, symmetric, with one scale for each output; its input is
// quantised to uint8 as it comes, with one scale and zero point for each batch (DynamicQuantizeMatMul of ONNX
// Runtime). Everything else stays float32: norms, attention products, softmax, GELU, residuals, the table.
//
// Weights use the whole range [-127, 127]. Processors with AVX2 or AVX-512 but without VNNI multiply
// uint8 by int8 in pairs that saturate at 16 bits (VPMADDUBSW); there results may be worse than those
// measured at import elsewhere, so import on a machine of the kind that runs the model. Arm and VNNI
// processors do not saturate.

// quantisedLinear is linear with int8 weights.
func (b *builder) quantisedLinear(name, key, x string, scaledRows int, scale float32) string {
	info, _ := b.w.reader.Lookup(key + ".weight")
	w, s := b.w.quantised(key+".weight", scaledRows, scale, int(info.Shape[0]), int(info.Shape[1]))
	bias := b.store(b.w.scaled(key+".bias", scaledRows, scale))
	return b.Contrib("DynamicQuantizeMatMul", name, []string{x, b.constant(w.t, w.err), b.constant(s.t, s.err), "", bias})
}

type stored struct {
	t   onnx.Tensor
	err error
}

// quantised stores a Linear's weight [out, in] as int8 [padIn, padOut], zeros behind its own values, and the scales [padOut]. The
// first rows outputs are multiplied by scale, in their scales.
func (w *weights) quantised(key string, rows int, scale float32, padOut, padIn int) (q, scales stored) {
	info, _ := w.reader.Lookup(key)
	out, in := int(info.Shape[0]), int(info.Shape[1])
	s := make([]float32, padOut)
	for i := range s[out:] {
		s[out+i] = 1
	}
	q.t, q.err = w.append(key+".int8", onnx.Int8, []int64{int64(padIn), int64(padOut)}, func(dst io.Writer) error {
		v, _, err := w.load(key)
		if err != nil {
			return err
		}
		_, err = dst.Write(quantise(v, out, in, s[:out], make([]byte, padIn*padOut), padOut))
		return err
	})
	multiply(s[:rows], scale)
	scales.t, scales.err = w.put(recipe{key + ".scale", []int64{int64(padOut)}, func() ([]float32, error) { return s, nil }}, onnx.Float32)
	return q, scales
}

// quantise rounds each row of v [out, in] to int8 by its largest absolute value, writes the scales and puts the bytes transposed
// into q, whose rows are stride apart.
func quantise(v []float32, out, in int, scales []float32, q []byte, stride int) []byte {
	for r := range out {
		row := v[r*in : (r+1)*in]
		var most float32
		for _, x := range row {
			most = max(most, x, -x)
		}
		scales[r] = most / 127
		if most == 0 {
			scales[r] = 1
			continue
		}
		inverse := 127 / float64(most)
		for c, x := range row {
			q[c*stride+r] = byte(int8(math.RoundToEven(float64(x) * inverse)))
		}
	}
	return q
}
