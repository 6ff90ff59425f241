// Package checkpoint reads the tensors of a model checkpoint and nothing else.
//
// A [Reader] names tensors and hands out their values as float32, a range at a
// time, so that a checkpoint of several gigabytes passes through a few megabytes
// of memory. Two formats are read: safetensors and the zip-pickle files that
// torch.save writes; [Open] tells them apart by content. Nothing a pickle names is
// ever executed.
package checkpoint

// DType is the element type a tensor is stored in.
type DType uint8

// Element types a checkpoint may hold.
const (
	Float32 DType = iota + 1
	Float16
	BFloat16
)

// Info describes one tensor.
type Info struct {
	Name  string  // without any wrapper such as "module." or "state_dict."
	DType DType   // as stored; values are always handed out as float32
	Shape []int64 // empty for a scalar; must not be changed
}

// Len is the number of elements of the tensor; 1 for a scalar.
func (i Info) Len() int64 {
	n := int64(1)
	for _, d := range i.Shape {
		n *= d
	}
	return n
}

// Reader gives access to the tensors of a checkpoint. It may be used by several
// goroutines at once. Whoever opened it closes it.
type Reader interface {
	// Tensors lists every tensor in the order of the file.
	Tensors() []Info
	// Lookup finds a tensor by name.
	Lookup(name string) (Info, bool)
	// ReadFloat32 fills dst with consecutive elements of the tensor, row by row,
	// beginning at element offset, converted to float32. It fails, naming the tensor, if it does
	// not exist or the range does not lie inside it.
	ReadFloat32(name string, dst []float32, offset int64) error
	// Close releases the file. No tensor can be read afterwards.
	Close() error
}
