package model

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

var startORT = sync.OnceValue(func() error {
	lib, err := filepath.Abs("../.cache/lib/libonnxruntime.so")
	if err != nil {
		return err
	}
	if _, err := os.Stat(lib); err != nil {
		return fmt.Errorf("ONNX Runtime is not there; run: make deps (%w)", err)
	}
	ort.SetSharedLibraryPath(lib)
	return ort.InitializeEnvironment()
})

// ortRunner runs graphs on ONNX Runtime, as the program does.
type ortRunner struct{}

func (ortRunner) Run(ctx context.Context, file string, inputs []map[string]Tensor, outputs []string) ([]map[string]Tensor, error) {
	if err := startORT(); err != nil {
		return nil, err
	}
	opts, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer opts.Destroy()
	for _, err := range []error{
		opts.AddSessionConfigEntry("session.disable_prepacking", "1"), // weights stay in the mapped file
		opts.SetCpuMemArena(false), opts.SetMemPattern(false),
	} {
		if err != nil {
			return nil, err
		}
	}
	var names []string
	for name := range inputs[0] {
		names = append(names, name)
	}
	s, err := ort.NewDynamicAdvancedSession(file, names, outputs, opts)
	if err != nil {
		return nil, err
	}
	defer s.Destroy()
	var results []map[string]Tensor
	for _, input := range inputs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r, err := runOnce(s, names, input, outputs)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

func runOnce(s *ort.DynamicAdvancedSession, names []string, input map[string]Tensor, outputs []string) (map[string]Tensor, error) {
	var in []ort.Value
	for _, name := range names {
		v := input[name]
		shape := ort.NewShape(v.Shape...)
		var t ort.Value
		var err error
		if v.Int32 != nil {
			t, err = ort.NewTensor(shape, v.Int32)
		} else {
			t, err = ort.NewTensor(shape, v.Float32)
		}
		if err != nil {
			return nil, err
		}
		defer t.Destroy()
		in = append(in, t)
	}
	out := make([]ort.Value, len(outputs))
	if err := s.Run(in, out); err != nil {
		return nil, err
	}
	r := map[string]Tensor{}
	for i, v := range out {
		switch v := v.(type) {
		case *ort.Tensor[float32]:
			r[outputs[i]] = Tensor{Shape: v.GetShape(), Float32: slices.Clone(v.GetData())}
		case *ort.Tensor[int32]:
			r[outputs[i]] = Tensor{Shape: v.GetShape(), Int32: slices.Clone(v.GetData())}
		}
		v.Destroy()
	}
	return r, nil
}
