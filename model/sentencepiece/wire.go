package sentencepiece

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// field is one field of a protobuf message, of which each method wants the type it is named after.
type field struct {
	number protowire.Number
	kind   protowire.Type
	value  []byte // as it is encoded
}

// fields calls each for every field of a message.
func fields(message []byte, each func(field) error) error {
	for at := 0; at < len(message); {
		number, kind, tag := protowire.ConsumeTag(message[at:])
		if tag < 0 {
			return fmt.Errorf("field at byte %d of %d: %w", at, len(message), protowire.ParseError(tag))
		}
		size := protowire.ConsumeFieldValue(number, kind, message[at+tag:])
		if size < 0 {
			return fmt.Errorf("field %d at byte %d of %d: %w", number, at, len(message), protowire.ParseError(size))
		}
		begin := at + tag
		if err := each(field{number: number, kind: kind, value: message[begin : begin+size]}); err != nil {
			return err
		}
		at = begin + size
	}
	return nil
}

// want makes sure that the field called name has the type.
func (f field) want(name string, kind protowire.Type) error {
	if f.kind != kind {
		return fmt.Errorf("%s has wire type %d instead of %d", name, f.kind, kind)
	}
	return nil
}

func (f field) bytes(name string) ([]byte, error) {
	if err := f.want(name, protowire.BytesType); err != nil {
		return nil, err
	}
	b, _ := protowire.ConsumeBytes(f.value)
	return b, nil
}

func (f field) text(name string) (string, error) {
	b, err := f.bytes(name)
	return string(b), err
}

// message calls each for every field of the message that the field is.
func (f field) message(name string, each func(field) error) error {
	b, err := f.bytes(name)
	if err != nil {
		return err
	}
	if err := fields(b, each); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (f field) varint(name string) (uint64, error) {
	if err := f.want(name, protowire.VarintType); err != nil {
		return 0, err
	}
	v, _ := protowire.ConsumeVarint(f.value)
	return v, nil
}

func (f field) bool(name string) (bool, error) {
	v, err := f.varint(name)
	return v != 0, err
}

func (f field) float(name string) (float32, error) {
	if err := f.want(name, protowire.Fixed32Type); err != nil {
		return 0, err
	}
	v, _ := protowire.ConsumeFixed32(f.value)
	return math.Float32frombits(v), nil
}
