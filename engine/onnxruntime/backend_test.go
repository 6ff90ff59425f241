package onnxruntime_test

import (
	"testing"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/enginetest"
	"github.com/toklip/toklip/engine/onnxruntime"
)

func TestBackend(t *testing.T) {
	r := openRuntime(t)
	reference, err := r.Load(buildModel(t, "tiny", "fp32"), onnxruntime.Options{MaxBatch: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer reference.Close()
	for _, test := range []struct {
		name, precision string
		options         onnxruntime.Options
		tolerance       enginetest.Tolerance
	}{
		{"fp32", "fp32", onnxruntime.Options{}, enginetest.FP32},
		{"fp32 overlapping", "fp32", onnxruntime.Options{Overlap: true, Threads: 1}, enginetest.FP32},
		{"int8", "int8", onnxruntime.Options{}, enginetest.Tolerance{Tokens: 1, MaxError: 0.1, Cosine: 0.995}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := buildModel(t, "tiny", test.precision)
			enginetest.Run(t, enginetest.Suite{
				Model: m, Reference: reference.EncodeImage, Tolerance: test.tolerance,
				New: func(tb testing.TB, maxBatch int) engine.Backend {
					options := test.options
					options.MaxBatch = maxBatch
					b, err := r.NewBackend(m, options)
					if err != nil {
						tb.Fatal(err)
					}
					return b
				},
			})
		})
	}
}
