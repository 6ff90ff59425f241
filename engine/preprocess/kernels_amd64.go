package preprocess

// The layouts on which the kernels work. A *column* is one colour of one pixel
// of a row.
//
// A tile holds 8 source rows: for each group of 4 pixels 96 bytes, red then
// green then blue, of each colour the rows 0..7, of each row the 4 pixels.
// So the 8 lanes of a vector are 8 rows, and the 4 bytes of a lane are the
// neighbours that a dot product of 4 wants.
//
// A block holds 4 rows on their way into the vertical pass: for each column
// 4 bytes, its rows 0..3. So the 8 lanes are 8 columns.
//
// A coefficient of 23 bits is cut into parts that the multiplier takes, and the
// sums of the parts are shifted and added at the end. Sums wrap at 32 bits,
// which is harmless: the final sum fits. Each group of 4 coefficients is kept as
//
//	VNNI: 3 digits to the base 256, signed, least first: 4+4+4 bytes
//	AVX2: 4 times k>>11, then 4 times k&2047, as 16-bit integers: 8+8 bytes

// tapSpan is where in the tile an output pixel's groups begin, in bytes, and how
// many there are.
type tapSpan struct{ offset, groups int32 }

// gatherAVX2 fills groups of a tile from the 8 rows that begin at src+at[i].
// Each group reads 16 bytes of each row and goes on by step bytes; shuffle (the
// same in both halves) brings the 4 pixels to RRRR GGGG BBBB.
//
//go:noescape
func gatherAVX2(tile, src *byte, at *[linesAtOnce]int, step, groups int, shuffle *[32]byte)

// interleaveAVX2 fills a block with 32 columns a vector from the 4 rows that
// begin at src+at[0..3].
//
//go:noescape
func interleaveAVX2(block, src *byte, at *[linesAtOnce]int, vectors int)

// horizontalVNNI and horizontalAVX2 make n output pixels of a tile's 8 rows:
// the first 4 rows to block low, the others to block high. They write 4 bytes
// beyond the n*12 of each.
//
//go:noescape
func horizontalVNNI(low, high, tile, coefs *byte, spans *tapSpan, n int)

//go:noescape
func horizontalAVX2(low, high, tile, coefs *byte, spans *tapSpan, n int)

// verticalVNNI and verticalAVX2 make one output row of the blocks that begin at
// ring+at[0..groups-1], in chunks of 24 columns. They write 8 bytes beyond.
//
//go:noescape
func verticalVNNI(out, ring *byte, at *int32, coefs *byte, groups, chunks int)

//go:noescape
func verticalAVX2(out, ring *byte, at *int32, coefs *byte, groups, chunks int)

// normalizeAVX2 spreads eights*8 RGB pixels over three planes of float32. It
// reads 4 bytes beyond the pixels.
//
//go:noescape
func normalizeAVX2(red, green, blue *float32, rgb *byte, eights int)

// appendCoefs appends the groups of k, with lead zeros before its first and
// zeros after its last to fill groups of 4.
func (k kernel) appendCoefs(dst []byte, lead int, coefs []int32) (out []byte, groups int) {
	groups = (lead + len(coefs) + 3) / 4
	for g := range groups {
		var four [4]int32
		for i := range four {
			if j := 4*g + i - lead; j >= 0 && j < len(coefs) {
				four[i] = coefs[j]
			}
		}
		if k == kernelVNNI {
			dst = appendDigits(dst, four)
		} else {
			dst = appendHalves(dst, four)
		}
	}
	return dst, groups
}

func appendDigits(dst []byte, four [4]int32) []byte {
	for range 3 {
		for i, v := range four {
			digit := int8(v)
			dst = append(dst, byte(digit))
			four[i] = (v - int32(digit)) >> 8
		}
	}
	return dst
}

func appendHalves(dst []byte, four [4]int32) []byte {
	for _, v := range four {
		high := v >> 11
		dst = append(dst, byte(high), byte(high>>8))
	}
	for _, v := range four {
		low := v & 2047
		dst = append(dst, byte(low), byte(low>>8))
	}
	return dst
}
