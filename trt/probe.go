package trt

// Found is what Probe found out about a machine. Nothing in it is an error: what is missing is told
// in Missing, for people.
type Found struct {
	// Use is the index in Libraries of what Open takes, -1 if there is nothing to open.
	Use int `json:"use"`
	// Libraries are the TensorRT libraries that were looked for, in the order of preference.
	Libraries []FoundLibrary `json:"libraries"`
	// Driver is the CUDA driver.
	Driver FoundDriver `json:"driver"`
	// Missing says, each in a sentence or two, what keeps TensorRT from being used and what to do
	// about it. Empty when Use is not -1 and there is a driver.
	Missing []string `json:"missing"`
}

// FoundLibrary is one TensorRT library that was looked for.
type FoundLibrary struct {
	Name      string   `json:"name"`       // soname, or the path that was given
	Family    string   `json:"family"`     // of its shim: "trt8", "trt10", "trt11", "rtx"; empty if unknown
	Path      string   `json:"path"`       // of the file; empty if it could not be opened
	Version   Version  `json:"version"`    // zero if it could not be opened
	Problem   string   `json:"problem"`    // why it cannot be used; empty if it can
	Shim      string   `json:"shim"`       // path of the shim that fits; empty if there is none
	ShimNames []string `json:"shim_names"` // where the shim was looked for
}

// FoundDriver is the CUDA driver of a machine.
type FoundDriver struct {
	Path    string `json:"path"`    // of libcuda; empty if there is none
	Version int    `json:"version"` // of CUDA: 12060 is 12.6; 0 if it does not tell
	Problem string `json:"problem"` // why it could not be opened
}

// Probe looks for TensorRT, the shim that fits it, and the driver, and opens nothing for good. It
// asks every library it can open for its version, in this order of preference:
//
//   - Options.TensorRT, if given; then nothing else counts,
//   - libnvinfer.so.11, libnvinfer.so.10, libnvinfer.so.8: the newest first,
//   - libtensorrt_rtx.so.1: TensorRT for RTX, last because it compiles its kernels at the first run.
//
// The shim is libtoklip_trt11.so, libtoklip_trt10.so, libtoklip_trt8.so or libtoklip_trt_rtx.so,
// looked for in the program's folder, in lib beside it, in ../lib, and last where the dynamic
// loader looks. With Options.Shim or ShimVariable only that shim counts.
func Probe(o Options) Found { return Found{Use: -1} }
