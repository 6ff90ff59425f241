package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/graph"
	"github.com/toklip/toklip/model/npy"
)

// calibrateFlags are those of `toklip model calibrate`.
type calibrateFlags struct {
	model   string
	frames  []string
	backend string
	count   int
	method  string
	floor   float64
	library string
	json    bool
}

func newCalibrateCommand() *cobra.Command {
	var flags calibrateFlags
	cmd := &cobra.Command{
		Use:   "calibrate --model DIR --frames PATH...",
		Short: "Fit TensorRT's int8 encoder to your own frames",
		Long: `Runs frames of yours through the fp32 model, measures how large the values are that each Linear layer of the token encoder is given, and sets the int8 scales
by that. One frame in four, 16 at most, is kept out of this and becomes the reference set, with the importer's own pictures; by that set every engine is
judged before use: agreement then means agreement on what your cameras see too, and not on the very frames that the scales were fitted to. Fewer than 8 frames
serve for both. Give a few dozen frames that are as varied as the work.

PATH is a picture (PNG, JPEG), a folder that is searched for pictures, or a .npy file of float32 [n,3,S,S] in [-1,1]. Videos are not read: take pictures out of
them first, for example with

  ffmpeg -i drive.mp4 -vf fps=1 frames/%04d.png

The measuring is done by ONNX Runtime on the CPU, whichever backend runs the model later; it takes about two seconds a frame of the published models and somewhat more memory
than their fp32 weights take. The model folder changes in one step at the end; a daemon that is running goes on with what it has loaded, and builds
a new int8 engine when it starts again (or before, with toklip engine build).`,
		Example: `  toklip model calibrate --model models/toklip-s-256 --frames frames/
  toklip model calibrate --model models/toklip-s-256 --frames day/ night/ --count 128
  toklip model calibrate --model models/toklip-s-256 --frames frames/ --method percentile --json`,
		Args: args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, more []string) error {
			flags.frames = append(flags.frames, more...)
			if err := flags.check(); err != nil {
				return err
			}
			return flags.run(cmd)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.model, "model", "", "model `folder` with an int8 encoder (required)")
	f.StringArrayVar(&flags.frames, "frames", nil, "`path` of pictures, a folder or .npy; more may follow (required)")
	f.StringVar(&flags.backend, "backend", "auto", "`name` of what will run the model: auto, onnxruntime or tensorrt; ONNX Runtime measures in any case")
	f.IntVar(&flags.count, "count", 64, "`number` of frames to use, spread evenly over those found")
	f.StringVar(&flags.method, "method", model.DefaultMethod, "`method` of choosing ranges: max, the largest value seen, or percentile, the 99.99th, which clips the rest")
	f.Float64Var(&flags.floor, "int8-floor", 0, "refuse a worst feature or embedding `cosine` below; 0: 0.98 and 0.99")
	f.StringVar(&flags.library, "onnxruntime-library", "", "`path` of libonnxruntime.so, if it is not found by itself")
	f.BoolVar(&flags.json, "json", false, "print JSON")
	_ = cmd.MarkFlagDirname("model")
	_ = cmd.RegisterFlagCompletionFunc("method", cobra.FixedCompletions([]string{graph.MethodPercentile, graph.MethodMax}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions([]string{"auto", model.BackendONNXRuntime, model.BackendTensorRT}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (f *calibrateFlags) check() error {
	switch {
	case f.model == "":
		return usageError{errors.New("--model is missing: name a folder made by `toklip model import --precision fp32,int8`")}
	case len(f.frames) == 0:
		return usageError{errors.New("--frames is missing: name pictures, or a folder of them, that your cameras took")}
	case f.count < 1 || f.count > model.MaxCalibrationFrames:
		return usageError{fmt.Errorf("--count %d is not between 1 and %d", f.count, model.MaxCalibrationFrames)}
	case f.method != graph.MethodMax && f.method != graph.MethodPercentile:
		return usageError{fmt.Errorf("--method %q is unknown: choose %s or %s", f.method, graph.MethodPercentile, graph.MethodMax)}
	case !(f.floor >= 0 && f.floor <= 1):
		return usageError{fmt.Errorf("--int8-floor %g is not between 0 (the default floors) and 1", f.floor)}
	case f.backend != "auto" && f.backend != model.BackendONNXRuntime && f.backend != model.BackendTensorRT:
		return usageError{fmt.Errorf("unknown backend %q: choose auto, %s or %s", f.backend, model.BackendONNXRuntime, model.BackendTensorRT)}
	}
	return nil
}

func (f *calibrateFlags) run(cmd *cobra.Command) error {
	out, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	begun := time.Now()
	manifest, err := model.Load(f.model)
	if err != nil {
		return err
	}
	if _, err := manifest.Graph(model.RoleEncoder, model.Int8, model.BackendTensorRT); err != nil {
		return fmt.Errorf("model %s: %w: import the checkpoint again with --precision fp32,int8", f.model, model.ErrNoInt8)
	}
	if _, err := onnxruntime.FindLibrary(f.library); err != nil {
		return err
	}
	if f.backend == model.BackendTensorRT {
		fmt.Fprintln(stderr, "note: ONNX Runtime measures; TensorRT's engine is built of the result by the daemon or `toklip engine build`, and judged by these frames before use")
	}
	found, err := findFrames(f.frames, manifest.Image.Size)
	if err != nil {
		return err
	}
	bar := newProgress(stderr, false)
	defer bar.abandon()
	pictures, err := readFrames(cmd, found.pick(f.count), manifest, bar)
	if err != nil {
		return err
	}
	result, err := model.Calibrate(cmd.Context(), f.model, model.CalibrateOptions{
		Pictures: pictures, Source: strings.Join(f.frames, ", "), Method: f.method, Floors: model.Floors{Features: f.floor, Embedding: f.floor},
		Runner: &graphRunner{library: f.library}, Progress: bar.update,
		Logger: warnings(stderr),
	})
	if err != nil {
		return err
	}
	bar.finish()
	if f.json {
		return json.NewEncoder(out).Encode(result)
	}
	printCalibrated(out, f.model, len(found), result, time.Since(begun))
	return nil
}

func printCalibrated(out io.Writer, dir string, found int, c *model.Calibrated, took time.Duration) {
	line := func(key, format string, args ...any) {
		fmt.Fprintf(out, "%-16s %s\n", key, fmt.Sprintf(format, args...))
	}
	line("model", "%s (%s)", c.Model, dir)
	reference := "%d others"
	if !c.HeldOut {
		reference = "the same %d"
	}
	line("frames", "%d found; ranges (%s) of %d; reference of "+reference+" and %s", found, c.Calibration.Method, c.Calibration.Frames,
		c.After.Frames-c.Drawn, plural(c.Drawn, "drawn picture"))
	line("before", "%s", c.Before)
	line("after", "%s", c.After)
	if c.After.FeatureCosine < c.Before.FeatureCosine {
		other := graph.MethodMax
		if c.Calibration.Method == other {
			other = graph.MethodPercentile
		}
		line("note", "the worst feature is further off than before: --method %s may suit these frames better", other)
	}
	line("encoder", "%s", c.Encoder)
	line("reference", "%s", c.Reference)
	line("took", "%s, peak memory %s", round(took), byteSize(peakMemory()))
}

// frameRef is one frame to be read: a picture, or one of an array's.
type frameRef struct {
	path  string
	index int // in a .npy file; -1: a picture
}

type frameRefs []frameRef

// pick takes n frames, spread evenly.
func (r frameRefs) pick(n int) frameRefs {
	if len(r) <= n {
		return r
	}
	out := make(frameRefs, n)
	for i := range out {
		out[i] = r[i*len(r)/n]
	}
	return out
}

// pictureEndings are those of files that a folder is searched for.
var pictureEndings = []string{".png", ".jpg", ".jpeg", ".npy"}

// videoEndings are those of files that people will try.
var videoEndings = []string{".mp4", ".mkv", ".avi", ".mov", ".webm", ".h264", ".h265", ".ts", ".bag", ".mcap"}

// findFrames lists the frames under paths, in the order of names.
func findFrames(paths []string, size int) (frameRefs, error) {
	var out frameRefs
	add := func(path string) error {
		ending := strings.ToLower(filepath.Ext(path))
		if slices.Contains(videoEndings, ending) {
			return fmt.Errorf("%s: videos are not read: take pictures out of it first, for example with: ffmpeg -i %s -vf fps=1 frames/%%04d.png", path, path)
		}
		if ending != ".npy" {
			out = append(out, frameRef{path, -1})
			return nil
		}
		in, err := openImages(path, size)
		if err != nil {
			return err
		}
		defer in.Close()
		for i := range in.Shape()[0] {
			out = append(out, frameRef{path, i})
		}
		return nil
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("read --frames: %w", err)
		}
		if !info.IsDir() {
			if err := add(path); err != nil {
				return nil, err
			}
			continue
		}
		// Without the separator WalkDir would not go into a link.
		err = filepath.WalkDir(path+string(filepath.Separator), func(file string, entry fs.DirEntry, err error) error {
			if err != nil {
				return fmt.Errorf("read --frames: %w", err)
			}
			if entry.IsDir() || !slices.Contains(pictureEndings, strings.ToLower(filepath.Ext(file))) {
				return nil
			}
			return add(file)
		})
		if err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no frames found under %s: name PNG or JPEG pictures, folders of them, or .npy files", strings.Join(paths, ", "))
	}
	return out, nil
}

// readFrames reads frames as the network sees them, resized as the model says: [F,S,S,3].
func readFrames(cmd *cobra.Command, refs frameRefs, manifest *model.Manifest, bar *progress) ([]byte, error) {
	size := manifest.Image.Size
	mode, err := preprocess.ParseMode(manifest.Image.Resize)
	if err != nil {
		return nil, err
	}
	area := 3 * size * size
	out := make([]byte, len(refs)*area)
	for i, ref := range refs {
		if err := cmd.Context().Err(); err != nil {
			return nil, err
		}
		into := out[i*area : (i+1)*area]
		if ref.index < 0 {
			err = readFrame(into, ref.path, size, mode)
		} else {
			err = readArrayFrame(into, ref, manifest.Image)
		}
		if err != nil {
			return nil, fmt.Errorf("frame %d of %d: %w; repair it or leave it out", i+1, len(refs), err)
		}
		bar.update("read frames", int64(i+1), int64(len(refs)))
	}
	return out, nil
}

func readFrame(into []byte, path string, size int, mode preprocess.Mode) error {
	in, err := readPicture(path)
	if err != nil {
		return err
	}
	resizer, err := preprocess.New(preprocess.Geometry{Width: in.width, Height: in.height, Format: preprocess.RGB8, Size: size, Mode: mode})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := resizer.RGB(into, in.rgb, 3*in.width); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// readArrayFrame reads a normalised image and gives its levels, rounded.
func readArrayFrame(into []byte, ref frameRef, spec model.ImageSpec) error {
	in, err := npy.Open(ref.path)
	if err != nil {
		return err
	}
	defer in.Close()
	image := make([]float32, len(into))
	if err := in.ReadFloat32(image, int64(ref.index)*int64(len(image))); err != nil {
		return err
	}
	if err := checkNormalised(image); err != nil {
		return fmt.Errorf("%s: image %d: %w", ref.path, ref.index, err)
	}
	area := len(image) / 3
	for c := range 3 {
		for i, v := range image[c*area : (c+1)*area] {
			level := math.Round((float64(v)*spec.Std[c] + spec.Mean[c]) * 255)
			into[3*i+c] = byte(min(max(level, 0), 255))
		}
	}
	return nil
}
