//go:build !amd64

package preprocess

// kernels lists what this machine runs, slowest first.
func kernels() []kernel { return []kernel{kernelGeneric} }

func bestKernel() kernel { return kernelGeneric }

func newRowMaker(_ kernel, in *input) rowMaker { return newPortable(in) }

func normalize(_ kernel, values *[256]float32, r, g, b []float32, rgb []byte) {
	normalizePortable(values, r, g, b, rgb)
}

// yuvVectors has no use here.
type yuvVectors struct{}

func vectorYUV(*yuvVectors, Format, []byte, []byte, []byte) int { return 0 }
