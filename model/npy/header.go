package npy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

const magic = "\x93NUMPY"

// header is what a file says of its array.
type header struct {
	dtype  DType
	shape  []int
	count  int   // elements
	offset int64 // where the values begin
}

// bytes is the size of the values.
func (h header) bytes() int64 { return int64(h.count) * int64(h.dtype.Size()) }

// readHeader reads from the beginning of a file up to its values.
func readHeader(r io.Reader) (header, error) {
	var prefix [12]byte
	if _, err := io.ReadFull(r, prefix[:8]); err != nil {
		return header{}, shortRead(err, "before the header")
	}
	if string(prefix[:6]) != magic {
		return header{}, fmt.Errorf("%w: it begins with %q, not with %q", ErrFormat, prefix[:6], magic)
	}
	// Version 1 has a 16-bit length; 2 made it 32 bits, 3 the text UTF-8 instead of Latin-1.
	major, minor := prefix[6], prefix[7]
	if major < 1 || major > 3 || minor != 0 {
		return header{}, fmt.Errorf("%w: format version %d.%d, this program reads 1.0, 2.0 and 3.0", ErrUnsupported, major, minor)
	}
	start, length := int64(10), int64(0)
	if major == 1 {
		if _, err := io.ReadFull(r, prefix[8:10]); err != nil {
			return header{}, shortRead(err, "before the header")
		}
		length = int64(binary.LittleEndian.Uint16(prefix[8:]))
	} else {
		if _, err := io.ReadFull(r, prefix[8:12]); err != nil {
			return header{}, shortRead(err, "before the header")
		}
		start, length = 12, int64(binary.LittleEndian.Uint32(prefix[8:]))
	}
	if length > MaxHeaderBytes {
		return header{}, fmt.Errorf("%w: a header of %d bytes, at most %d are read", ErrFormat, length, MaxHeaderBytes)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return header{}, shortRead(err, "inside the header")
	}
	if major == 3 && !utf8.Valid(text) {
		return header{}, fmt.Errorf("%w: the header is not UTF-8, as version 3.0 prescribes", ErrFormat)
	}
	h, err := parseHeader(string(text))
	if err != nil {
		return header{}, err
	}
	h.offset = start + length
	return h, nil
}

// shortRead words the end of a file that came too early; other errors stay what they are.
func shortRead(err error, where string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the file ends %s", ErrFormat, where)
	}
	return err
}

// parseHeader reads the Python dictionary of a header, such as
//
//	{'descr': '<f4', 'fortran_order': False, 'shape': (3, 16), }
//
// Exactly these keys are allowed, once each and in any order.
func parseHeader(text string) (header, error) {
	p := &parser{text: text}
	var h header
	var fortran bool
	var descr string
	seen := map[string]bool{}
	p.expect('{')
	for p.err == nil && !p.accept('}') {
		key := p.quoted()
		p.expect(':')
		if p.err != nil {
			break
		}
		if seen[key] {
			p.fail("the key %q stands twice", key)
			break
		}
		seen[key] = true
		switch key {
		case "descr":
			if p.peek() == '[' {
				return header{}, fmt.Errorf("%w: a structured array (records); save each field as an array of its own", ErrUnsupported)
			}
			descr = p.quoted()
		case "fortran_order":
			fortran = p.boolean()
		case "shape":
			h.shape = p.tuple()
		default:
			p.fail("unknown key %q", key)
		}
		if p.peek() != '}' {
			p.expect(',')
		}
	}
	if p.err == nil && p.peek() != 0 {
		p.fail("something follows the dictionary")
	}
	for _, key := range []string{"descr", "fortran_order", "shape"} {
		if p.err == nil && !seen[key] {
			p.fail("the key %q is missing", key)
		}
	}
	if p.err != nil {
		return header{}, p.err
	}
	var err error
	if h.dtype, err = dtypeOf(descr); err != nil {
		return header{}, err
	}
	if h.count, err = elements(h.shape, h.dtype.Size()); err != nil {
		return header{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if fortran && !orderFree(h.shape) {
		return header{}, fmt.Errorf("%w: shape %v in Fortran order; save numpy.ascontiguousarray(array)", ErrUnsupported, h.shape)
	}
	return h, nil
}

// orderFree reports whether C and Fortran order are the same bytes: at most one dimension above 1, or no elements.
func orderFree(shape []int) bool {
	long := 0
	for _, d := range shape {
		if d == 0 {
			return true
		}
		if d > 1 {
			long++
		}
	}
	return long <= 1
}

// growthDigits is the room NumPy leaves for the first dimension to grow in place.
const growthDigits = 21

// formatHeader writes the whole head of a version 1.0 file, byte for byte as NumPy 2 does: padded
// so that values begin at a multiple of 64 bytes.
func formatHeader(dtype DType, shape []int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "{'descr': '%s', 'fortran_order': False, 'shape': (", dtypes[dtype].descr)
	for i, d := range shape {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(d))
	}
	if len(shape) == 1 {
		b.WriteByte(',') // a tuple, not a number in brackets
	}
	b.WriteString("), }")
	if len(shape) > 0 {
		b.WriteString(strings.Repeat(" ", growthDigits-len(strconv.Itoa(shape[0]))))
	}
	const lead = len(magic) + 4
	b.WriteString(strings.Repeat(" ", 64-(lead+b.Len()+1)%64))
	b.WriteByte('\n')
	out := append([]byte(magic), 1, 0)
	out = binary.LittleEndian.AppendUint16(out, uint16(b.Len()))
	return append(out, b.String()...)
}

