package checkpoint

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

// maxHeader is the longest header accepted, the limit of the reference implementation.
const maxHeader = 100_000_000

// Safetensors is a checkpoint in the safetensors format: a little-endian 64-bit length, that much JSON, and
// the values of all tensors (https://github.com/huggingface/safetensors, "Format").
//
// The format's rules are held strictly: offsets inside the file, without overlap and without holes, lengths that
// follow from shape and element type, no name twice. Tensors are listed in the order of their values in the
// file.
type Safetensors struct {
	store
	metadata map[string]string
}

var _ Reader = (*Safetensors)(nil)

// Metadata is a copy of what the file says about itself under "__metadata__"; nil if it says nothing.
func (s *Safetensors) Metadata() map[string]string { return maps.Clone(s.metadata) }

func readSafetensors(path string, m *mapping) (*Safetensors, error) {
	var h header
	err := m.view(func(data []byte) error {
		var err error
		h, err = parseHeader(data)
		m.used(len(data) - int(h.dataLen))
		return err
	})
	if err != nil {
		return nil, err
	}
	s, err := newStore(path, m, h.entries)
	if err != nil {
		return nil, err
	}
	return &Safetensors{store: *s, metadata: h.metadata}, nil
}

// header is what stands before the values.
type header struct {
	entries  []entry // ordered by offset
	metadata map[string]string
	dataLen  int64
}

// parseHeader reads and checks the header of a whole safetensors file.
func parseHeader(file []byte) (header, error) {
	var h header
	if len(file) < 8 {
		return h, fmt.Errorf("truncated: a safetensors file begins with 8 bytes of length, this one has %d", len(file))
	}
	length := binary.LittleEndian.Uint64(file)
	if length > maxHeader {
		return h, fmt.Errorf("the header claims %d bytes, more than the %d allowed: is this a safetensors file?", length, maxHeader)
	}
	if have := uint64(len(file) - 8); length > have {
		return h, fmt.Errorf("truncated: the header needs %d bytes, the file has %d", length, have)
	}
	text := file[8 : 8+length]
	h.dataLen = int64(len(file)) - 8 - int64(length)
	if len(text) == 0 || text[0] != '{' {
		return h, errors.New("the header does not begin with {: is this a safetensors file?")
	}
	if !utf8.Valid(text) {
		return h, errors.New("the header is no valid UTF-8")
	}
	p := headerParser{dec: json.NewDecoder(bytes.NewReader(text)), seen: map[string]bool{}}
	p.dec.UseNumber()
	if err := p.object(&h, 8+int64(length)); err != nil {
		return header{}, err
	}
	if rest := bytes.Trim(text[p.dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return header{}, fmt.Errorf("header: %d bytes after the closing brace", len(rest))
	}
	if err := checkLayout(h.entries, p.ends, 8+int64(length), h.dataLen); err != nil {
		return header{}, err
	}
	slices.SortStableFunc(h.entries, func(a, b entry) int { return cmp.Compare(a.offset, b.offset) })
	return h, nil
}

// checkLayout makes sure that the tensors cover the data exactly. ends holds the end of each entry.
func checkLayout(entries []entry, ends []int64, base, dataLen int64) error {
	order := make([]int, len(entries))
	for i := range order {
		order[i] = i
		if ends[i] > dataLen {
			return fmt.Errorf("truncated: tensor %q ends at byte %d of the data, which has %d", entries[i].info.Name, ends[i], dataLen)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(entries[a].offset, entries[b].offset), cmp.Compare(ends[a], ends[b]))
	})
	at, before := int64(0), ""
	for _, i := range order {
		name, begin := entries[i].info.Name, entries[i].offset-base
		if begin < at {
			return fmt.Errorf("tensor %q begins at byte %d of the data, inside of tensor %q, which ends at %d", name, begin, before, at)
		}
		if begin > at {
			return fmt.Errorf("tensor %q begins at byte %d of the data, but nothing covers bytes %d to %d", name, begin, at, begin)
		}
		at, before = ends[i], name
	}
	if at != dataLen {
		return fmt.Errorf("the tensors end at byte %d of the data, but %d bytes are there", at, dataLen)
	}
	return nil
}

// headerParser reads the JSON a token at a time, because a map would hide names that are there twice.
type headerParser struct {
	dec  *json.Decoder
	seen map[string]bool
	ends []int64 // end of each entry, relative to the data
}

// token reads one token of the wanted kind: a json.Delim, a string (""), or a json.Number.
func (p *headerParser) token(want any) (json.Token, error) {
	t, err := p.dec.Token()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.New("header: the JSON ends too early")
	}
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	ok := false
	switch w := want.(type) {
	case json.Delim:
		ok = t == w
	case string:
		_, ok = t.(string)
	case json.Number:
		_, ok = t.(json.Number)
	}
	if !ok {
		return nil, fmt.Errorf("header: %s expected, found %s, before byte %d", kind(want), kind(t), p.dec.InputOffset())
	}
	return t, nil
}

