package preprocess

// The conversion is OpenCV's COLOR_YUV2BGR_NV12 and COLOR_YUV2BGR_YUY2
// (imgproc, color_yuv.simd.hpp): ITU-R BT.601, limited range, 20-bit fixed point.
//
//	r = (1.164 max(y-16, 0)                   + 1.596 (v-128) + 1/2) >> 20, clipped to 0..255
//	g = (1.164 max(y-16, 0) - 0.391 (u-128) - 0.813 (v-128) + 1/2) >> 20
//	b = (1.164 max(y-16, 0) + 2.018 (u-128)                   + 1/2) >> 20
//
// with each factor, and the half, times 2^20:
const (
	yuvShift = 20
	yuvY     = 1220542
	yuvUB    = 2116026
	yuvUG    = -409993
	yuvVG    = -852492
	yuvVR    = 1673527
)

// yuvTables hold every product of the conversion, rounding included.
type yuvTables struct {
	y, ub, ug, vg, vr [256]int32
}

func newYUVTables() *yuvTables {
	t := new(yuvTables)
	for i := range int32(256) {
		t.y[i] = max(i-16, 0)*yuvY + 1<<(yuvShift-1)
		t.ub[i] = yuvUB * (i - 128)
		t.ug[i] = yuvUG * (i - 128)
		t.vg[i] = yuvVG * (i - 128)
		t.vr[i] = yuvVR * (i - 128)
	}
	return t
}

// convert writes source row y, columns colFrom..colTo, as RGB. dst has rowSlack
// bytes more than that.
func (in *input) convert(y int, dst []byte) {
	var luma, chroma []byte
	if in.geometry.Format == NV12 {
		luma = in.src[y*in.stride+in.colFrom:][:in.colTo-in.colFrom]
		chroma = in.src[(in.geometry.Height+y/2)*in.stride+in.colFrom:][:in.colTo-in.colFrom]
	} else {
		luma = in.src[y*in.stride+2*in.colFrom:][:2*(in.colTo-in.colFrom)]
		chroma = luma
	}
	done := 0
	if in.vectors != nil {
		done = vectorYUV(in.vectors, in.geometry.Format, dst, luma, chroma)
	}
	if in.geometry.Format == NV12 {
		in.tables.nv12(dst[3*done:], luma[done:], chroma[done:])
	} else {
		in.tables.yuyv(dst[3*done:], luma[2*done:])
	}
}

// nv12 converts a row of luma with its row of UV pairs.
func (t *yuvTables) nv12(dst, luma, chroma []byte) {
	for len(luma) >= 2 && len(chroma) >= 2 && len(dst) >= 6 {
		t.pair(dst, luma[0], luma[1], chroma[0], chroma[1])
		dst, luma, chroma = dst[6:], luma[2:], chroma[2:]
	}
}

// yuyv converts a row of Y0 U Y1 V.
func (t *yuvTables) yuyv(dst, src []byte) {
	for len(src) >= 4 && len(dst) >= 6 {
		t.pair(dst, src[0], src[2], src[1], src[3])
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

// clip brings v into 0..255, without a branch: noise would mispredict it.
func clip(v int32) byte { return byte(min(max(v, 0), 255)) }
