package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/trt/enginecache"
)

// tensorrtFlags are the flags that say where TensorRT lies and how engines are built: those of the configuration's table
// engine.tensorrt, by the same names.
type tensorrtFlags struct{ config.TensorRT }

func newTensorRTFlags() tensorrtFlags { return tensorrtFlags{config.Default().Engine.TensorRT} }

// addLibraries adds the flags that say where TensorRT lies.
func (f *tensorrtFlags) addLibraries(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Shim, "shim", f.Shim, "`path` of libtoklip_trt*.so; by default the one that fits the TensorRT found")
	cmd.Flags().StringVar(&f.NVInfer, "nvinfer", f.NVInfer, "`path` of TensorRT's library, if it is not the system's")
	cmd.Flags().StringVar(&f.Parser, "parser", f.Parser, "`path` of TensorRT's ONNX parser, if it is not the system's")
	cmd.Flags().StringVar(&f.CUDA, "cuda", f.CUDA, "`path` of libcuda.so.1, if it is not the driver's")
	cmd.Flags().IntVar(&f.Device, "device", f.Device, "`number` of the GPU")
	f.addCache(cmd)
}

// addCache adds the flag that says where engines are kept.
func (f *tensorrtFlags) addCache(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.CacheDir, "cache-dir", f.CacheDir, "`folder` of built engines; by default the user's cache")
	_ = cmd.MarkFlagDirname("cache-dir")
}

// cache opens the folder of engines.
func (f *tensorrtFlags) cache() (*enginecache.Cache, error) {
	return tensorrt.Options{CacheDir: f.CacheDir}.Cache()
}

// addPlans adds the flag that says where plans lie that were built elsewhere.
func (f *tensorrtFlags) addPlans(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Plans, "plans", f.Plans, "`folder` of plans that engine build --out wrote, looked into before the cache")
	_ = cmd.MarkFlagDirname("plans")
}

// addBuild adds the flags that say how engines are built.
func (f *tensorrtFlags) addBuild(cmd *cobra.Command) {
	cmd.Flags().TextVar(&f.Workspace, "workspace", f.Workspace, "most memory on the GPU that a build may use, a `size` such as 2GB; 0: TensorRT's own limit")
	cmd.Flags().IntVar(&f.OptimizationLevel, "optimization-level", f.OptimizationLevel, "`level` 0 (builds fastest) to 5; -1: TensorRT's own")
	cmd.Flags().BoolVar(&f.VersionCompatible, "version-compatible", f.VersionCompatible, "engines that later versions of the same TensorRT can read too")
	cmd.Flags().IntVar(&f.DLACore, "dla-core", f.DLACore, "DLA `core` for the tokenizer; -1: none")
}

// check finds values that the configuration would refuse too.
func (f *tensorrtFlags) check() error {
	cfg := config.Default()
	cfg.Engine.TensorRT = f.TensorRT
	if problems := cfg.Problems(); len(problems) > 0 {
		return usageError{fmt.Errorf("%s: %s", problems[0].Key, problems[0].Text)}
	}
	return nil
}

// warnings is the log of a command: what should be known, and nothing else.
func warnings(out io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// lowerPriority makes every thread of this process nicer. Linux keeps the priority by thread; those to come take it from the
// thread that makes them.
func lowerPriority(by int) error {
	for done := map[string]bool{}; ; {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		fresh := false
		for _, task := range tasks {
			id, err := strconv.Atoi(task.Name())
			if err != nil || done[task.Name()] {
				continue
			}
			done[task.Name()], fresh = true, true
			if err := syscall.Setpriority(syscall.PRIO_PROCESS, id, by); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
		if !fresh {
			return nil
		}
	}
}
