package tensorrt

import (
	"errors"
	"fmt"
	"slices"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/enginecache"
)

// Auto is the precision that [Precision] chooses by what a model has.
const Auto = "auto"

// Source is a model folder and how it becomes engines. It is plain data.
type Source struct {
	Dir       string
	Manifest  *model.Manifest
	Spec      *engine.Model // shapes; graphs and precision are of another backend
	Precision string        // of the token encoder: fp32, fp16, int8; never Auto

	Batch             int    // most frames in a batch
	Workspace         uint64 // bytes that a build may use on the GPU; 0: TensorRT's own limit
	OptimizationLevel int    // 0 to 5, -1: TensorRT's own
	VersionCompatible bool   // later versions of this TensorRT can read the engines too
	DLACore           int    // core for the tokenizer, -1: none

	// ComputeCapabilities, such as 86, make engines for other machines' GPUs (TensorRT for RTX).
	ComputeCapabilities []int
}

// Precision is what runs where wanted is asked for: Auto is fp16 if the model has it for TensorRT, else fp32.
func Precision(m *model.Manifest, wanted string) string {
	if wanted != Auto {
		return wanted
	}
	if _, err := m.Graph(model.RoleEncoder, model.FP16, model.BackendTensorRT); err == nil {
		return model.FP16
	}
	return model.FP32
}

// Network is one graph of a model that becomes an engine.
type Network struct {
	Role      string
	Precision string
	ONNX      string // path of the graph
	Key       enginecache.Key
	Plan      string // file that it was loaded from; empty: the cache
}

// String reads "tokenizer in fp16".
func (n Network) String() string { return n.Role + " in " + n.Precision }

// Networks are the graphs that TensorRT runs for these roles, with the keys that engines of this machine have.
func (m *Machine) Networks(s Source, roles ...string) ([]Network, error) {
	var all []Network
	for _, role := range roles {
		g, err := s.graph(role)
		if err != nil {
			return nil, err
		}
		n := Network{Role: role, Precision: g.Precision, ONNX: g.File.Path(s.Dir)}
		n.Key = m.key(s, g)
		all = append(all, n)
	}
	return all, nil
}

// graph is what runs for a role: beside an int8 encoder a tokenizer in fp16, since tokens need more than int8; the
// decoder in fp32.
func (s Source) graph(role string) (model.Graph, error) {
	wanted := []string{s.Precision}
	switch {
	case role == model.RoleDecoder:
		wanted = []string{model.FP32}
	case role == model.RoleTokenizer && s.Precision == model.Int8:
		wanted = []string{model.FP16, model.FP32}
	}
	var errs []error
	for _, precision := range wanted {
		g, err := s.Manifest.Graph(role, precision, model.BackendTensorRT)
		if err == nil {
			return g, nil
		}
		errs = append(errs, err)
	}
	if !slices.ContainsFunc(s.Manifest.Graphs, func(g model.Graph) bool { return g.Role == role && slices.Contains(g.Backends, model.BackendTensorRT) }) {
		// Folders of earlier versions: their tokenizer is for ONNX Runtime alone.
		return model.Graph{}, fmt.Errorf("%w: import the checkpoint again, with --precision %s,%s", errs[0], model.FP32, model.FP16)
	}
	return model.Graph{}, errs[0]
}

func (m *Machine) key(s Source, g model.Graph) enginecache.Key {
	k := enginecache.Key{
		ONNX: g.File.SHA256, Weights: []string{}, Role: g.Role, Precision: g.Precision,
		Family: m.info.Family, Version: m.info.Version.String(), ABI: m.info.ABI, DLACore: -1,
		BatchMin: 1, BatchOpt: s.Batch, BatchMax: s.Batch, Workspace: s.Workspace, OptimizationLevel: s.OptimizationLevel,
		// Only the networks of TensorRT 8 are not strongly typed.
		FP16: m.info.Family == "trt8" && g.Precision != model.FP32, VersionCompatible: s.VersionCompatible,
		ComputeCapabilities: s.ComputeCapabilities,
	}
	for _, w := range g.Data {
		k.Weights = append(k.Weights, w.SHA256)
	}
	if g.Role == model.RoleTokenizer {
		k.DLACore = s.DLACore
	}
	if g.Role == model.RoleDecoder {
		k.BatchOpt, k.BatchMax = 1, 1
	}
	if len(s.ComputeCapabilities) == 0 && m.device != nil {
		k.GPU, k.SM, k.Driver = m.device.Name, m.device.SM, m.device.Driver
	}
	return k
}

// options are the binding's, to build what the key says.
func (n Network) options() trt.BuildOptions {
	o := trt.DefaultBuildOptions()
	o.ONNX = n.ONNX
	o.BatchMin, o.BatchOpt, o.BatchMax = n.Key.BatchMin, n.Key.BatchOpt, n.Key.BatchMax
	o.Workspace, o.OptimizationLevel, o.DLACore = n.Key.Workspace, n.Key.OptimizationLevel, n.Key.DLACore
	o.FP16, o.VersionCompatible = n.Key.FP16, n.Key.VersionCompatible
	o.ComputeCapabilities = n.Key.ComputeCapabilities
	return o
}

// spec is the model as the backend describes it.
func (s Source) spec(networks []Network) *engine.Model {
	spec := *s.Spec
	spec.Precision, spec.Tokenizer, spec.Encoder = s.Precision, "", ""
	for _, n := range networks {
		switch n.Role {
		case model.RoleTokenizer:
			spec.Tokenizer = n.ONNX
		case model.RoleEncoder:
			spec.Encoder = n.ONNX
		}
	}
	return &spec
}

// Missing is the error of engines that have to be built first.
type Missing struct {
	Networks []Network
	Damaged  bool    // TensorRT refuses what the cache takes for good: it has to be replaced
	Why      []error // for each of them; most are of type *enginecache.Unusable
}

func (e *Missing) Error() string {
	return fmt.Sprintf("build engines: %v", errors.Join(e.Why...))
}

// Unwrap gives the reasons.
func (e *Missing) Unwrap() []error { return e.Why }
