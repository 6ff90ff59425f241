package graph

import (
	"context"
	"runtime"
	"sync"
)

// The kernel computes tiles of 2 rows by 4 columns over pieces of the inner dimension: 4 rows of a piece of w
// fill a third of a first-level cache, and stay there while all rows of x pass.
const (
	tileRows = 2
	tileCols = 4
	piece    = 1024
)

// product is y[rows, out] = x[rows, in] · w[out, in]ᵀ + bias[out], on all processors. It is called with a few
// hundred rows at most, so that x stays in the second-level cache.
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

// columns computes the columns begin..end of y.
func columns(ctx context.Context, y, x, w, bias []float32, rows, in, out, begin, end int) {
	for r := range rows {
		copy(y[r*out+begin:r*out+end], bias[begin:end])
	}
	for k := 0; k < in; k += piece {
		n := min(piece, in-k)
		for c := begin; c < end; c += tileCols {
			if ctx.Err() != nil {
				return
			}
			for r := 0; r < rows; r += tileRows {
				if r+tileRows <= rows && c+tileCols <= end {
					var sums [tileRows * tileCols]float32
					tile(&sums, x[r*in+k:], w[c*in+k:], in, n)
					for i, s := range sums {
						y[(r+i/tileCols)*out+c+i%tileCols] += s
					}
					continue
				}
				for i := r; i < min(r+tileRows, rows); i++ {
					for j := c; j < min(c+tileCols, end); j++ {
						y[i*out+j] += dot(x[i*in+k:i*in+k+n], w[j*in+k:j*in+k+n])
					}
				}
			}
		}
	}
}

// tileGo is tile in Go: sums[i*4+j] = row i of x · row j of w over n values; rows are stride apart.
func tileGo(sums *[tileRows * tileCols]float32, x, w []float32, stride, n int) {
	x0, x1 := x[:n], x[stride:stride+n]
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
	*sums = [...]float32{s00, s01, s02, s03, s10, s11, s12, s13}
}

func dot(a, b []float32) float32 {
	var s float32
	for i, x := range a {
		s += x * b[i]
	}
	return s
}