// parser reads the few kinds of Python literals a header holds. After the first error it does nothing more.
type parser struct {
	text string
	pos  int
	err  error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: header, byte %d: %s", ErrFormat, p.pos, fmt.Sprintf(format, args...))
	}
}

// peek is the next byte that is no white space, 0 at the end.
func (p *parser) peek() byte {
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; c {
		case ' ', '\t', '\n', '\r':
			p.pos++
		case 0: // kept apart from the end
			p.fail("a zero byte")
			return 0
		default:
			return c
		}
	}
	return 0
}

func (p *parser) accept(c byte) bool {
	if p.err != nil || p.peek() != c {
		return false
	}
	p.pos++
	return true
}

func (p *parser) expect(c byte) {
	if !p.accept(c) {
		p.fail("expected %q", c)
	}
}

// quoted reads a string in single or double quotes. Escapes are refused: no key or type needs one.
func (p *parser) quoted() string {
	q := p.peek()
	if q != '\'' && q != '"' {
		p.fail("expected a string")
	}
	if p.err != nil {
		return ""
	}
	rest := p.text[p.pos+1:]
	end := strings.IndexByte(rest, q)
	if end < 0 || strings.ContainsAny(rest[:end], "\\\n") {
		p.fail("a string that does not end or holds a backslash")
		return ""
	}
	p.pos += end + 2
	return rest[:end]
}

func (p *parser) boolean() bool {
	p.peek()
	rest := p.text[p.pos:]
	for word, value := range map[string]bool{"True": true, "False": false} {
		if strings.HasPrefix(rest, word) {
			p.pos += len(word)
			return value
		}
	}
	p.fail("expected True or False")
	return false
}

// tuple reads numbers in brackets; one alone needs its comma, as in Python.
func (p *parser) tuple() []int {
	shape := []int{}
	p.expect('(')
	comma := true // whether a number may follow
	for p.err == nil && !p.accept(')') {
		if !comma {
			p.fail("expected a comma or a closing bracket in the shape")
			return nil
		}
		if len(shape) == MaxDims {
			p.fail("more than %d dimensions", MaxDims)
			return nil
		}
		shape = append(shape, p.number())
		comma = p.accept(',')
	}
	if len(shape) == 1 && !comma {
		p.fail("the shape is a number, not a tuple")
	}
	if p.err != nil {
		return nil
	}
	return shape
}

func (p *parser) number() int {
	p.peek()
	end := p.pos
	for end < len(p.text) && p.text[end] >= '0' && p.text[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(p.text[p.pos:end])
	if err != nil {
		p.fail("expected a dimension, a whole number of at least 0")
		return 0
	}
	p.pos = end
	return n
}
