package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// Model is an ONNX file as far as this package reads it: structure, not weights.
type Model struct {
	IRVersion    int64
	Producer     string
	Opsets       map[string]int64 // version of each operator domain; the standard one is ""
	Metadata     map[string]string
	Graph        string // name
	Inputs       []ValueInfo
	Outputs      []ValueInfo
	Nodes        []Node
	Initializers []Tensor // Raw only for small ones that carry raw bytes
}

// Ops counts the nodes by operator; those outside the standard domain are called "domain.Op".
func (m *Model) Ops() map[string]int {
	ops := map[string]int{}
	for _, n := range m.Nodes {
		name := n.Op
		if n.Domain != "" {
			name = n.Domain + "." + n.Op
		}
		ops[name]++
	}
	return ops
}

// maxFile is the largest graph that is read: weights belong into a data file.
const maxFile = 256 << 20

// ReadFile reads an ONNX file whose weights lie in data files.
func ReadFile(path string) (*Model, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read graph: %w", err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("read graph %q: %d bytes are more than the %d this program reads; its weights are not in a file of their own",
			path, info.Size(), int64(maxFile))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read graph: %w", err)
	}
	m, err := Decode(b)
	if err != nil {
		return nil, fmt.Errorf("read graph %q: %w", path, err)
	}
	return m, nil
}

