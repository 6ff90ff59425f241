package graph

import (
	"context"
	"math"
	"runtime"
	"sync"

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
	const chunk = 512 // entries at a time, so that the hidden layer stays small
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

// product is y[rows, out] = x[rows, in] · w[out, in]ᵀ + bias[out], on all processors.
func product(ctx context.Context, y, x, w, bias []float32, rows, in, out int) error {
	workers := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	for i := range workers {
		begin, end := out*i/workers, out*(i+1)/workers
		wg.Add(1)
		go func() {
			defer wg.Done()
			columns(ctx, y, x, w, bias, rows, in, out, begin, end)
		}()
	}
	wg.Wait()
	return ctx.Err()
}

// columns computes the columns begin..end of y, tiles of 4 rows by 4 columns at a time: 16 sums stay in
// registers while 8 values are read. Sums run over pieces of in, so that rounding errors stay small.
func columns(ctx context.Context, y, x, w, bias []float32, rows, in, out, begin, end int) {
	const tile, piece = 4, 256
	for c := begin; c < end; c += tile {
		if ctx.Err() != nil {
			return
		}
		for r := 0; r < rows; r += tile {
			if r+tile > rows || c+tile > end {
				for i := r; i < min(r+tile, rows); i++ {
					for j := c; j < min(c+tile, end); j++ {
						y[i*out+j] = bias[j] + dot(x[i*in:(i+1)*in], w[j*in:(j+1)*in])
					}
				}
				continue
			}
			var total [tile * tile]float32
			for k := 0; k < in; k += piece {
				n := min(piece, in-k)
				tile4x4(&total, x[r*in+k:], w[c*in+k:], in, n)
			}
			for i := range tile {
				for j := range tile {
					y[(r+i)*out+c+j] = bias[c+j] + total[i*tile+j]
				}
			}
		}
	}
}

// tile4x4 adds the products of 4 rows of x and 4 rows of w over n values; rows are stride apart.
func tile4x4(total *[16]float32, x, w []float32, stride, n int) {
	x0, x1, x2, x3 := x[:n], x[stride:stride+n], x[2*stride:2*stride+n], x[3*stride:3*stride+n]
	w0, w1, w2, w3 := w[:n], w[stride:stride+n], w[2*stride:2*stride+n], w[3*stride:3*stride+n]
	var s00, s01, s02, s03, s10, s11, s12, s13 float32
	for k := range n {
		a, b := x0[k], x1[k]
		p, q, r, s := w0[k], w1[k], w2[k], w3[k]
		s00 += a * p
		s01 += a * q
		s02 += a * r
		s03 += a * s
		s10 += b * p
		s11 += b * q
		s12 += b * r
		s13 += b * s
	}
	var s20, s21, s22, s23, s30, s31, s32, s33 float32
	for k := range n {
		a, b := x2[k], x3[k]
		p, q, r, s := w0[k], w1[k], w2[k], w3[k]
		s20 += a * p
		s21 += a * q
		s22 += a * r
		s23 += a * s
		s30 += b * p
		s31 += b * q
		s32 += b * r
		s33 += b * s
	}
	for i, v := range [16]float32{s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33} {
		total[i] += v
	}
}

func dot(a, b []float32) float32 {
	const piece = 256
	var total float32
	for len(a) > 0 {
		n := min(piece, len(a))
		var s float32
		for i, x := range a[:n] {
			s += x * b[i]
		}
		total += s
		a, b = a[n:], b[n:]
	}
	return total
}
