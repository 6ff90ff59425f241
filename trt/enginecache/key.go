package enginecache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// KeyVersion is the version of Key: it is part of every hash and rises when a field is added or
// changes its meaning, so that no plan is taken for what it is not.
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

// normal has empty slices for nil ones: the form that JSON gives back.
func (k Key) normal() Key {
	if k.Weights == nil {
		k.Weights = []string{}
	}
	if k.ComputeCapabilities == nil {
		k.ComputeCapabilities = []int{}
	}
	return k
}

// Hash is the SHA-256, in hex, over "toklip engine key N\n", N being KeyVersion, and the key's JSON
// with all fields in the order of Key, without white space.
func (k Key) Hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "toklip engine key %d\n", KeyVersion)
	b, err := json.Marshal(k.normal())
	if err != nil {
		panic(fmt.Sprintf("enginecache: a key of texts and numbers cannot be encoded: %v", err))
	}
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

// idLength is the number of hex digits in file names.
const idLength = 32

// ID names the entry's files: the first 32 digits of Hash.
func (k Key) ID() string { return k.Hash()[:idLength] }

// difference lists the fields in which two keys differ, as "driver 12040, now 12060".
func (k Key) difference(now Key) string {
	var out []string
	a, b := reflect.ValueOf(k.normal()), reflect.ValueOf(now.normal())
	for i := range a.NumField() {
		if x, y := a.Field(i).Interface(), b.Field(i).Interface(); !reflect.DeepEqual(x, y) {
			name := strings.ReplaceAll(a.Type().Field(i).Tag.Get("json"), "_", " ")
			out = append(out, fmt.Sprintf("%s %v, now %v", name, x, y))
		}
	}
	return strings.Join(out, "; ")
}
