package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/trt/enginecache"
)

// engineInfo is what `toklip engine info` tells.
type engineInfo struct {
	shownEngine

	Header *enginecache.Header `json:"header,omitempty"` // of the plan; nil if it cannot be read
	Key    *enginecache.Key    `json:"key,omitempty"`    // everything the plan depends on; nil for a plan file without metadata
	Hash   string              `json:"plan_sha256,omitempty"`
	Layers json.RawMessage     `json:"layers,omitempty"`
	Note   string              `json:"layers_note,omitempty"` // why there are none
}

func newEngineInfoCommand() *cobra.Command {
	flags := newTensorRTFlags()
	var asJSON, layers bool
	cmd := &cobra.Command{
		Use:   "info KEY|FILE",
		Short: "Show what an engine is: header, what it was built for, agreement with the reference, layers",
		Long: `Shows an engine of the cache, named by its key or the first digits of it, or a plan file. --layers asks TensorRT for its layers, which takes the GPU
that the engine was built for.`,
		Example: "  toklip engine info 3f2a\n  toklip engine info --layers --json 3f2a | jq '.layers.Layers | length'\n  toklip engine info plans/encoder.fp16.plan",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			info, err := describeEngine(names[0], flags)
			if err != nil {
				return err
			}
			if layers {
				info.addLayers(flags, cmd.ErrOrStderr())
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(info)
			}
			info.print(cmd.OutOrStdout())
			return nil
		},
	}
	flags.addLibraries(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&layers, "layers", false, "load the engine and list its layers")
	return cmd
}

// describeEngine finds a file, or else an entry of the cache.
func describeEngine(name string, flags tensorrtFlags) (*engineInfo, error) {
	info := &engineInfo{}
	if file, err := os.Stat(name); err == nil && file.Mode().IsRegular() {
		info.Path, info.Size, info.Created = name, file.Size(), file.ModTime()
		if m, err := enginecache.ReadMetadata(name); err == nil { // other plans are described by their header alone
			info.describe(m)
			info.Key, info.Hash = &m.Key, m.PlanSHA256
		}
	} else {
		cache, err := flags.cache()
		if err != nil {
			return nil, err
		}
		entry, err := cache.Find(name)
		if err != nil {
			return nil, err
		}
		info.shownEngine = shown(entry)
		if entry.Meta != nil {
			info.Key, info.Hash = &entry.Meta.Key, entry.Meta.PlanSHA256
		}
	}
	header, err := readPlanHeader(info.Path)
	if err != nil {
		if info.ID == "" {
			return nil, err
		}
		if info.Problem == "" {
			info.Problem = err.Error()
		}
		return info, nil
	}
	info.Header = &header
	return info, nil
}

// readPlanHeader reads what a plan says of itself.
func readPlanHeader(path string) (enginecache.Header, error) {
	file, err := os.Open(path)
	if err != nil {
		return enginecache.Header{}, err
	}
	defer file.Close()
	first := make([]byte, 64)
	n, err := io.ReadFull(file, first)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return enginecache.Header{}, fmt.Errorf("read %s: %w", path, err)
	}
	return enginecache.ParseHeader(first[:n]), nil
}

// addLayers loads the plan. That it cannot is told, and is no failure: the rest is known.
func (i *engineInfo) addLayers(flags tensorrtFlags, stderr io.Writer) {
	err := func() (err error) {
		machine, err := tensorrt.Open(tensorrtOptions(flags.TensorRT, warnings(stderr)))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, machine.Close()) }()
		dla := -1
		if i.Key != nil {
			dla = i.Key.DLACore
		}
		i.Layers, err = machine.Layers(i.Path, dla)
		return err
	}()
	if err != nil {
		i.Note = err.Error()
	}
}

func (i *engineInfo) print(out io.Writer) {
	line := func(key, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != "" {
			fmt.Fprintf(out, "%-16s %s\n", key, text)
		}
	}
	line("key", "%s", i.ID)
	line("file", "%s, %s", i.Path, byteSize(i.Size))
	if i.Header != nil {
		line("made by", "%s", i.Header)
	}
	if k := i.Key; k != nil {
		line("network", "%s in %s, batch %d to %d, best at %d", k.Role, k.Precision, k.BatchMin, k.BatchMax, k.BatchOpt)
		line("ONNX", "%s", k.ONNX)
		gpu := i.GPU
		if k.Driver > 0 {
			gpu += fmt.Sprintf(", driver for CUDA %d.%d", k.Driver/1000, k.Driver%1000/10)
		}
		line("GPU", "%s", gpu)
		line("TensorRT", "%s, interface %d", i.TensorRT, k.ABI)
		var options []string
		add := func(yes bool, format string, args ...any) {
			if yes {
				options = append(options, fmt.Sprintf(format, args...))
			}
		}
		add(k.DLACore >= 0, "DLA core %d", k.DLACore)
		add(k.Workspace > 0, "workspace %s", byteSize(int64(k.Workspace)))
		add(k.OptimizationLevel >= 0, "optimisation level %d", k.OptimizationLevel)
		add(k.VersionCompatible, "version compatible")
		line("options", "%s", strings.Join(options, ", "))
		line("SHA-256", "%s", i.Hash)
	}
	line("created", "%s", i.Created.Format(time.RFC3339))
	if !i.Used.IsZero() {
		line("last used", "%s", i.Used.Format(time.RFC3339))
	}
	if r := i.Report; r != nil {
		verdict := "passed"
		if !r.Passed {
			verdict = "refused"
		}
		line("agreement", "%s, on %s: %s", verdict, plural(r.Frames, "frame"), r)
	} else if i.ID != "" && i.Problem == "" {
		line("agreement", "not judged yet: that happens when it is first used")
	}
	if i.Building != nil {
		line("being built", "by process %d since %s: %s", i.Building.PID, i.Building.Since.Format(time.RFC3339), i.Building.What)
	}
	line("problem", "%s", i.Problem)
	line("layers", "%s", i.Note)
	if i.Layers != nil {
		fmt.Fprintf(out, "layers\n%s\n", i.Layers)
	}
}
