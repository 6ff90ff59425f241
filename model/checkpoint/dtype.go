package checkpoint

import "fmt"

// Element types that may lie beside the weights. They are listed, so that a checkpoint holding them opens,
// but reading such a tensor is an error that names it.
const (
	Float64 DType = iota + BFloat16 + 1
	Int64
	Int32
	Int16
	Int8
	Uint64
	Uint32
	Uint16
	Uint8
	Bool
	Complex64
	Complex128
	Float8E4M3
	Float8E5M2
	Float8E8M0
	Float6E2M3
	Float6E3M2
	Float4
)

// dtypeInfo is what is known of an element type.
type dtypeInfo struct {
	name        string // as errors call it
	safetensors string // in a safetensors header; empty if that format lacks it
	bits        int64
}

// info describes the type; the zero value for one that does not exist.
func (d DType) info() dtypeInfo {
	switch d {
	case Float32:
		return dtypeInfo{"float32", "F32", 32}
	case Float16:
		return dtypeInfo{"float16", "F16", 16}
	case BFloat16:
		return dtypeInfo{"bfloat16", "BF16", 16}
	case Float64:
		return dtypeInfo{"float64", "F64", 64}
	case Int64:
		return dtypeInfo{"int64", "I64", 64}
	case Int32:
		return dtypeInfo{"int32", "I32", 32}
	case Int16:
		return dtypeInfo{"int16", "I16", 16}
	case Int8:
		return dtypeInfo{"int8", "I8", 8}
	case Uint64:
		return dtypeInfo{"uint64", "U64", 64}
	case Uint32:
		return dtypeInfo{"uint32", "U32", 32}
	case Uint16:
		return dtypeInfo{"uint16", "U16", 16}
	case Uint8:
		return dtypeInfo{"uint8", "U8", 8}
	case Bool:
		return dtypeInfo{"bool", "BOOL", 8}
	case Complex64:
		return dtypeInfo{"complex64", "C64", 64}
	case Complex128:
		return dtypeInfo{"complex128", "", 128}
	case Float8E4M3:
		return dtypeInfo{"float8_e4m3", "F8_E4M3", 8}
	case Float8E5M2:
		return dtypeInfo{"float8_e5m2", "F8_E5M2", 8}
	case Float8E8M0:
		return dtypeInfo{"float8_e8m0", "F8_E8M0", 8}
	case Float6E2M3:
		return dtypeInfo{"float6_e2m3", "F6_E2M3", 6}
	case Float6E3M2:
		return dtypeInfo{"float6_e3m2", "F6_E3M2", 6}
	case Float4:
		return dtypeInfo{"float4", "F4", 4}
	}
	return dtypeInfo{}
}

// String names the type as PyTorch does: "float32", "bfloat16".
func (d DType) String() string {
	if name := d.info().name; name != "" {
		return name
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// Readable says whether tensors of this type can be read as float32: float32, float16 and bfloat16 can.
func (d DType) Readable() bool { return d == Float32 || d == Float16 || d == BFloat16 }

// Size is the number of bytes of one element; 0 for types smaller than a byte.
func (d DType) Size() int64 { return d.info().bits / 8 }

// safetensorsDType finds the type a safetensors header names.
func safetensorsDType(name string) (DType, bool) {
	for d := Float32; d <= Float4; d++ {
		if name != "" && d.info().safetensors == name {
			return d, true
		}
	}
	return 0, false
}
