package preprocess

// The conversion is OpenCV's COLOR_YUV2BGR_NV12 and COLOR_YUV2BGR_YUY2
// (imgproc, color_yuv.simd.hpp): ITU-R BT.601, limited range, 20-bit fixed point.
const (
	yuvShift = 20
	yuvY     = 1220542 // 1.164 * 2^20
	yuvUB    = 2116026 // 2.018 * 2^20
	yuvUG    = -409993 // -0.391 * 2^20
	yuvVG    = -852492 // -0.813 * 2^20
	yuvVR    = 1673527 // 1.596 * 2^20
)

// yuvTables hold every product of the conversion, rounding included.
type yuvTables struct {
	y, ub, ug, vg, vr [256]int32
}

func newYUVTables() *yuvTables {
	t := new(yuvTables)
	for i := range int32(256) {
		t.y[i] = max(i-16, 0) * yuvY
		t.ub[i] = 1<<(yuvShift-1) + yuvUB*(i-128)
		t.ug[i] = 1<<(yuvShift-1) + yuvUG*(i-128)
		t.vg[i] = yuvVG * (i - 128)
		t.vr[i] = 1<<(yuvShift-1) + yuvVR*(i-128)
	}
	return t
}

// convert writes source row y, columns colFrom..colTo, as RGB.
func (in *input) convert(y int, dst []byte) {
	if in.geometry.Format == NV12 {
		luma := in.src[y*in.stride:]
		chroma := in.src[(in.geometry.Height+y/2)*in.stride:]
		in.tables.nv12(dst, luma[in.colFrom:in.colTo], chroma[in.colFrom:in.colTo])
		return
	}
	row := in.src[y*in.stride:]
	in.tables.yuyv(dst, row[2*in.colFrom:2*in.colTo])
}

// nv12 converts a row of luma with its row of UV pairs.
func (t *yuvTables) nv12(dst, luma, chroma []byte) {
	for len(luma) >= 2 && len(chroma) >= 2 && len(dst) >= 6 {
		t.pair(dst[:6], luma[0], luma[1], chroma[0], chroma[1])
		dst, luma, chroma = dst[6:], luma[2:], chroma[2:]
	}
}

// yuyv converts a row of Y0 U Y1 V.
func (t *yuvTables) yuyv(dst, src []byte) {
	for len(src) >= 4 && len(dst) >= 6 {
		t.pair(dst[:6], src[0], src[2], src[1], src[3])
		dst, src = dst[6:], src[4:]
	}
}

func (t *yuvTables) pair(dst []byte, y0, y1, u, v byte) {
	r, g, b := t.vr[v], t.ug[u]+t.vg[v], t.ub[u]
	l := t.y[y0]
	_ = dst[5]
	dst[0] = clip((l + r) >> yuvShift)
	dst[1] = clip((l + g) >> yuvShift)
	dst[2] = clip((l + b) >> yuvShift)
	l = t.y[y1]
	dst[3] = clip((l + r) >> yuvShift)
	dst[4] = clip((l + g) >> yuvShift)
	dst[5] = clip((l + b) >> yuvShift)
}

// clip brings v into 0..255.
func clip(v int32) byte {
	if uint32(v) > 255 {
		return byte(^(v >> 31))
	}
	return byte(v)
}
