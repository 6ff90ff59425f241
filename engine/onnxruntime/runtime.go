package onnxruntime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// MinimumVersion is the oldest ONNX Runtime whose C interface the binding can use.
const MinimumVersion = "1.24"

// process holds what there is one of in a process: the binding's global state as seen
// from here.
var process struct {
	sync.Mutex
	runtime *Runtime
}

// Runtime is the loaded library. It may be used by several goroutines and lives as
// long as the process.
type Runtime struct {
	path    string
	version string
}

// Open loads the library at path, as FindLibrary found it, and starts its environment.
// The first call decides: later ones return the same Runtime if they name the same
// file, and fail if they name another. A failed call decides nothing.
func Open(path string) (*Runtime, error) {
	if path == "" {
		return nil, errors.New("load ONNX Runtime: no path given")
	}
	real, err := filepath.Abs(path)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err == nil {
		_, err = os.Stat(real)
	}
	if err != nil {
		return nil, explainLoad(path, err)
	}
	process.Lock()
	defer process.Unlock()
	if r := process.runtime; r != nil {
		if r.path != real {
			return nil, fmt.Errorf("load ONNX Runtime %q: this process has loaded %q already, restart to change it", path, r.path)
		}
		return r, nil
	}
	ort.SetSharedLibraryPath(real)
	// Errors come back from the calls; what the library would write to the terminal
	// beside them says the same less clearly.
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return nil, explainLoad(real, err)
	}
	if err := shareArena(); err != nil {
		return nil, errors.Join(fmt.Errorf("load ONNX Runtime %q: %w", real, err), ort.DestroyEnvironment())
	}
	// Off by default in builds for Linux; a robot sends nothing anywhere in any build.
	if err := ort.DisableTelemetry(); err != nil {
		return nil, errors.Join(fmt.Errorf("load ONNX Runtime %q: disable telemetry: %w", real, err), ort.DestroyEnvironment())
	}
	process.runtime = &Runtime{path: real, version: ort.GetVersion()}
	return process.runtime, nil
}

// shareArena gives all sessions one arena for their intermediate tensors, which grows
// by what is asked for. By default each session has its own that doubles. Tokenizer
// and encoder run one after the other mostly, so they use the same memory in turn.
func shareArena() error {
	info, err := ort.GetMemoryInfo()
	if err != nil {
		return fmt.Errorf("make arena: %w", err)
	}
	const sameAsRequested = 1 // onnxruntime_c_api.h, CreateArenaCfg
	config, err := ort.NewArenaCfg(0, sameAsRequested, -1, -1)
	if err != nil {
		return fmt.Errorf("make arena: %w", err)
	}
	defer config.Destroy()
	if err := ort.CreateAndRegisterAllocator(info, config); err != nil {
		return fmt.Errorf("make arena: %w", err)
	}
	return nil
}

// Path of the library's file, links resolved.
func (r *Runtime) Path() string { return r.path }

// Version of the library, such as "1.30.0".
func (r *Runtime) Version() string { return r.version }
