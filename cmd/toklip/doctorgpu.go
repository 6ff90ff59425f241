package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/trt"
)

// examineTensorRT looks for what running on a GPU needs. Nothing of it is needed to run at all.
func examineTensorRT(o tensorrt.Options) []finding {
	found := trt.Probe(o.Library())
	return append([]finding{examineDriver(found), examineLibrary(found)}, append(examineGPU(o, found), examineEngines(o))...)
}

func examineDriver(found trt.Found) finding {
	f := finding{Check: "NVIDIA driver", State: "ok"}
	d := found.Driver
	switch {
	case d.Path == "":
		f.State, f.Found = "note", "none: ONNX Runtime runs the model on the CPU"
		for _, device := range []string{"/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu"} {
			if _, err := os.Stat(device); err == nil {
				f.Found = fmt.Sprintf("%s is there, but libcuda.so.1 is not found", device)
				f.Remedy = "install the driver's user-space libraries; in a container start it with the NVIDIA runtime"
			}
		}
	case d.Problem != "":
		f.State, f.Found, f.Remedy = "note", d.Path+": "+d.Problem, "reinstall the driver, or reboot if it was just updated"
	case d.Version == 0:
		f.Found = d.Path
	default:
		f.Found = fmt.Sprintf("CUDA %d.%d at %s", d.Version/1000, d.Version%1000/10, d.Path)
	}
	return f
}

func examineLibrary(found trt.Found) finding {
	f := finding{Check: "TensorRT", State: "ok"}
	if found.Use >= 0 {
		l := found.Libraries[found.Use]
		f.Found = fmt.Sprintf("%s at %s, driven by %s", l.Version, l.Path, l.Shim)
		if l.Path == "" {
			f.Found = "driven by " + l.Shim
		}
		return f
	}
	f.State = "note"
	var have []string
	for _, l := range found.Libraries {
		if l.Path != "" {
			have = append(have, fmt.Sprintf("%s %s: %s", l.Path, l.Version, l.Problem))
		}
	}
	f.Found = "not installed"
	if len(have) > 0 {
		f.Found = strings.Join(have, "; ")
	}
	f.Remedy = strings.Join(found.Missing, " ")
	return f
}

// examineGPU opens TensorRT and the GPU.
func examineGPU(o tensorrt.Options, found trt.Found) []finding {
	if found.Use < 0 {
		return nil
	}
	gpu := finding{Check: "GPU", State: "ok"}
	machine, err := tensorrt.Open(o)
	if err != nil {
		gpu.State, gpu.Found = "note", err.Error()
		if errors.Is(err, trt.ErrABIMismatch) || errors.Is(err, trt.ErrWrongVersion) {
			gpu.Remedy = "build the shim again for this TensorRT: make trt"
		}
		return []finding{gpu}
	}
	defer machine.Close()
	d := machine.Device()
	kind := "discrete"
	if d.Integrated {
		kind = "integrated"
	}
	gpu.Found = fmt.Sprintf("%s, %s, %s of memory", machine.DeviceName(), kind, byteSize(int64(d.MemoryTotal)))
	if d.DLACores > 0 {
		gpu.Found += ", " + plural(d.DLACores, "DLA core")
	}
	kernels := finding{Check: "CUDA kernels", State: "ok", Found: fmt.Sprintf("for %s: pre-processing and codebook search run on the GPU", machine.Info().Kernels)}
	if !d.Kernels {
		kernels.State = "note"
		kernels.Found = fmt.Sprintf("none for sm_%d in %s: pre-processing and codebook search run on the CPU", d.SM, machine.Info().Shim)
		kernels.Remedy = "build the shim on this machine with CUDA's nvcc installed: make trt"
	}
	return []finding{gpu, kernels}
}

func examineEngines(o tensorrt.Options) finding {
	f := finding{Check: "engine cache", State: "ok"}
	cache, err := o.Cache()
	if err != nil {
		f.State, f.Found = "note", err.Error()
		f.Remedy = "name a folder that can be written: cache_dir in [engine.tensorrt], or --cache-dir"
		return f
	}
	entries, err := cache.List()
	if err != nil {
		f.State, f.Found = "note", err.Error()
		return f
	}
	total, bad := int64(0), 0
	for _, e := range entries {
		total += e.Size
		if e.Problem != "" {
			bad++
		}
	}
	f.Found = fmt.Sprintf("%s, %s in %s", plural(len(entries), "engine"), byteSize(total), cache.Dir())
	if free, err := cache.Free(); err == nil {
		f.Found += ", " + byteSize(int64(free)) + " free"
	}
	if bad > 0 {
		f.State, f.Remedy = "note", fmt.Sprintf("%d of them cannot be used and are built again when needed; `toklip engine gc` removes them", bad)
	}
	return f
}
