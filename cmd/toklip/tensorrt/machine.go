package tensorrt

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/enginecache"
)

// Options say where TensorRT lies and where engines are kept. The zero value finds everything.
type Options struct {
	Shim    string // path of the shim; empty: the one that fits the TensorRT found
	NVInfer string // path of TensorRT's library; empty: by its soname
	Parser  string // path of its ONNX parser; empty: by its soname
	CUDA    string // path of the driver's library; empty: by its soname
	Device  int    // ordinal of the GPU

	CacheDir string // folder of engines; empty: enginecache.DefaultDir()
	Plans    string // folder of plans that Export wrote, looked into before the cache; empty: none
	Logger   *slog.Logger
}

// Library are the options of the binding.
func (o Options) Library() trt.Options {
	return trt.Options{Shim: o.Shim, TensorRT: o.NVInfer, Parser: o.Parser, CUDA: o.CUDA, Device: o.Device, Logger: o.Logger}
}

// Cache opens the folder of engines.
func (o Options) Cache() (*enginecache.Cache, error) {
	dir := o.CacheDir
	if dir == "" {
		dir = enginecache.DefaultDir()
	}
	return enginecache.Open(dir)
}

// Machine is TensorRT on a GPU of this machine. Its methods may be called from any goroutine.
type Machine struct {
	opts   Options
	log    *slog.Logger
	lib    *trt.Library
	info   trt.Info
	device *trt.Device // nil without a GPU
}

// Open opens TensorRT and looks for the GPU. The error says what is missing and what to do about it; see trt.Open and
// trt.Library.Device for its codes.
func Open(o Options) (*Machine, error) {
	m, err := OpenLibrary(o)
	if err != nil {
		return nil, err
	}
	device, err := m.lib.Device()
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	m.device = &device
	return m, nil
}

// OpenLibrary opens TensorRT alone, to build engines for other machines.
func OpenLibrary(o Options) (*Machine, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	lib, err := trt.Open(o.Library())
	if err != nil {
		return nil, err
	}
	return &Machine{opts: o, log: o.Logger, lib: lib, info: lib.Info()}, nil
}

// Info says which TensorRT was opened.
func (m *Machine) Info() trt.Info { return m.info }

// Device describes the GPU. It is called on machines that Open opened.
func (m *Machine) Device() trt.Device { return *m.device }

// DeviceName names the GPU for people: "Orin, sm_87".
func (m *Machine) DeviceName() string { return fmt.Sprintf("%s, sm_%d", m.device.Name, m.device.SM) }

// Layers asks TensorRT for the layers of a plan file, in the words of its inspector. dlaCore is the one that the plan was
// built for, -1 for none.
func (m *Machine) Layers(path string, dlaCore int) (_ json.RawMessage, err error) {
	plan, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	e, err := m.lib.Load(plan, dlaCore)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return e.Layers()
}

// Reset gives what is loaded next a fresh context of the GPU, after a backend's permanent error. Everything that was
// loaded must be closed.
func (m *Machine) Reset() error { return m.lib.Reset() }

// Close frees the library. Everything that was loaded must be closed.
func (m *Machine) Close() error { return m.lib.Close() }