// Decode reads an ONNX file from memory. It never keeps b.
func Decode(b []byte) (*Model, error) {
	m := &Model{Opsets: map[string]int64{}, Metadata: map[string]string{}}
	graphs := 0
	err := fields(b, func(f field) error {
		switch f.number {
		case modelIRVersion:
			m.IRVersion = int64(f.varint)
		case modelProducer:
			m.Producer = string(f.bytes)
		case modelOpset:
			var domain string
			var version int64
			err := fields(f.bytes, func(f field) error {
				switch f.number {
				case opsetDomain:
					domain = string(f.bytes)
				case opsetVersion:
					version = int64(f.varint)
				}
				return nil
			})
			m.Opsets[domain] = version
			return err
		case modelMetadata:
			key, value, err := decodeEntry(f.bytes)
			m.Metadata[key] = value
			return err
		case modelGraph:
			if !f.packed {
				return errors.New("the graph is a number")
			}
			graphs++
			return m.decodeGraph(f.bytes)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("this is no ONNX file or a damaged one: %w", err)
	}
	if graphs != 1 || m.IRVersion < 1 {
		return nil, fmt.Errorf("this is no ONNX file: %d graphs, IR version %d", graphs, m.IRVersion)
	}
	return m, nil
}

func (m *Model) decodeGraph(b []byte) error {
	return fields(b, func(f field) error {
		switch f.number {
		case graphName:
			m.Graph = string(f.bytes)
		case graphNode:
			n, err := decodeNode(f.bytes)
			m.Nodes = append(m.Nodes, n)
			return err
		case graphInitializer:
			t, err := decodeTensor(f.bytes)
			m.Initializers = append(m.Initializers, t)
			return err
		case graphInput, graphOutput:
			v, err := decodeValue(f.bytes)
			if f.number == graphInput {
				m.Inputs = append(m.Inputs, v)
			} else {
				m.Outputs = append(m.Outputs, v)
			}
			return err
		}
		return nil
	})
}

func decodeNode(b []byte) (Node, error) {
	var n Node
	err := fields(b, func(f field) error {
		switch f.number {
		case nodeInput:
			n.Inputs = append(n.Inputs, string(f.bytes))
		case nodeOutput:
			n.Outputs = append(n.Outputs, string(f.bytes))
		case nodeName:
			n.Name = string(f.bytes)
		case nodeOp:
			n.Op = string(f.bytes)
		case nodeDomain:
			n.Domain = string(f.bytes)
		case nodeAttribute:
			a, err := decodeAttr(f.bytes)
			n.Attrs = append(n.Attrs, a)
			return err
		}
		return nil
	})
	return n, err
}

// decodeAttr reads an attribute of the kinds that Attr has; of others the value is nil.
func decodeAttr(b []byte) (Attr, error) {
	var a Attr
	var kind uint64
	var single int64
	var number float32
	var text string
	var ints []int64
	var floats []float32
	err := fields(b, func(f field) error {
		switch f.number {
		case attrName:
			a.Name = string(f.bytes)
		case attrType:
			kind = f.varint
		case attrI:
			single = int64(f.varint)
		case attrF:
			number = math.Float32frombits(uint32(f.varint))
		case attrS:
			text = string(f.bytes)
		case attrInts:
			return f.ints(&ints)
		case attrFloats:
			return f.floats(&floats)
		}
		return nil
	})
	switch kind {
	case attrTypeInt:
		a.Value = single
	case attrTypeFloat:
		a.Value = number
	case attrTypeString:
		a.Value = text
	case attrTypeInts:
		a.Value = ints
	case attrTypeFloats:
		a.Value = floats
	}
	return a, err
}

func decodeTensor(b []byte) (Tensor, error) {
	const small = 4096
	var t Tensor
	err := fields(b, func(f field) error {
		switch f.number {
		case tensorDims:
			return f.ints(&t.Shape)
		case tensorType:
			t.Type = DType(f.varint)
		case tensorName:
			t.Name = string(f.bytes)
		case tensorRaw:
			t.Length = int64(len(f.bytes)) // also of those whose values are not kept
			if len(f.bytes) <= small {
				t.Raw = append([]byte{}, f.bytes...)
			}
		case tensorExternal:
			key, value, err := decodeEntry(f.bytes)
			if err != nil {
				return err
			}
			switch key {
			case "location":
				t.File = value
			case "offset":
				t.Offset, err = strconv.ParseInt(value, 10, 64)
			case "length":
				t.Length, err = strconv.ParseInt(value, 10, 64)
			}
			return err
		}
		return nil
	})
	return t, err
}

func decodeValue(b []byte) (ValueInfo, error) {
	var v ValueInfo
	err := fields(b, func(f field) error {
		switch f.number {
		case valueName:
			v.Name = string(f.bytes)
		case valueType:
			return fields(f.bytes, func(f field) error {
				if f.number != typeTensor {
					return nil
				}
				return fields(f.bytes, func(f field) error {
					switch f.number {
					case tensorTypeElem:
						v.Type = DType(f.varint)
					case tensorTypeShape:
						return fields(f.bytes, func(f field) error {
							var d Dim
							err := fields(f.bytes, func(f field) error {
								switch f.number {
								case dimValue:
									d.Size = int64(f.varint)
								case dimParam:
									d.Name = string(f.bytes)
								}
								return nil
							})
							v.Shape = append(v.Shape, d)
							return err
						})
					}
					return nil
				})
			})
		}
		return nil
	})
	return v, err
}

func decodeEntry(b []byte) (key, value string, err error) {
	err = fields(b, func(f field) error {
		switch f.number {
		case entryKey:
			key = string(f.bytes)
		case entryValue:
			value = string(f.bytes)
		}
		return nil
	})
	return key, value, err
}

// field is one field of a message: a number (varint, or the bits of a float) or bytes, by its wire type.
type field struct {
	number protowire.Number
	varint uint64
	bytes  []byte
	packed bool // bytes rather than a number
}

// ints appends a repeated integer, packed or not.
func (f field) ints(dst *[]int64) error {
	if !f.packed {
		*dst = append(*dst, int64(f.varint))
		return nil
	}
	for b := f.bytes; len(b) > 0; {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		*dst = append(*dst, int64(v))
		b = b[n:]
	}
	return nil
}

// floats appends a repeated float, packed or not.
func (f field) floats(dst *[]float32) error {
	if !f.packed {
		*dst = append(*dst, math.Float32frombits(uint32(f.varint)))
		return nil
	}
	if len(f.bytes)%4 != 0 {
		return errors.New("a list of floats that is cut off")
	}
	for b := f.bytes; len(b) > 0; b = b[4:] {
		*dst = append(*dst, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return nil
}

// fields calls visit for every field of a message. Groups, which ONNX never uses, are errors.
func fields(b []byte, visit func(field) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		f := field{number: number}
		switch kind {
		case protowire.VarintType:
			f.varint, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
			f.packed = true
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f.varint = uint64(v)
		case protowire.Fixed64Type:
			_, n = protowire.ConsumeFixed64(b)
		default:
			return errors.New("a field of a type that ONNX does not use")
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}
