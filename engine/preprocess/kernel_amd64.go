package preprocess

import "golang.org/x/sys/cpu"

// kernels lists what this machine runs, slowest first.
func kernels() []kernel {
	all := []kernel{kernelGeneric}
	if cpu.X86.HasAVX2 {
		all = append(all, kernelAVX2)
		// The instructions are used on 256-bit registers, hence VL.
		if cpu.X86.HasAVX512VNNI && cpu.X86.HasAVX512VL {
			all = append(all, kernelVNNI)
		}
	}
	return all
}

func bestKernel() kernel {
	all := kernels()
	return all[len(all)-1]
}

func newRowMaker(k kernel, in *input) rowMaker {
	if k == kernelGeneric {
		return newPortable(in)
	}
	return newVector(k, in)
}

func normalize(k kernel, values *[256]float32, r, g, b []float32, rgb []byte) {
	eights := 0
	if k != kernelGeneric {
		if eights = len(r) / 8; eights > 0 {
			// What the kernel touches exists; the first panics otherwise.
			_, _, _, _ = r[8*eights-1], g[8*eights-1], b[8*eights-1], rgb[24*eights+3]
			normalizeAVX2(&r[0], &g[0], &b[0], &rgb[0], eights)
		}
	}
	if done := 8 * eights; done < len(r) {
		normalizePortable(values, r[done:], g[done:], b[done:], rgb[3*done:])
	}
}
