package api

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/toklip/toklip/api/toklipv1"
)

// TokenBits is the number of bits of one packed id of a codebook of so many entries:
// ceil(log2(codebook)), at least 1. 16384 entries take 14.
func TokenBits(codebook int) int {
	if codebook <= 2 {
		return 1
	}
	return bits.Len(uint(codebook - 1))
}

// PackedSize is the number of bytes of n ids of so many bits each.
func PackedSize(n, bits int) int { return (n*bits + 7) / 8 }

// AppendPackedTokens appends ids, each in the lowest `bits` (1 to 32) bits, one after
// the other, least significant bit first: bit k of id i becomes bit (i*bits+k)%8 of byte
// (i*bits+k)/8 of what is appended. An id that needs more bits is an error naming its
// position; dst is then returned as it was.
func AppendPackedTokens(dst []byte, ids []int32, bits int) ([]byte, error) {
	if bits < 1 || bits > 32 {
		return dst, fmt.Errorf("pack tokens: %d bits an id: 1 to 32 are possible", bits)
	}
	start := len(dst)
	// Ids gather in a 64-bit word, which is written out whole whenever 32 bits are full.
	var word uint64
	var used uint
	var seen uint32
	width := uint(bits)
	dst = slices.Grow(dst, PackedSize(len(ids), bits)+8)
	out := dst[start:cap(dst)]
	at := 0
	for _, id := range ids {
		seen |= uint32(id)
		word |= uint64(uint32(id)) << used
		used += width
		if used >= 32 {
			binary.LittleEndian.PutUint32(out[at:], uint32(word))
			at += 4
			word >>= 32
			used -= 32
		}
	}
	if width < 32 && seen>>width != 0 {
		for i, id := range ids {
			if uint32(id)>>width != 0 {
				return dst[:start], fmt.Errorf("pack tokens: id %d at position %d does not fit %d bits", id, i, bits)
			}
		}
	}
	for ; used > 0; at++ {
		out[at] = byte(word)
		word >>= 8
		used -= min(used, 8)
	}
	return dst[:start+at], nil
}

// PackTokens packs ids; see AppendPackedTokens.
func PackTokens(ids []int32, bits int) ([]byte, error) {
	return AppendPackedTokens(nil, ids, bits)
}

// AppendUnpackedTokens appends the n ids of so many bits each that packed holds. It is
// an error if packed has another length than n ids take, or if its last bits, which
// belong to no id, are not zero.
func AppendUnpackedTokens(dst []int32, packed []byte, n, bits int) ([]int32, error) {
	if bits < 1 || bits > 31 {
		return dst, fmt.Errorf("unpack tokens: %d bits an id: 1 to 31 are possible", bits)
	}
	if n < 0 || n > len(packed)*8 || len(packed) != PackedSize(n, bits) {
		return dst, fmt.Errorf("unpack tokens: %d bytes for %d ids of %d bits: want %d bytes", len(packed), n, bits, PackedSize(max(n, 0), bits))
	}
	start := len(dst)
	dst = slices.Grow(dst, n)[:start+n]
	out := dst[start:]
	mask := uint64(1)<<bits - 1
	var word uint64
	var have uint
	width := uint(bits)
	for i := range out {
		if have < width {
			if len(packed) >= 4 {
				word |= uint64(binary.LittleEndian.Uint32(packed)) << have
				packed = packed[4:]
				have += 32
			} else {
				for len(packed) > 0 {
					word |= uint64(packed[0]) << have
					packed = packed[1:]
					have += 8
				}
			}
		}
		out[i] = int32(word & mask)
		word >>= width
		have -= width
	}
	if word != 0 {
		return dst[:start], fmt.Errorf("unpack tokens: bits after the last of %d ids are not zero: the payload was made for another grid or codebook", n)
	}
	return dst, nil
}

// UnpackTokens unpacks n ids; see AppendUnpackedTokens.
func UnpackTokens(packed []byte, n, bits int) ([]int32, error) {
	return AppendUnpackedTokens(nil, packed, n, bits)
}

// MaxTokens is the greatest number of tokens of a frame that is decoded. It stands far
// above any grid in use (576) and keeps a forged message from asking for memory.
const MaxTokens = 1 << 20

