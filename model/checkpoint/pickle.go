package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Limits against pickles made to exhaust memory. A TokLIP checkpoint's pickle has 200 kB and 40 000
// operations; with an optimizer's state three times that.
const (
	maxPickle     = 64 << 20
	maxOperations = 2 << 20
)

// What a pickle is made of: nil, bool, int64, float64, string, []byte, and the types below. Nothing is
// ever called and no class is ever made; what a pickle may name is listed in [global].
type (
	mark   struct{}
	tuple  []any
	pylist struct{ items []any }
	// pydict keeps the order of its keys; ordered ones are what OrderedDict makes.
	pydict struct {
		keys, values []any
		at           map[string]int // of string keys
		ordered      bool
	}
	// opaque is a plain value nobody looks into: a set, or a number too long for an int64.
	opaque struct{ kind string }
	// storage is a block of values in a file of its own.
	storage struct {
		dtype DType
		key   string
		count int64 // of elements
	}
	// tensor is a view of a storage.
	tensor struct {
		storage        storage
		offset         int64 // of the first element
		shape, strides []int64
	}
)

func (d *pydict) set(key, value any) {
	if s, ok := key.(string); ok {
		if i, there := d.at[s]; there {
			d.values[i] = value
			return
		}
		if d.at == nil {
			d.at = map[string]int{}
		}
		d.at[s] = len(d.keys)
	}
	d.keys = append(d.keys, key)
	d.values = append(d.values, value)
}

// lookup finds the value of a string key; nil if there is none.
func (d *pydict) lookup(key string) any {
	if i, ok := d.at[key]; ok {
		return d.values[i]
	}
	return nil
}

// refusal is the error for everything a pickle could do beyond holding tensors.
func refusal(format string, args ...any) error {
	return fmt.Errorf("refused: pickle %s; only tensors are read (if you trust the file, save its weights alone)", fmt.Sprintf(format, args...))
}

// unpickler is the machine that runs a pickle (Python's pickletools.py documents every operation).
type unpickler struct {
	data  []byte
	pos   int
	stack []any
	memo  map[uint32]any
	steps int
}

// unpickle runs a pickle of protocol 2 to 5 and returns what it holds.
func unpickle(data []byte) (any, error) {
	if len(data) > maxPickle {
		return nil, fmt.Errorf("the pickle has %d bytes, more than the %d allowed", len(data), maxPickle)
	}
	u := &unpickler{data: data, memo: map[uint32]any{}}
	for {
		if u.steps++; u.steps > maxOperations {
			return nil, fmt.Errorf("the pickle has more than the %d operations allowed", maxOperations)
		}
		at := u.pos
		op, err := u.byte()
		if err != nil {
			return nil, err
		}
		if op == '.' {
			return u.stop()
		}
		if err := u.step(op); err != nil {
			return nil, fmt.Errorf("pickle, byte %d: %w", at, err)
		}
	}
}

func (u *unpickler) stop() (any, error) {
	root, err := u.pop()
	if err != nil {
		return nil, fmt.Errorf("pickle, byte %d: %w", u.pos-1, err)
	}
	if len(u.stack) != 0 {
		return nil, fmt.Errorf("the pickle leaves %d values over", len(u.stack))
	}
	return root, nil
}

// take is the next n bytes.
func (u *unpickler) take(n uint64) ([]byte, error) {
	if have := uint64(len(u.data) - u.pos); n > have {
		return nil, fmt.Errorf("truncated: the pickle needs %d more bytes and has %d", n, have)
	}
	b := u.data[u.pos : u.pos+int(n)]
	u.pos += int(n)
	return b, nil
}

