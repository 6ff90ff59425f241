package checkpoint

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// global is a name out of a Python module that a pickle may use. Its meaning is built in here.
type global string

// Globals that are understood. Every other one is refused when it is named, before anything is done with it.
const (
	orderedDict        global = "collections.OrderedDict"
	rebuildTensor      global = "torch._utils._rebuild_tensor"
	rebuildTensorV2    global = "torch._utils._rebuild_tensor_v2"
	rebuildParameter   global = "torch._utils._rebuild_parameter"
	rebuildWithState   global = "torch._utils._rebuild_parameter_with_state"
	torchSize          global = "torch.Size"
	builtinSet         global = "builtins.set"
	builtinFrozenSet   global = "builtins.frozenset"
	builtinSetPy2      global = "__builtin__.set" // protocol 2 writes Python 2's names
	builtinFrozenSetP2 global = "__builtin__.frozenset"
)

// storageDType is the element type of a storage class of torch.
func storageDType(name global) (DType, bool) {
	class, ok := strings.CutPrefix(string(name), "torch.")
	if !ok {
		return 0, false
	}
	switch class {
	case "FloatStorage":
		return Float32, true
	case "HalfStorage":
		return Float16, true
	case "BFloat16Storage":
		return BFloat16, true
	case "DoubleStorage":
		return Float64, true
	case "LongStorage":
		return Int64, true
	case "IntStorage":
		return Int32, true
	case "ShortStorage":
		return Int16, true
	case "CharStorage":
		return Int8, true
	case "ByteStorage":
		return Uint8, true
	case "BoolStorage":
		return Bool, true
	case "ComplexFloatStorage":
		return Complex64, true
	case "ComplexDoubleStorage":
		return Complex128, true
	}
	return 0, false
}

// known finds a global, or refuses it.
func known(module, name string) (global, error) {
	g := global(module + "." + name)
	switch g {
	case orderedDict, rebuildTensor, rebuildTensorV2, rebuildParameter, rebuildWithState, torchSize,
		builtinSet, builtinFrozenSet, builtinSetPy2, builtinFrozenSetP2:
		return g, nil
	}
	if _, ok := storageDType(g); ok {
		return g, nil
	}
	return "", refusal("names %q", string(g))
}

// name runs the operations that in Python import, call and make things.
func (u *unpickler) name(op byte) error {
	switch op {
	case 'c', 'i': // GLOBAL, INST
		module, err := u.line()
		if err != nil {
			return err
		}
		name, err := u.line()
		if err != nil {
			return err
		}
		g, err := known(module, name)
		if err != nil {
			return err
		}
		if op == 'i' {
			return refusal("makes an object of %q", string(g))
		}
		return u.push(g)
	case 0x93: // STACK_GLOBAL
		parts, err := u.popN(2)
		if err != nil {
			return err
		}
		module, ok1 := parts[0].(string)
		name, ok2 := parts[1].(string)
		if !ok1 || !ok2 {
			return refusal("names something by %s and %s", describe(parts[0]), describe(parts[1]))
		}
		g, err := known(module, name)
		if err != nil {
			return err
		}
		return u.push(g)
	case 'R':
		args, err := u.popN(2)
		if err != nil {
			return err
		}
		v, err := call(args[0], args[1])
		if err != nil {
			return u.about(err)
		}
		return u.push(v)
	case 'b': // BUILD: state_dict() leaves its versions as an attribute of the OrderedDict, which is dropped
		if _, err := u.pop(); err != nil {
			return err
		}
		target, err := u.top()
		if err != nil {
			return err
		}
		if d, ok := target.(*pydict); ok && d.ordered {
			return nil
		}
		return refusal("sets the state of %s", describe(target))
	case 'Q': // BINPERSID
		id, err := u.pop()
		if err != nil {
			return err
		}
		s, err := persistent(id)
		if err != nil {
			return u.about(err)
		}
		return u.push(s)
	case 0x81, 0x92, 'o': // NEWOBJ, NEWOBJ_EX, OBJ
		return u.refuseObject(op)
	case 0x82, 0x83, 0x84: // EXT1, EXT2, EXT4
		return refusal("uses a registered extension (operation 0x%02x)", op)
	case 'P': // PERSID
		id, err := u.line()
		if err != nil {
			return err
		}
		return refusal("refers to %q outside of it", id)
	}
	return refusal("takes a buffer from outside of it (operation 0x%02x)", op)
}

// about adds the name of the tensor that is being made, if a key waits for it on the stack.
func (u *unpickler) about(err error) error {
	for i := len(u.stack) - 1; i >= 0; i-- {
		if key, ok := u.stack[i].(string); ok {
			return fmt.Errorf("tensor %q: %w", key, err)
		}
	}
	return err
}

// refuseObject names the class of an object that is not made.
func (u *unpickler) refuseObject(op byte) error {
	var args tuple
	var err error
	switch op {
	case 'o':
		args, err = u.popMark()
	case 0x92:
		args, err = u.popN(3)
	default:
		args, err = u.popN(2)
	}
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return errStack
	}
	return refusal("makes an object of %s", describe(args[0]))
}

