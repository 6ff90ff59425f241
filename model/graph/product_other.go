//go:build !amd64

package graph

func tile(sums *[tileRows * tileCols]float32, x, w []float32, stride, n int) {
	tileGo(sums, x, w, stride, n)
}
