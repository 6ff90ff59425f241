package trt_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/graph"
	"github.com/toklip/toklip/model/synth"
	"github.com/toklip/toklip/trt"
)

// network is what a graph of ours must look like to TensorRT.
type network struct {
	file            string
	weights         string // where they lie; some graphs share them
	inputs, outputs []trt.TensorInfo
}

// requireFull skips tests on the full-size model unless they are asked for.
func requireFull(t *testing.T) {
	t.Helper()
	if full := os.Getenv("TOKLIP_FULL"); full == "" || full == "0" || testing.Short() {
		t.Skip("the full-size model takes 5 GB of disk and a minute; set TOKLIP_FULL=1")
	}
}

// writeGraphs writes the graphs of a preset in fp32 and fp16 into a folder of the test's.
func writeGraphs(tb testing.TB, preset string) (string, checkpoint.Reader, *graph.Arch) {
	tb.Helper()
	config, err := synth.Preset(preset)
	if err != nil {
		tb.Fatal(err)
	}
	reader, err := synth.New(config, "", false)
	if err != nil {
		tb.Fatal(err)
	}
	a, err := graph.Inspect(reader, graph.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	if _, err := graph.Build(tb.Context(), reader, a, dir, graph.Options{FP16: true}); err != nil {
		tb.Fatal(err)
	}
	return dir, reader, a
}

// graphs writes the graphs of a preset that TensorRT may get into a folder of the test's and tells what they are. only, if
// given, names those that are wanted in the end: the others' files are removed.
func graphs(t *testing.T, preset string, only ...string) (dir string, networks []network) {
	t.Helper()
	dir, reader, a := writeGraphs(t, preset)
	if len(only) == 0 || slices.Contains(only, "encoder.qdq.onnx") {
		// What ranges are right is measured elsewhere; here the graph's form matters.
		ranges := map[string]float32{}
		for _, name := range graph.QuantisedLinears(a.Depth) {
			ranges[name] = 8
		}
		if _, err := graph.BuildQDQ(t.Context(), reader, a, dir, graph.QDQOptions{Ranges: ranges}); err != nil {
			t.Fatal(err)
		}
	}

	s, n, d, grid := int64(a.Size), int64(a.Tokens()), int64(a.Dim), int64(a.Grid)
	image := trt.TensorInfo{Name: "image", Type: "fp32", Shape: []int64{-1, 3, s, s}}
	ids := trt.TensorInfo{Name: "ids", Type: "int32", Shape: []int64{-1, n}}
	latents := trt.TensorInfo{Name: "latents", Type: "fp32", Shape: []int64{-1, int64(a.CodeDim), grid, grid}}
	encoded := []trt.TensorInfo{{Name: "features", Type: "fp32", Shape: []int64{-1, n, d}}, {Name: "embedding", Type: "fp32", Shape: []int64{-1, d}}}
	all := []network{
		{"tokenizer.onnx", "tokenizer.onnx.data", []trt.TensorInfo{image}, []trt.TensorInfo{ids}},
		{"tokenizer.latents.onnx", "tokenizer.onnx.data", []trt.TensorInfo{image}, []trt.TensorInfo{latents}},
		{"tokenizer.fp16.onnx", "tokenizer.fp16.onnx.data", []trt.TensorInfo{image}, []trt.TensorInfo{latents}},
		{"encoder.onnx", "encoder.onnx.data", []trt.TensorInfo{ids}, encoded},
		{"encoder.fp16.onnx", "encoder.fp16.onnx.data", []trt.TensorInfo{ids}, encoded},
		{"encoder.qdq.onnx", "encoder.qdq.onnx.data", []trt.TensorInfo{ids}, encoded},
		{"decoder.onnx", "decoder.onnx.data", []trt.TensorInfo{ids}, []trt.TensorInfo{image}},
	}
	for _, n := range all {
		path := filepath.Join(dir, n.file)
		if len(only) > 0 && !slices.Contains(only, n.file) {
			os.Remove(path)
			continue
		}
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		networks = append(networks, network{path, filepath.Join(dir, n.weights), n.inputs, n.outputs})
	}
	return dir, networks
}

// sameTensors compares what TensorRT says of a graph with what it is.
func sameTensors(t *testing.T, what string, have, want []trt.TensorInfo) {
	t.Helper()
	if len(have) != len(want) {
		t.Errorf("%s: %v, want %v", what, have, want)
		return
	}
	for i := range want {
		if have[i].Name != want[i].Name || have[i].Type != want[i].Type || !slices.Equal(have[i].Shape, want[i].Shape) {
			t.Errorf("%s: %v, want %v", what, have[i], want[i])
		}
	}
}