// kind names a token in an error.
func kind(t json.Token) string {
	switch t := t.(type) {
	case json.Delim:
		return strconv.Quote(t.String())
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case nil:
		return "null"
	}
	return fmt.Sprint(t)
}

func (p *headerParser) object(h *header, base int64) error {
	if _, err := p.token(json.Delim('{')); err != nil {
		return err
	}
	for p.dec.More() {
		t, err := p.token("")
		if err != nil {
			return err
		}
		name := t.(string)
		if p.seen[name] {
			return fmt.Errorf("header: %q is there twice", name)
		}
		p.seen[name] = true
		if name == "__metadata__" {
			if h.metadata, err = p.strings(); err != nil {
				return err
			}
			continue
		}
		e, end, err := p.tensor(name, base)
		if err != nil {
			return err
		}
		h.entries = append(h.entries, e)
		p.ends = append(p.ends, end)
	}
	_, err := p.token(json.Delim('}'))
	return err
}

func (p *headerParser) strings() (map[string]string, error) {
	if _, err := p.token(json.Delim('{')); err != nil {
		return nil, fmt.Errorf("__metadata__: %w", err)
	}
	out := map[string]string{}
	for p.dec.More() {
		key, err := p.token("")
		if err != nil {
			return nil, fmt.Errorf("__metadata__: %w", err)
		}
		if _, twice := out[key.(string)]; twice {
			return nil, fmt.Errorf("__metadata__: %q is there twice", key)
		}
		value, err := p.token("")
		if err != nil {
			return nil, fmt.Errorf("__metadata__: %q: %w", key, err)
		}
		out[key.(string)] = value.(string)
	}
	_, err := p.token(json.Delim('}'))
	return out, err
}

// tensor reads the description of one tensor and the end of its values.
func (p *headerParser) tensor(name string, base int64) (entry, int64, error) {
	fail := func(err error) (entry, int64, error) { return entry{}, 0, fmt.Errorf("tensor %q: %w", name, err) }
	if _, err := p.token(json.Delim('{')); err != nil {
		return fail(err)
	}
	var dtype *string
	var shape, offsets []int64
	for p.dec.More() {
		field, err := p.token("")
		if err != nil {
			return fail(err)
		}
		twice := false
		switch field {
		case "dtype":
			twice = dtype != nil
			var t json.Token
			if t, err = p.token(""); err == nil {
				s := t.(string)
				dtype = &s
			}
		case "shape":
			twice = shape != nil
			shape, err = p.numbers()
		case "data_offsets":
			twice = offsets != nil
			offsets, err = p.numbers()
		default:
			err = fmt.Errorf("header: unknown field %q; known are dtype, shape and data_offsets", field)
		}
		if twice {
			err = fmt.Errorf("header: %q is there twice", field)
		}
		if err != nil {
			return fail(err)
		}
	}
	if _, err := p.token(json.Delim('}')); err != nil {
		return fail(err)
	}
	if dtype == nil || shape == nil || offsets == nil {
		return fail(errors.New("header: dtype, shape and data_offsets must all be there"))
	}
	d, known := safetensorsDType(*dtype)
	if !known {
		return fail(fmt.Errorf("unknown dtype %q", *dtype))
	}
	n, err := elements(shape)
	if err != nil {
		return fail(err)
	}
	if len(offsets) != 2 || offsets[0] > offsets[1] {
		return fail(fmt.Errorf("data_offsets %v are no begin and end", offsets))
	}
	bits := n * d.info().bits // below 2^63: elements has seen to it
	if bits%8 != 0 {
		return fail(fmt.Errorf("%d elements of %v do not fill whole bytes", n, d))
	}
	if have := offsets[1] - offsets[0]; have != bits/8 {
		return fail(fmt.Errorf("shape %v of %v needs %d bytes, data_offsets %v span %d", shape, d, bits/8, offsets, have))
	}
	if offsets[0] > 1<<62 {
		return fail(fmt.Errorf("data_offsets %v are too large", offsets))
	}
	return entry{info: Info{Name: name, DType: d, Shape: shape}, offset: base + offsets[0]}, offsets[1], nil
}

// numbers reads an array of whole numbers from 0 on.
func (p *headerParser) numbers() ([]int64, error) {
	if _, err := p.token(json.Delim('[')); err != nil {
		return nil, err
	}
	out := []int64{}
	for p.dec.More() {
		t, err := p.token(json.Number(""))
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(string(t.(json.Number)), 10, 63)
		if err != nil {
			return nil, fmt.Errorf("header: %q is no whole number from 0 to 2^63-1", t)
		}
		if len(out) > maxDims {
			return nil, fmt.Errorf("header: more than %d dimensions", maxDims)
		}
		out = append(out, int64(n))
	}
	_, err := p.token(json.Delim(']'))
	return out, err
}
