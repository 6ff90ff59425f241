package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/trt"
)

// examineTensorRT looks for what running on a GPU needs. Nothing of it is needed to run at all.
func examineTensorRT(o tensorrt.Options) []finding {
	found := trt.Probe(o.Library())
	return append([]finding{examineDriver(found), examineLibrary(o, found)}, append(examineGPU(o, found), examineEngines(o))...)
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

func examineLibrary(o tensorrt.Options, found trt.Found) finding {
	f := finding{Check: "TensorRT", State: "ok"}
	if found.Use >= 0 {
		l := found.Libraries[found.Use]
		f.Found = fmt.Sprintf("%s at %s, driven by %s", l.Version, l.Path, l.Shim)
		if l.Path == "" {
			f.Found = "driven by " + l.Shim
		}
		return f
	}
	f.State, f.Found, f.Remedy = "note", "not installed", "on a Jetson: sudo apt install nvidia-jetpack; elsewhere install TensorRT or TensorRT for RTX, and add its lib folder to LD_LIBRARY_PATH"
	var have []string
	for _, l := range found.Libraries {
		switch {
		case l.Absent && o.NVInfer != "":
			f.Found, f.Remedy = "not at "+o.NVInfer, "name libnvinfer.so.N or libtensorrt_rtx.so.1 with nvinfer, or leave it empty to have it found"
			continue
		case l.Absent:
			continue
		case l.Path == "":
			have = append(have, l.Problem)
		default:
			have = append(have, fmt.Sprintf("%s %s: %s", l.Path, l.Version, l.Problem))
		}
		switch {
		case len(l.ShimTried) > 0 && (o.Shim != "" || os.Getenv(trt.ShimVariable) != ""):
			f.Remedy = "name a libtoklip_trt*.so with shim, or leave it empty to have it found"
		case len(l.ShimTried) > 0:
			f.Remedy = "build the shim for this TensorRT, into lib beside toklip: make trt"
		case l.Path != "":
			f.Remedy = "install a version that toklip drives: TensorRT 8.5 or 8.6, 10 or 11, or TensorRT for RTX 1.5 or later"
		default:
			f.Remedy = "install TensorRT with all that it needs"
		}
	}
	if len(have) > 0 {
		f.Found = strings.Join(have, "; ")
	}
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
		path, group := forbidden(gpuDevices, func(path string) error {
			file, err := os.OpenFile(path, os.O_RDWR, 0)
			if err == nil {
				file.Close()
			}
			return err
		})
		switch {
		case path != "":
			gpu.Found = "this user may not open " + path
			gpu.Remedy = fmt.Sprintf("add the user to the group %s (sudo usermod -aG %s USER) and log in again", group, group)
		case errors.Is(err, trt.ErrNoDevice) && found.Driver.Path == "":
			gpu.Found, gpu.Remedy = "not reachable without the driver", "install NVIDIA's driver; on a Jetson it comes with JetPack, in a container with NVIDIA's runtime"
		case errors.Is(err, trt.ErrABIMismatch) || errors.Is(err, trt.ErrWrongVersion):
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

// gpuDevices are the files that a process opens to use a GPU: those of PCs and those of Jetsons.
var gpuDevices = []string{"/dev/nvidiactl", "/dev/nvidia[0-9]*", "/dev/nvidia-uvm", "/dev/nvmap", "/dev/nvhost-ctrl-gpu", "/dev/nvhost-gpu", "/dev/nvgpu/igpu0/*"}

// forbidden is the first file of these patterns that this user may not open, and the group that may.
func forbidden(patterns []string, open func(path string) error) (path, group string) {
	for _, pattern := range patterns {
		files, _ := filepath.Glob(pattern) // the patterns are good
		for _, file := range files {
			if !errors.Is(open(file), fs.ErrPermission) {
				continue
			}
			group = "video"
			if info, err := os.Stat(file); err == nil {
				if s, ok := info.Sys().(*syscall.Stat_t); ok {
					group = fmt.Sprint(s.Gid)
				}
			}
			if g, err := user.LookupGroupId(group); err == nil {
				group = g.Name
			}
			return file, group
		}
	}
	return "", ""
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
