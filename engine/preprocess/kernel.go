package preprocess

// kernel is the set of inner loops in use. All compute the same bytes.
type kernel uint8

const (
	kernelGeneric kernel = iota
	kernelAVX2
	kernelVNNI
)

// String is the kernel's name.
func (k kernel) String() string { return [...]string{"generic", "avx2", "vnni"}[k] }
