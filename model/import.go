package model

import (
	"context"
	"log/slog"
	"time"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/graph"
)

// DefaultFloor is the worst cosine to fp32 that an int8 encoder may have, unless Options say otherwise.
const DefaultFloor = 0.995

// Options control [Import].
type Options struct {
	Name       string       // of the model; the folder's base name if empty
	Precisions []string     // FP32 and Int8; FP32 is always made. Nil: FP32
	Config     graph.Config // what shapes do not tell
	Source     string       // recorded in the manifest
	Licence    string       // recorded in the manifest
	Resize     string       // default resize mode recorded in the manifest; "squash" if empty
	Overwrite  bool         // replace an existing model folder
	Floor      float64      // worst cosine allowed for int8; DefaultFloor if 0
	Runner     Runner       // needed for Int8
	Created    time.Time    // recorded; now if zero

	// Progress, if set, is called from Import's goroutine as work goes on: done of total units of the stage.
	Progress func(stage string, done, total int64)
	Logger   *slog.Logger // nil: silent
}

// Tensor is an input or output of a [Runner]: a shape and exactly one kind of values.
type Tensor struct {
	Shape   []int64
	Float32 []float32
	Int32   []int32
}

// Runner runs ONNX graphs. The importer measures the int8 encoder with it; cmd passes ONNX Runtime.
type Runner interface {
	// Run loads the graph in file (its weights lie beside it), runs it once for each element of inputs in
	// order, and unloads it. Each result holds the named outputs; the caller owns it. Cancelling ctx
	// ends the work between two runs.
	Run(ctx context.Context, file string, inputs []map[string]Tensor, outputs []string) ([]map[string]Tensor, error)
}

// Import writes the model folder dir from a checkpoint and returns its manifest. The folder appears
// complete or not at all: it is written under a temporary name beside dir and renamed at the end; an
// error or a cancelled context leaves nothing behind. An existing dir is refused unless
// Options.Overwrite is set, and then replaced only if it is a model folder.
//
// Weights are streamed: memory stays far below the size of the checkpoint.
func Import(ctx context.Context, reader checkpoint.Reader, dir string, opts Options) (*Manifest, error) {
	return importModel(ctx, reader, dir, opts)
}

func importModel(context.Context, checkpoint.Reader, string, Options) (*Manifest, error) {
	return nil, errNotBuilt
}
