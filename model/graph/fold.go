package graph

import (
	"math"

	"github.com/toklip/toklip/model/checkpoint"
)

// What can be computed at import, because its input is known then.

// unitCodebook is the codebook [Codebook, CodeDim] with every entry of length 1.
func unitCodebook(r checkpoint.Reader, a *Arch) ([]float32, error) {
	v := make([]float32, a.Codebook*a.CodeDim)
	if err := r.ReadFloat32(a.CodebookTensor(), v, 0); err != nil {
		return nil, err
	}
	for i := 0; i < len(v); i += a.CodeDim {
		row := v[i : i+a.CodeDim]
		var sum float64
		for _, x := range row {
			sum += float64(x) * float64(x)
		}
		// As torch.nn.functional.normalize: a zero entry stays zero.
		length := math.Max(math.Sqrt(sum), 1e-12)
		for j := range row {
			row[j] = float32(float64(row[j]) / length)
		}
	}
	return v, nil
}

// postQuantTable is post_quant_conv of every codebook entry: [Codebook, latent].
func postQuantTable(w *weights, a *Arch) ([]float32, error) {
	unit, err := unitCodebook(w.reader, a)
	if err != nil {
		return nil, err
	}
	return w.dense(a.vqPrefix+"post_quant_conv", unit, a.Codebook, a.CodeDim, a.latent)
}

// tokenTable is what the token encoder sees of every codebook entry, before positions are added:
// vq_mapping(GELU(vq_table(entry))), [Codebook, Dim].
func tokenTable(w *weights, a *Arch) ([]float32, error) {
	unit, err := unitCodebook(w.reader, a)
	if err != nil {
		return nil, err
	}
	mapping, _, err := w.load(trunk + "vq_mapping.weight")
	if err != nil {
		return nil, err
	}
	bias, _, err := w.load(trunk + "vq_mapping.bias")
	if err != nil {
		return nil, err
	}
	const chunk = 128 // entries at a time, so that the hidden layer stays small
	out := make([]float32, a.Codebook*a.Dim)
	for i := 0; i < a.Codebook; i += chunk {
		n := min(chunk, a.Codebook-i)
		hidden, err := w.dense(trunk+"vq_table", unit[i*a.CodeDim:(i+n)*a.CodeDim], n, a.CodeDim, a.table)
		if err != nil {
			return nil, err
		}
		for j, x := range hidden {
			hidden[j] = float32(0.5 * float64(x) * (1 + math.Erf(float64(x)/math.Sqrt2)))
		}
		if err := product(w.ctx, out[i*a.Dim:(i+n)*a.Dim], hidden, mapping, bias, n, a.table, a.Dim); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// poolQuery is the scaled query of the attention pooling: [Heads, 1, Dim/Heads].
func poolQuery(w *weights, a *Arch) ([]float32, error) {
	latent, _, err := w.load(trunk + "attn_pool.latent")
	if err != nil {
		return nil, err
	}
	q, err := w.dense(trunk+"attn_pool.q", latent, 1, a.Dim, a.Dim)
	if err != nil {
		return nil, err
	}
	multiply(q, float32(1/math.Sqrt(float64(a.Dim/a.Heads))))
	return q, nil
}

// dense applies a Linear or 1x1 convolution of the checkpoint to rows of x.
func (w *weights) dense(key string, x []float32, rows, in, out int) ([]float32, error) {
	weight, _, err := w.load(key + ".weight")
	if err != nil {
		return nil, err
	}
	bias, _, err := w.load(key + ".bias")
	if err != nil {
		return nil, err
	}
	y := make([]float32, rows*out)
	return y, product(w.ctx, y, x, weight, bias, rows, in, out)
}