// TokenIDs appends the ids of a message to dst, row by row, after checking that grid,
// codebook and payload agree.
func TokenIDs(dst []int32, m *toklipv1.Tokens) ([]int32, error) {
	n, err := cells(m)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst, err = AppendUnpackedTokens(dst, m.Packed, n, int(m.Bits))
	if err != nil {
		return dst, err
	}
	for i, id := range dst[start:] {
		if uint32(id) >= m.CodebookSize {
			return dst[:start], fmt.Errorf("tokens: id %d at position %d is outside the codebook of %d entries", id, i, m.CodebookSize)
		}
	}
	return dst, nil
}

// ChangedCells appends the numbers of the changed cells of a message to dst, ascending,
// row by row.
func ChangedCells(dst []int32, m *toklipv1.Tokens) ([]int32, error) {
	n, err := cells(m)
	if err != nil {
		return dst, err
	}
	if len(m.Changed) != (n+7)/8 {
		return dst, fmt.Errorf("tokens: changed cells have %d bytes, a grid of %dx%d takes %d", len(m.Changed), m.Rows, m.Cols, (n+7)/8)
	}
	start := len(dst)
	for i, b := range m.Changed {
		for ; b != 0; b &= b - 1 {
			cell := i*8 + bits.TrailingZeros8(b)
			if cell >= n {
				return dst[:start], fmt.Errorf("tokens: changed cell %d is outside the grid of %dx%d", cell, m.Rows, m.Cols)
			}
			dst = append(dst, int32(cell))
		}
	}
	return dst, nil
}

// cells is the number of cells of a message whose grid, codebook and bits agree.
func cells(m *toklipv1.Tokens) (int, error) {
	if m.Rows == 0 || m.Cols == 0 || m.Rows > MaxTokens || m.Cols > MaxTokens || uint64(m.Rows)*uint64(m.Cols) > MaxTokens {
		return 0, fmt.Errorf("tokens: grid of %dx%d is not possible", m.Rows, m.Cols)
	}
	if m.CodebookSize == 0 || m.CodebookSize > 1<<31 {
		return 0, fmt.Errorf("tokens: codebook of %d entries is not possible", m.CodebookSize)
	}
	if want := TokenBits(int(m.CodebookSize)); int(m.Bits) != want {
		return 0, fmt.Errorf("tokens: %d bits an id, a codebook of %d entries takes %d", m.Bits, m.CodebookSize, want)
	}
	return int(m.Rows * m.Cols), nil
}

// SetTokens fills the payload of m: grid, codebook, ids and changed cells. changed is a
// set of cells, bit i%64 of word i/64 standing for cell i; bits beyond the grid must be
// zero. The slices of m are used again, those given are copied.
func SetTokens(m *toklipv1.Tokens, rows, cols, codebook int, ids []int32, changed []uint64) error {
	if rows < 1 || cols < 1 || rows > MaxTokens || cols > MaxTokens || rows*cols > MaxTokens || len(ids) != rows*cols {
		return fmt.Errorf("tokens: %d ids for a grid of %dx%d", len(ids), rows, cols)
	}
	if codebook < 1 || codebook > 1<<31-1 {
		return fmt.Errorf("tokens: codebook of %d entries is not possible", codebook)
	}
	if len(changed) != (len(ids)+63)/64 {
		return fmt.Errorf("tokens: changed cells have %d words, a grid of %dx%d takes %d", len(changed), rows, cols, (len(ids)+63)/64)
	}
	if r := len(ids) % 64; r != 0 && changed[len(changed)-1]>>r != 0 {
		return fmt.Errorf("tokens: changed cells beyond the grid of %dx%d", rows, cols)
	}
	for i, id := range ids {
		if id < 0 || int(id) >= codebook {
			return fmt.Errorf("tokens: id %d at position %d is outside the codebook of %d entries", id, i, codebook)
		}
	}
	b := TokenBits(codebook)
	packed, err := AppendPackedTokens(m.Packed[:0], ids, b)
	if err != nil {
		return err
	}
	m.Packed = packed
	m.Rows, m.Cols, m.CodebookSize, m.Bits = uint32(rows), uint32(cols), uint32(codebook), uint32(b)
	m.Changed = m.Changed[:0]
	for _, w := range changed {
		m.Changed = binary.LittleEndian.AppendUint64(m.Changed, w)
	}
	m.Changed = m.Changed[:(len(ids)+7)/8]
	return nil
}