func (u *unpickler) byte() (byte, error) {
	b, err := u.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// number reads a little-endian number of n bytes.
func (u *unpickler) number(n uint64) (uint64, error) {
	b, err := u.take(n)
	if err != nil {
		return 0, err
	}
	var wide [8]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint64(wide[:]), nil
}

// counted reads a length of n bytes, and as many bytes as it says.
func (u *unpickler) counted(n uint64) ([]byte, error) {
	length, err := u.number(n)
	if err != nil {
		return nil, err
	}
	return u.take(length)
}

// line reads up to the next newline.
func (u *unpickler) line() (string, error) {
	const longest = 1024
	for i, c := range u.data[u.pos:] {
		if i > longest {
			break
		}
		if c == '\n' {
			s := string(u.data[u.pos : u.pos+i])
			u.pos += i + 1
			return s, nil
		}
	}
	return "", errors.New("a name in the pickle has no end")
}

func (u *unpickler) push(v any) error {
	u.stack = append(u.stack, v)
	return nil
}

var errStack = errors.New("the pickle takes a value that is not there")

func (u *unpickler) pop() (any, error) {
	v, err := u.top()
	if err != nil {
		return nil, err
	}
	if _, is := v.(mark); is {
		return nil, errStack
	}
	u.stack = u.stack[:len(u.stack)-1]
	return v, nil
}

func (u *unpickler) top() (any, error) {
	if len(u.stack) == 0 {
		return nil, errStack
	}
	return u.stack[len(u.stack)-1], nil
}

// popN takes the n topmost values, the lowest first. The result is a copy.
func (u *unpickler) popN(n int) (tuple, error) {
	if len(u.stack) < n {
		return nil, errStack
	}
	out := make(tuple, n)
	for i := n - 1; i >= 0; i-- {
		v, err := u.pop()
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

// popMark takes everything above the topmost mark, and the mark. The result is a copy.
func (u *unpickler) popMark() (tuple, error) {
	for i := len(u.stack) - 1; i >= 0; i-- {
		if _, is := u.stack[i].(mark); is {
			out := append(tuple{}, u.stack[i+1:]...)
			u.stack = u.stack[:i]
			return out, nil
		}
	}
	return nil, errStack
}

// step runs one operation.
func (u *unpickler) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := u.byte()
		if err == nil && (v < 2 || v > 5) {
			err = fmt.Errorf("pickle protocol %d is not read, only 2 to 5", v)
		}
		return err
	case 0x95: // FRAME: only a hint for readers of streams
		_, err := u.take(8)
		return err
	case '(':
		return u.push(mark{})
	case '0': // POP
		if top, err := u.top(); err != nil || top == (any)(mark{}) {
			_, err := u.popMark()
			return err
		}
		_, err := u.pop()
		return err
	case '1': // POP_MARK
		_, err := u.popMark()
		return err
	case '2': // DUP
		v, err := u.top()
		if err != nil {
			return err
		}
		if _, is := v.(mark); is {
			return errStack
		}
		return u.push(v)
	case 'q', 'r', 0x94, 'h', 'j':
		return u.remember(op)
	case 'c', 0x93, 'R', 'b', 'Q', 'i', 'o', 0x81, 0x92, 0x82, 0x83, 0x84, 'P', 0x97, 0x98:
		return u.name(op)
	case ']', 'a', 'e', ')', 't', 0x85, 0x86, 0x87, '}', 's', 'u', 0x8f, 0x90, 0x91:
		return u.container(op)
	}
	return u.literal(op)
}

// remember runs the operations on the memo.
func (u *unpickler) remember(op byte) error {
	width := uint64(1)
	if op == 'r' || op == 'j' {
		width = 4
	}
	key := uint64(len(u.memo)) // MEMOIZE
	if op != 0x94 {
		var err error
		if key, err = u.number(width); err != nil {
			return err
		}
	}
	if op == 'h' || op == 'j' {
		v, ok := u.memo[uint32(key)]
		if !ok {
			return fmt.Errorf("the pickle refers to memo %d, which it has not set", key)
		}
		return u.push(v)
	}
	v, err := u.top()
	if err != nil {
		return err
	}
	if _, is := v.(mark); is {
		return errStack
	}
	u.memo[uint32(key)] = v
	return nil
}

// literal runs the operations that push a plain value.
func (u *unpickler) literal(op byte) error {
	switch op {
	case 'N':
		return u.push(nil)
	case 0x88, 0x89:
		return u.push(op == 0x88)
	case 'K', 'M', 'J':
		n, err := u.number(map[byte]uint64{'K': 1, 'M': 2, 'J': 4}[op])
		if err != nil {
			return err
		}
		if op == 'J' {
			return u.push(int64(int32(n)))
		}
		return u.push(int64(n))
	case 'G': // BINFLOAT is big-endian
		b, err := u.take(8)
		if err != nil {
			return err
		}
		return u.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
	}
	width, text := uint64(0), false
	switch op {
	case 0x8c, 'U':
		width, text = 1, true
	case 'X', 'T':
		width, text = 4, true
	case 0x8d:
		width, text = 8, true
	case 'C', 0x8a:
		width = 1
	case 'B', 0x8b:
		width = 4
	case 0x8e, 0x96:
		width = 8
	default:
		return fmt.Errorf("unknown pickle operation 0x%02x", op)
	}
	b, err := u.counted(width)
	switch {
	case err != nil:
		return err
	case text:
		return u.push(string(b))
	case op == 0x8a || op == 0x8b:
		return u.push(integer(b))
	}
	return u.push(b)
}

// integer decodes a LONG: two's complement, little-endian, of any length.
func integer(b []byte) any {
	if len(b) > 8 {
		return opaque{"a long integer"}
	}
	var wide [8]byte
	copy(wide[:], b)
	if len(b) > 0 && b[len(b)-1]&0x80 != 0 {
		for i := len(b); i < 8; i++ {
			wide[i] = 0xff
		}
	}
	return int64(binary.LittleEndian.Uint64(wide[:]))
}

// container runs the operations on tuples, lists, dictionaries and sets.
func (u *unpickler) container(op byte) error {
	switch op {
	case ']':
		return u.push(&pylist{})
	case '}':
		return u.push(&pydict{})
	case 0x8f:
		return u.push(opaque{"a set"})
	case ')':
		return u.push(tuple{})
	case 0x85, 0x86, 0x87:
		t, err := u.popN(int(op - 0x84))
		if err != nil {
			return err
		}
		return u.push(t)
	}
	var items tuple
	var err error
	switch op {
	case 'a':
		items, err = u.popN(1)
	case 's':
		items, err = u.popN(2)
	default:
		items, err = u.popMark()
	}
	if err != nil {
		return err
	}
	switch op {
	case 't':
		return u.push(items)
	case 0x91:
		return u.push(opaque{"a set"})
	}
	target, err := u.top()
	if err != nil {
		return err
	}
	switch t := target.(type) {
	case *pylist:
		if op == 'a' || op == 'e' {
			t.items = append(t.items, items...)
			return nil
		}
	case *pydict:
		if op == 's' || op == 'u' {
			if len(items)%2 != 0 {
				return errors.New("the pickle sets a key without a value")
			}
			for i := 0; i < len(items); i += 2 {
				t.set(items[i], items[i+1])
			}
			return nil
		}
	case opaque:
		if op == 0x90 {
			return nil
		}
	}
	return fmt.Errorf("the pickle adds items to %s", describe(target))
}

// describe says what a value is, for errors.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "a bool"
	case int64:
		return "an integer"
	case float64:
		return "a number"
	case string:
		return "a string"
	case []byte:
		return "bytes"
	case tuple:
		return "a tuple"
	case *pylist:
		return "a list"
	case *pydict:
		return "a dictionary"
	case opaque:
		return v.kind
	case global:
		return fmt.Sprintf("%q", string(v))
	case storage:
		return "a storage"
	case *tensor:
		return "a tensor"
	}
	return "a mark"
}
