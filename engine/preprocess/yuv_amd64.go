package preprocess

// yuvVectors are the constants of yuvAVX2, each a vector of its own.
type yuvVectors struct {
	luma, u, v      [32]byte // shuffles: the bytes of 8 pixels to 32-bit lanes
	sixteen, middle [8]int32
	half            [8]int32
	y               [8]int32
	vr, vg, ug, ub  [8]int32
	rgb             [32]byte // shuffle
}

// yuvAVX2 converts eights*8 pixels to RGB. For every 8 pixels it reads 16 bytes
// of luma and of chroma and goes on by step bytes in both; it writes 4 bytes
// beyond the pixels.
//
//go:noescape
func yuvAVX2(rgb, luma, chroma *byte, step, eights int, k *yuvVectors)

// newYUVVectors are the constants for NV12 or YUYV.
func newYUVVectors(f Format) *yuvVectors {
	k := new(yuvVectors)
	for i := range 8 {
		k.sixteen[i], k.middle[i], k.half[i] = 16, 128, 1<<(yuvShift-1)
		k.y[i], k.vr[i], k.vg[i], k.ug[i], k.ub[i] = yuvY, yuvVR, yuvVG, yuvUG, yuvUB
		// Lane i: a byte of the pixel and three zeros.
		k.luma[4*i], k.u[4*i], k.v[4*i] = byte(i), byte(i&^1), byte(i|1)
		if f == YUYV {
			k.luma[4*i], k.u[4*i], k.v[4*i] = byte(2*i), byte(i&^1*2+1), byte(i&^1*2+3)
		}
		for j := 4*i + 1; j < 4*i+4; j++ {
			k.luma[j], k.u[j], k.v[j] = 0x80, 0x80, 0x80
		}
	}
	for i := range k.rgb {
		k.rgb[i] = 0x80
		if px := i % 16; px < 12 {
			k.rgb[i] = byte(px%3*4 + px/3)
		}
	}
	return k
}

// vectorYUV converts what the kernel can of a row without reading beyond it, and
// returns how many pixels that are. For YUYV luma and chroma are the same bytes.
// rgb has room for 4 bytes more.
func vectorYUV(k *yuvVectors, f Format, rgb, luma, chroma []byte) int {
	step := 8
	if f == YUYV {
		step = 16
	}
	n := min(len(luma), len(chroma))
	if n < 16 {
		return 0
	}
	eights := (n-16)/step + 1
	_ = rgb[24*eights+3]
	yuvAVX2(&rgb[0], &luma[0], &chroma[0], step, eights, k)
	return 8 * eights
}
