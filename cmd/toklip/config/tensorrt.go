package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// TensorRT says where TensorRT lies, how engines are built and run, and when they are good enough.
type TensorRT struct {
	Shim    string `toml:"shim"`    // path of libtoklip_trt*.so; by default beside toklip, chosen by the version of TensorRT
	NVInfer string `toml:"nvinfer"` // path of libnvinfer or libtensorrt_rtx
	Parser  string `toml:"parser"`  // path of its ONNX parser
	CUDA    string `toml:"cuda"`    // path of libcuda
	Device  int    `toml:"device"`  // ordinal of the GPU

	CacheDir          string   `toml:"cache_dir"`          // folder of built engines; by default the user's cache
	Plans             string   `toml:"plans"`              // folder of plans built elsewhere, looked into before cache_dir; empty: none
	Workspace         Size     `toml:"workspace"`          // most memory a build may use on the GPU; 0: TensorRT's own limit
	OptimizationLevel int      `toml:"optimization_level"` // 0 to 5, -1: TensorRT's own
	VersionCompatible bool     `toml:"version_compatible"` // engines that later versions of this TensorRT can read too
	DLACore           int      `toml:"dla_core"`           // -1: none
	BuildTimeout      Duration `toml:"build_timeout"`      // longest build of one engine

	InFlight  int      `toml:"in_flight"`  // batches under way: 1, 2, or 0 for what the GPU is best at
	CUDAGraph bool     `toml:"cuda_graph"` // replay a batch as one CUDA graph
	Kernels   bool     `toml:"kernels"`    // pre-processing and search on the GPU
	Timeout   Duration `toml:"timeout"`    // a batch that takes longer means the GPU hangs

	// Floors, each 0 for what the precision is known to reach.
	TokenFloor     float64 `toml:"token_floor"`     // least share of tokens equal to the fp32 reference
	FeatureFloor   float64 `toml:"feature_floor"`   // least cosine of any token's features to the reference
	EmbeddingFloor float64 `toml:"embedding_floor"` // least cosine of any embedding to the reference
}

func defaultTensorRT() TensorRT {
	return TensorRT{
		OptimizationLevel: -1, DLACore: -1, BuildTimeout: Duration(time.Hour),
		CUDAGraph: true, Kernels: true, Timeout: Duration(10 * time.Second),
	}
}

func (c *TensorRT) check(bad badFunc, positive func(key string, d Duration, least time.Duration)) {
	between := func(key string, v, least, most int, meaning string) {
		if v < least || v > most {
			bad("engine.tensorrt."+key, "%d is not between %d and %d: %s", v, least, most, meaning)
		}
	}
	between("device", c.Device, 0, 63, "the GPU's number as the driver counts, 0 is the first")
	between("optimization_level", c.OptimizationLevel, -1, 5, "-1 is TensorRT's own, 5 builds longest")
	between("dla_core", c.DLACore, -1, 7, "-1 for none; AGX Orin has cores 0 and 1")
	between("in_flight", c.InFlight, 0, 2, "1 or 2 batches under way, 0 for what the GPU is best at")
	positive("engine.tensorrt.timeout", c.Timeout, 10*time.Millisecond)
	if c.Timeout.Std() > time.Hour {
		bad("engine.tensorrt.timeout", "%s is too long: a GPU that hangs would go unnoticed; at most 1h", c.Timeout.Std())
	}
	positive("engine.tensorrt.build_timeout", c.BuildTimeout, time.Second)
	for _, floor := range []struct {
		key   string
		value float64
	}{
		{"token_floor", c.TokenFloor}, {"feature_floor", c.FeatureFloor}, {"embedding_floor", c.EmbeddingFloor},
	} {
		if !(floor.value >= 0 && floor.value <= 1) {
			bad("engine.tensorrt."+floor.key, "%g is not between 0 (what the precision is known to reach) and 1", floor.value)
		}
	}
}

// Size is a number of bytes written as text: "512MB", "2GB", "0".
type Size uint64

// UnmarshalText reads the text form. Units count in powers of 1000, those with an i in powers of 1024.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := string(text), 1.0
	for _, u := range []struct {
		suffix string
		bytes  float64
	}{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1},
	} {
		if head, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(head), u.bytes
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v >= 0) || v*unit > math.MaxInt64/2 {
		return fmt.Errorf("%q is not a size: write for example \"512MB\", \"2GB\" or \"0\"", text)
	}
	*s = Size(v * unit)
	return nil
}

// MarshalText writes the number of bytes.
func (s Size) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(s), 10), nil }

// Bytes is the size as a number.
func (s Size) Bytes() uint64 { return uint64(s) }
