package main

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/model"
)

// tensorrtOptions are the configuration's, as TensorRT's package wants them.
func tensorrtOptions(c config.TensorRT, log *slog.Logger) tensorrt.Options {
	return tensorrt.Options{
		Shim: c.Shim, NVInfer: c.NVInfer, Parser: c.Parser, CUDA: c.CUDA, Device: c.Device, CacheDir: c.CacheDir, Plans: c.Plans,
		Logger: log.With("part", "tensorrt"),
	}
}

func tensorrtSource(c config.TensorRT, opened *openedModel, precision string, batch int) tensorrt.Source {
	return tensorrt.Source{
		Dir: opened.dir, Manifest: opened.manifest, Spec: opened.spec, Precision: tensorrt.Precision(opened.manifest, precision), Batch: batch,
		Workspace: c.Workspace.Bytes(), OptimizationLevel: c.OptimizationLevel, VersionCompatible: c.VersionCompatible, DLACore: c.DLACore,
	}
}

func tensorrtRun(c config.TensorRT) tensorrt.RunOptions {
	return tensorrt.RunOptions{
		InFlight: c.InFlight, CUDAGraph: c.CUDAGraph, Kernels: c.Kernels, Timeout: c.Timeout.Std(),
		Floors: model.Floors{Tokens: c.TokenFloor, Features: c.FeatureFloor, Embedding: c.EmbeddingFloor},
	}
}

// niceness is how much a build beside everything else gives way.
const niceness = 10

// buildArgs is the command line that builds what is missing.
func buildArgs(c config.TensorRT, s tensorrt.Source, missing *tensorrt.Missing, nice int) []string {
	roles := make([]string, len(missing.Networks))
	for i, n := range missing.Networks {
		roles[i] = n.Role
	}
	out := []string{
		"engine", "build", "--json", "--nice=" + strconv.Itoa(nice), "--model=" + s.Dir, "--precision=" + s.Precision, "--role=" + strings.Join(roles, ","),
		"--batch=" + strconv.Itoa(s.Batch),
	}
	if missing.Damaged {
		out = append(out, "--again")
	}
	return append(out, tensorrtArgs(c)...)
}

// tensorrtArgs is the configuration as flags of `toklip engine build`.
func tensorrtArgs(c config.TensorRT) []string {
	return []string{
		"--shim=" + c.Shim, "--nvinfer=" + c.NVInfer, "--parser=" + c.Parser, "--cuda=" + c.CUDA, fmt.Sprintf("--device=%d", c.Device),
		"--cache-dir=" + c.CacheDir, fmt.Sprintf("--workspace=%d", c.Workspace), fmt.Sprintf("--optimization-level=%d", c.OptimizationLevel),
		fmt.Sprintf("--version-compatible=%t", c.VersionCompatible), fmt.Sprintf("--dla-core=%d", c.DLACore),
	}
}
