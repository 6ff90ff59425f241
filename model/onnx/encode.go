package onnx

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of onnx.proto3, named Message_field.
const (
	modelIRVersion, modelProducer, modelGraph, modelOpset, modelMetadata = 1, 2, 7, 8, 14
	opsetDomain, opsetVersion                                            = 1, 2
	entryKey, entryValue                                                 = 1, 2
	graphNode, graphName, graphInitializer, graphInput, graphOutput      = 1, 2, 5, 11, 12
	nodeInput, nodeOutput, nodeName, nodeOp, nodeAttribute, nodeDomain   = 1, 2, 3, 4, 5, 7
	attrName, attrF, attrI, attrS, attrFloats, attrInts, attrType        = 1, 2, 3, 4, 7, 8, 20
	tensorDims, tensorType, tensorName, tensorRaw                        = 1, 2, 8, 9
	tensorExternal, tensorLocation                                       = 13, 14
	valueName, valueType                                                 = 1, 2
	typeTensor, tensorTypeElem, tensorTypeShape                          = 1, 1, 2
	shapeDim, dimValue, dimParam                                         = 1, 1, 2
)

// Values of AttributeProto.AttributeType.
const (
	attrTypeFloat  = 1
	attrTypeInt    = 2
	attrTypeString = 3
	attrTypeFloats = 6
	attrTypeInts   = 7
)

// Encode checks the graph and returns the bytes of the ONNX file. The same graph always gives
// the same bytes.
func (g *Graph) Encode() ([]byte, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	var m []byte
	m = appendInt(m, modelIRVersion, IRVersion)
	m = appendString(m, modelProducer, "toklip")
	for _, domain := range slices.Sorted(maps.Keys(g.domains)) {
		version := int64(Opset)
		if domain != "" {
			version = 1
		}
		var o []byte
		o = appendString(o, opsetDomain, domain)
		o = appendInt(o, opsetVersion, version)
		m = appendMessage(m, modelOpset, o)
	}
	for _, kv := range g.metadata {
		m = appendMessage(m, modelMetadata, encodeEntry(kv[0], kv[1]))
	}

	var b []byte
	for _, n := range g.nodes {
		e, err := encodeNode(n)
		if err != nil {
			return nil, fmt.Errorf("graph %q: %w", g.name, err)
		}
		b = appendMessage(b, graphNode, e)
	}
	b = appendString(b, graphName, g.name)
	for _, t := range g.initializers {
		b = appendMessage(b, graphInitializer, encodeTensor(t))
	}
	for _, v := range g.inputs {
		b = appendMessage(b, graphInput, encodeValue(v))
	}
	for _, v := range g.outputs {
		b = appendMessage(b, graphOutput, encodeValue(v))
	}
	return appendMessage(m, modelGraph, b), nil
}

func encodeNode(n Node) ([]byte, error) {
	var b []byte
	for _, in := range n.Inputs {
		b = appendString(b, nodeInput, in)
	}
	for _, out := range n.Outputs {
		b = appendString(b, nodeOutput, out)
	}
	b = appendString(b, nodeName, n.Name)
	b = appendString(b, nodeOp, n.Op)
	if n.Domain != "" {
		b = appendString(b, nodeDomain, n.Domain)
	}
	for _, a := range n.Attrs {
		e := appendString(nil, attrName, a.Name)
		var kind int64
		switch v := a.Value.(type) {
		case float32:
			kind = attrTypeFloat
			e = appendFloat(e, attrF, v)
		case int64:
			kind = attrTypeInt
			e = appendInt(e, attrI, v)
		case string:
			kind = attrTypeString
			e = appendString(e, attrS, v)
		case []float32:
			kind = attrTypeFloats
			for _, x := range v {
				e = appendFloat(e, attrFloats, x)
			}
		case []int64:
			kind = attrTypeInts
			for _, x := range v {
				e = appendInt(e, attrInts, x)
			}
		default:
			return nil, fmt.Errorf("node %q: attribute %q is a %T", n.Name, a.Name, a.Value)
		}
		e = appendInt(e, attrType, kind)
		b = appendMessage(b, nodeAttribute, e)
	}
	return b, nil
}

func encodeTensor(t Tensor) []byte {
	var b []byte
	for _, d := range t.Shape {
		b = appendInt(b, tensorDims, d)
	}
	b = appendInt(b, tensorType, int64(t.Type))
	b = appendString(b, tensorName, t.Name)
	if t.File == "" {
		return appendMessage(b, tensorRaw, t.Raw)
	}
	b = appendMessage(b, tensorExternal, encodeEntry("location", t.File))
	b = appendMessage(b, tensorExternal, encodeEntry("offset", strconv.FormatInt(t.Offset, 10)))
	b = appendMessage(b, tensorExternal, encodeEntry("length", strconv.FormatInt(t.Length, 10)))
	return appendInt(b, tensorLocation, 1)
}

func encodeValue(v ValueInfo) []byte {
	var shape []byte
	for _, d := range v.Shape {
		var e []byte
		if d.Name != "" {
			e = appendString(e, dimParam, d.Name)
		} else {
			e = appendInt(e, dimValue, d.Size)
		}
		shape = appendMessage(shape, shapeDim, e)
	}
	t := appendInt(nil, tensorTypeElem, int64(v.Type))
	t = appendMessage(t, tensorTypeShape, shape)
	b := appendString(nil, valueName, v.Name)
	return appendMessage(b, valueType, appendMessage(nil, typeTensor, t))
}

func encodeEntry(key, value string) []byte {
	return appendString(appendString(nil, entryKey, key), entryValue, value)
}

func appendInt(b []byte, field protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

func appendFloat(b []byte, field protowire.Number, v float32) []byte {
	return protowire.AppendFixed32(protowire.AppendTag(b, field, protowire.Fixed32Type), math.Float32bits(v))
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendMessage(b []byte, field protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
}