// call does what the known globals do when Python calls them.
func call(callee, arg any) (any, error) {
	g, ok := callee.(global)
	if !ok {
		return nil, refusal("calls %s", describe(callee))
	}
	args, ok := arg.(tuple)
	if !ok {
		return nil, fmt.Errorf("%s is called with %s instead of a tuple", g, describe(arg))
	}
	switch g {
	case orderedDict: // always empty: its items follow as SETITEMS
		if len(args) != 0 {
			return nil, fmt.Errorf("%s: no arguments are expected", g)
		}
		return &pydict{ordered: true}, nil
	case rebuildTensor, rebuildTensorV2:
		t, err := rebuild(args)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", g, err)
		}
		return t, nil
	case rebuildParameter, rebuildWithState:
		if len(args) > 0 {
			if t, ok := args[0].(*tensor); ok {
				return t, nil
			}
		}
		return nil, fmt.Errorf("%s: the first argument must be a tensor", g)
	case torchSize:
		if len(args) == 1 {
			if size, ok := args[0].(tuple); ok {
				return size, nil
			}
		}
		return nil, fmt.Errorf("%s: a tuple is expected", g)
	case builtinSet, builtinFrozenSet, builtinSetPy2, builtinFrozenSetP2:
		return opaque{"a set"}, nil
	}
	return nil, refusal("calls %q", string(g))
}

// persistent is the storage behind ("storage", class, key, location, elements).
func persistent(id any) (storage, error) {
	t, ok := id.(tuple)
	if !ok || len(t) < 5 || t[0] != any("storage") {
		return storage{}, refusal("refers to %s outside of it, which is no storage", describe(id))
	}
	class, ok1 := t[1].(global)
	key, ok2 := t[2].(string)
	count, ok3 := t[4].(int64)
	if !ok1 || !ok2 || !ok3 {
		return storage{}, fmt.Errorf("a storage is described by %s, %s, %s instead of its class, its key and its length",
			describe(t[1]), describe(t[2]), describe(t[4]))
	}
	dtype, ok := storageDType(class)
	if !ok {
		return storage{}, fmt.Errorf("%s is no class of storage", class)
	}
	if count < 0 || count >= maxElements {
		return storage{}, fmt.Errorf("storage %q has an impossible length of %d elements", key, count)
	}
	return storage{dtype, key, count}, nil
}

// rebuild is the tensor behind (storage, offset, shape, strides, …).
func rebuild(args tuple) (*tensor, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("%d arguments, at least 4 are expected", len(args))
	}
	s, ok := args[0].(storage)
	if !ok {
		return nil, fmt.Errorf("%s instead of a storage", describe(args[0]))
	}
	offset, ok := args[1].(int64)
	if !ok || offset < 0 {
		return nil, errors.New("the offset is no whole number from 0 on")
	}
	shape, err := integers(args[2])
	if err != nil {
		return nil, fmt.Errorf("shape: %w", err)
	}
	strides, err := integers(args[3])
	if err != nil {
		return nil, fmt.Errorf("strides: %w", err)
	}
	if len(shape) != len(strides) {
		return nil, fmt.Errorf("shape %v and strides %v differ in length", shape, strides)
	}
	t := &tensor{storage: s, offset: offset, shape: shape, strides: strides}
	return t, t.check()
}

func integers(v any) ([]int64, error) {
	t, ok := v.(tuple)
	if l, is := v.(*pylist); is {
		t, ok = l.items, true
	}
	if !ok {
		return nil, fmt.Errorf("%s instead of a tuple", describe(v))
	}
	if len(t) > maxDims {
		return nil, fmt.Errorf("%d dimensions are more than the %d allowed", len(t), maxDims)
	}
	out := make([]int64, len(t))
	for i, item := range t {
		if out[i], ok = item.(int64); !ok || out[i] < 0 {
			return nil, errors.New("no whole numbers from 0 on")
		}
	}
	return out, nil
}

// check makes sure that the view lies inside of its storage and shows no more than is there.
func (t *tensor) check() error {
	n, err := elements(t.shape)
	if err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	if n > t.storage.count {
		return fmt.Errorf("shape %v needs %d elements, storage %q has %d", t.shape, n, t.storage.key, t.storage.count)
	}
	last := uint64(t.offset)
	for d, size := range t.shape {
		hi, span := bits.Mul64(uint64(size-1), uint64(t.strides[d]))
		if last += span; hi != 0 || span >= maxElements || last >= maxElements {
			last = maxElements
			break
		}
	}
	if last >= uint64(t.storage.count) {
		return fmt.Errorf("shape %v with strides %v from element %d on reaches beyond storage %q, which has %d elements",
			t.shape, t.strides, t.offset, t.storage.key, t.storage.count)
	}
	return nil
}

// contiguous says whether the elements lie row by row without gaps. Dimensions of one element may have any
// stride, and so may all where there is no element.
func (t *tensor) contiguous() bool {
	if slices.Contains(t.shape, 0) {
		return true
	}
	want := int64(1)
	for d := len(t.shape) - 1; d >= 0; d-- {
		if t.shape[d] != 1 && t.strides[d] != want {
			return false
		}
		want *= t.shape[d]
	}
	return true
}
