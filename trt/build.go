package trt

// Compatibility says which GPUs a plan must run on.
type Compatibility int32

const (
	ThisDevice     Compatibility = 0 // the very GPU it was built on
	SameCapability Compatibility = 1 // GPUs of the same compute capability (TensorRT 10.9 and later)
	AmperePlus     Compatibility = 2 // Ampere and newer (8.6 and later; not on Jetson)
)

// BuildOptions say what to build and how. Begin with DefaultBuildOptions.
type BuildOptions struct {
	ONNX        string // the model; its weights lie beside it
	Plan        string // written when all went well; an existing file is replaced
	TimingCache string // read if it is there, written afterwards; empty: none
	Layers      string // the engine inspector's JSON is written there, if there is a GPU; empty: not

	BatchMin, BatchOpt, BatchMax int // of the first dimension of every input

	Workspace           uint64 // bytes; 0: TensorRT's own limit
	OptimizationLevel   int    // 0 to 5, -1: TensorRT's own; 8.6 and later
	Threads             int    // 0: TensorRT's own
	DLACore             int    // -1: none; else what can runs there, the rest on the GPU
	FP16                bool   // TensorRT 8 only: allow FP16 where the graph says so
	VersionCompatible   bool   // later versions of this major can read the plan too (8.6 and later)
	Compatibility       Compatibility
	ComputeCapabilities []int // TensorRT for RTX: such as 86, 89; nil: portable
}

// DefaultBuildOptions are a batch of 1, no DLA, and TensorRT's own choices.
func DefaultBuildOptions() BuildOptions {
	return BuildOptions{BatchMin: 1, BatchOpt: 1, BatchMax: 1, OptimizationLevel: -1, DLACore: -1}
}

// Progress says how far a build is.
type Progress struct {
	Phase    string  `json:"phase"`    // what TensorRT is doing, in its words; empty before it begins
	Fraction float64 `json:"fraction"` // of the whole, 0 to 1, never falling; negative: this TensorRT does not tell (8.x)
}

// Network describes a parsed model.
type Network struct {
	Inputs  []TensorInfo `json:"inputs"`
	Outputs []TensorInfo `json:"outputs"`
	Layers  int          `json:"layers"`
}

// TensorInfo describes an input or output.
type TensorInfo struct {
	Name  string  `json:"name"`
	Type  string  `json:"type"` // "fp32", "fp16", "int32", "int8", "uint8", "bool" or "int64"
	Shape []int64 `json:"shape"`
}
