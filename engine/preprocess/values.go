package preprocess

// newValues are the 256 values of a normalised byte, computed in float32 step by
// step as torchvision does: ToTensor divides by 255, Normalize subtracts the
// mean 0.5 and divides by the deviation 0.5.
func newValues() *[256]float32 {
	v := new([256]float32)
	for i := range v {
		scaled := float32(i) / 255
		centred := scaled - 0.5
		v[i] = centred / 0.5
	}
	return v
}

// normalizePortable spreads a row of RGB pixels over three planes.
func normalizePortable(values *[256]float32, r, g, b []float32, rgb []byte) {
	g, b = g[:len(r)], b[:len(r)]
	rgb = rgb[:3*len(r)]
	for i := range r {
		px := rgb[3*i : 3*i+3 : 3*i+3]
		r[i], g[i], b[i] = values[px[0]], values[px[1]], values[px[2]]
	}
}
