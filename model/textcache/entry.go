package textcache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// magic begins every file. Its number changes with the layout, and with what a text goes through before it reaches a tower.
const magic = "toklip text embedding 1\n"

// Limits of an entry. What exceeds them is not stored.
const (
	maxName   = 1 << 10 // bytes of a tower's name
	maxText   = 1 << 16 // bytes of a text
	maxValues = 1 << 16 // of an embedding
	maxFile   = int64(len(magic) + 3*4 + maxName + maxText + 4*maxValues + sha256.Size)
)

// encode makes the content of a file; all numbers are little-endian:
//
//	magic
//	uint32 length, tower
//	uint32 length, text
//	uint32 count, float32 values
//	SHA-256 over all before
func encode(tower, text string, embedding []float32) ([]byte, error) {
	if len(tower) > maxName || len(text) > maxText || len(embedding) == 0 || len(embedding) > maxValues {
		return nil, fmt.Errorf("%d values for a text of %d bytes, by a tower whose name has %d: most are %d, %d and %d",
			len(embedding), len(text), len(tower), maxValues, maxText, maxName)
	}
	b := make([]byte, 0, len(magic)+3*4+len(tower)+len(text)+4*len(embedding)+sha256.Size)
	b = append(b, magic...)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(tower))), tower...)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(text))), text...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(embedding)))
	for i, v := range embedding {
		if v-v != 0 { // an infinity or not a number
			return nil, fmt.Errorf("value %d is %v", i, v)
		}
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

var (
	errDamaged = errors.New("damaged")
	errOther   = errors.New("of another tower or text")
)

// decode is the embedding of a file's content, which must be of this tower and text.
func decode(b []byte, tower, text string) ([]float32, error) {
	rest := len(b) - sha256.Size
	if rest < 0 {
		return nil, errDamaged
	}
	if sum := sha256.Sum256(b[:rest]); !bytes.Equal(sum[:], b[rest:]) {
		return nil, errDamaged
	}
	b, ok := bytes.CutPrefix(b[:rest], []byte(magic))
	if !ok {
		return nil, errDamaged
	}
	for _, want := range [...]string{tower, text} {
		n, rest, ok := number(b)
		if !ok || n > len(rest) {
			return nil, errDamaged
		}
		if string(rest[:n]) != want {
			return nil, errOther
		}
		b = rest[n:]
	}
	n, b, ok := number(b)
	if !ok || n == 0 || n > maxValues || len(b) != 4*n {
		return nil, errDamaged
	}
	values := make([]float32, n)
	for i := range values {
		v := math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		if v-v != 0 {
			return nil, errDamaged
		}
		values[i] = v
	}
	return values, nil
}

func number(b []byte) (n int, rest []byte, ok bool) {
	if len(b) < 4 {
		return 0, nil, false
	}
	return int(binary.LittleEndian.Uint32(b)), b[4:], true
}
