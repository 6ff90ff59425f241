package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/toklip/toklip/model/graph"
)

// Of the frames given, one in referenceShare becomes part of the reference set, referenceFrames at most. Ranges are set by the
// others: an encoder judged by the very frames that it was fitted to looks better than it is.
const (
	referenceFrames = 16
	referenceShare  = 4
)

// fewFrames are too few to part: fewer serve for both.
const fewFrames = 8

// unnamedReference is the new reference set before it gets its name, and "." with this the beginning of the file it is written into.
const unnamedReference = "reference.new.npz"

// MaxCalibrationFrames is the most frames that [Calibrate] takes.
const MaxCalibrationFrames = maxReferenceFrames

// CalibrateOptions control [Calibrate].
type CalibrateOptions struct {
	Pictures []byte    // [F,S,S,3] R, G, B of the model's size, 1 to MaxCalibrationFrames
	Source   string    // where they come from, for people
	Method   string    // graph.MethodMax or graph.MethodPercentile; DefaultMethod if empty
	Floors   Floors    // what the result has to reach; those of DefaultFloors(Int8) for each that is 0
	Runner   Runner    // ONNX Runtime
	Created  time.Time // recorded; now if zero

	Progress func(stage string, done, total int64) // may be nil
	Logger   *slog.Logger                          // nil: silent
}

// Calibrated is what [Calibrate] did.
type Calibrated struct {
	Model       string      `json:"model"`
	Calibration Calibration `json:"calibration"`
	HeldOut     bool        `json:"held_out"` // no frame of the new reference set took part in setting the ranges
	Drawn       int         `json:"drawn"`    // pictures of the new reference set that are the importer's; the others are frames
	// Before and After compare the int8 encoder with fp32 on the frames of the new reference set.
	Before Report `json:"before"`
	After  Report `json:"after"`
	// Names of the new files.
	Encoder   string `json:"encoder"`
	Reference string `json:"reference"`
}

// ErrNoInt8 is wrapped by [Calibrate] for a model without an int8 encoder for TensorRT.
var ErrNoInt8 = errors.New("the model has no int8 encoder for TensorRT")

// Calibrate fits the int8 encoder for TensorRT in the model folder dir to the user's own frames: the fp32 model runs on them and
// shows the range of every Linear layer's input, from which the scales of its int8 form follow. One frame in four, 16 at most, is
// kept out of this and makes the new reference set, with the pictures that the importer draws; fewer than 8 frames serve for both.
//
// The new files get new names, and the manifest that names them is put in place in one step at the end: until then, and
// after any error or crash, the folder is what it was. One calibration of a folder at a time. An engine that was built of
// the old file is outdated then, which its key tells.
func Calibrate(ctx context.Context, dir string, opts CalibrateOptions) (*Calibrated, error) {
	c, err := calibrate(ctx, dir, opts)
	if err != nil {
		return nil, fmt.Errorf("calibrate model %q: %w", dir, err)
	}
	return c, nil
}

func calibrate(ctx context.Context, dir string, opts CalibrateOptions) (*Calibrated, error) {
	if _, err := Load(dir); err != nil { // says best what is wrong with a folder
		return nil, err
	}
	release, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	m, err := Load(dir)
	if err != nil {
		return nil, err
	}
	if err := opts.complete(m); err != nil {
		return nil, err
	}
	int8, tokenizer, encoder, err := m.calibrationGraphs()
	if err != nil {
		return nil, err
	}
	book, err := m.LoadCodebook(dir)
	if err != nil {
		return nil, err
	}
	b := &bench{runner: opts.Runner, dir: dir, m: m, search: newSearcher(book, m.Tokens.CodebookDim), chunk: 4, progress: opts.Progress}
	defer sweep(dir)

	if err := writable(dir); err != nil {
		return nil, err
	}
	frames := len(opts.Pictures) / (3 * m.Image.Size * m.Image.Size)
	ref, ranges, fitted, err := b.observeFrames(ctx, opts.Pictures, tokenizer, encoder, opts.Method)
	if err != nil {
		return nil, err
	}
	b.begin("judge before", ref.Frames)
	before, err := b.judge(ctx, ref, "", []string{int8.File.Name}, opts.Floors)
	if err != nil {
		return nil, err
	}

	file, err := m.rescale(ctx, dir, int8.File.Name, ranges)
	if err != nil {
		return nil, err
	}
	b.begin("judge after", ref.Frames)
	after, err := b.judge(ctx, ref, "", []string{file.Name}, opts.Floors)
	if err != nil {
		return nil, err
	}
	if err := after.Err(); err != nil {
		return nil, fmt.Errorf("the int8 encoder fitted to %d frames is %w (before: %s); the folder is as it was: %s",
			fitted, err, before, opts.advice())
	}
	set, err := ref.save(ctx, dir, unnamedReference)
	if err != nil {
		return nil, err
	}
	if err := nameByHash(dir, &set.File, "reference", ".npz"); err != nil {
		return nil, err
	}
	set.By, set.Source, set.Created = byCalibrate, drawnPictures+"; "+opts.Source, opts.Created

	next := *m
	next.FormatVersion, next.QDQ, next.Reference = FormatVersion, quality(after), set
	next.Calibration = &Calibration{By: byCalibrate, Source: opts.Source, Frames: fitted, Method: opts.Method, Created: opts.Created}
	next.Graphs = slices.Clone(m.Graphs)
	for i := range next.Graphs {
		if next.Graphs[i].File.Name == int8.File.Name {
			next.Graphs[i].File = *file
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := next.replace(dir); err != nil {
		return nil, err
	}
	opts.Logger.Info("int8 encoder calibrated", "frames", fitted, "method", opts.Method, "before", before.String(), "after", after.String(), "encoder", file.Name)
	return &Calibrated{Model: m.Name, Calibration: *next.Calibration, HeldOut: frames >= fewFrames, Drawn: grids, Before: before, After: after, Encoder: file.Name, Reference: set.File.Name}, nil
}

func (o *CalibrateOptions) complete(m *Manifest) error {
	if o.Method == "" {
		o.Method = DefaultMethod
	}
	if o.Runner == nil {
		return errors.New("no backend is there to run the model")
	}
	if o.Created.IsZero() {
		o.Created = time.Now()
	}
	o.Created = o.Created.UTC().Truncate(time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	floors := DefaultFloors(Int8)
	if o.Floors.Features == 0 {
		o.Floors.Features = floors.Features
	}
	if o.Floors.Embedding == 0 {
		o.Floors.Embedding = floors.Embedding
	}
	area := 3 * m.Image.Size * m.Image.Size
	if n := len(o.Pictures) / area; len(o.Pictures)%area != 0 || n < 1 || n > MaxCalibrationFrames {
		return fmt.Errorf("%d bytes are no 1 to %d pictures of %d x %d", len(o.Pictures), MaxCalibrationFrames, m.Image.Size, m.Image.Size)
	}
	return nil
}

// advice is what to try when the floor is missed.
func (o *CalibrateOptions) advice() string {
	other := graph.MethodMax
	if o.Method == other {
		other = graph.MethodPercentile
	}
	return fmt.Sprintf("try --method %s or more varied frames, run the model in fp16, or lower the floor if this is good enough for you", other)
}

// calibrationGraphs finds what a calibration needs.
func (m *Manifest) calibrationGraphs() (int8 Graph, tokenizer, encoder string, err error) {
	int8, err = m.Graph(RoleEncoder, Int8, BackendTensorRT)
	if err != nil {
		return Graph{}, "", "", fmt.Errorf("%w: import the checkpoint again with --precision fp32,int8: %w", ErrNoInt8, err)
	}
	t, err := m.Graph(RoleTokenizer, FP32, BackendTensorRT)
	if err != nil {
		return Graph{}, "", "", err
	}
	// Of the fp32 encoders the one of standard operators in which every Linear stands as itself.
	e, err := m.Graph(RoleEncoder, FP32, BackendTensorRT)
	return int8, t.File.Name, e.File.Name, err
}

// rescale writes a copy of the int8 encoder with other ranges under a name of its own.
func (m *Manifest) rescale(ctx context.Context, dir, name string, ranges map[string]float32) (*File, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	if text, err = graph.SetRanges(text, ranges); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	const temp = ".encoder.qdq.onnx"
	if err := os.WriteFile(filepath.Join(dir, temp), text, 0o644); err != nil {
		return nil, err
	}
	f, err := describeFile(ctx, dir, temp)
	if err != nil {
		return nil, err
	}
	return f, nameByHash(dir, f, "encoder.qdq", ".onnx")
}

// nameByHash gives a file of the folder a name made of its contents: STEM.HASH.EXT.
func nameByHash(dir string, f *File, stem, ext string) error {
	name := stem + "." + f.SHA256[:12] + ext
	if err := os.Rename(filepath.Join(dir, f.Name), filepath.Join(dir, name)); err != nil {
		return err
	}
	f.Name = name
	return nil
}

// observeFrames runs fp32 on the frames: it makes the reference set of some, behind the importer's own pictures, and gives the
// ranges that the others show of what Linear layers are given, and the number of those others.
func (b *bench) observeFrames(ctx context.Context, pictures []byte, tokenizer, encoder, method string) (*Reference, map[string]float32, int, error) {
	ranges, err := graph.NewRanges(method)
	if err != nil {
		return nil, nil, 0, err
	}
	area := 3 * b.m.Image.Size * b.m.Image.Size
	judging, fitting := split(len(pictures) / area)
	if len(fitting) == 0 {
		fitting = judging
	}
	b.begin("run fp32", 2*(grids+len(judging)+len(fitting)))
	run := func(pictures []byte, ranges *graph.Ranges) (*Reference, error) {
		return b.reference(ctx, pictures, tokenizer, []string{encoder}, ranges)
	}
	for some := range slices.Chunk(fitting, b.chunk) { // nothing is kept of them but the ranges
		if _, err := run(gather(pictures, area, some), ranges); err != nil {
			return nil, nil, 0, err
		}
	}
	ref, err := run(append(testPictures(b.m.Image.Size), gather(pictures, area, judging)...), nil)
	return ref, ranges.Found(), len(fitting), err
}

// split parts the numbers of n frames into those of the reference set, spread evenly, and those that set the ranges. The second
// are none where there are too few.
func split(n int) (judging, fitting []int) {
	k := min(n/referenceShare, referenceFrames)
	if n < fewFrames {
		k = n
	}
	for i := range n {
		if len(judging) < k && i == len(judging)*n/k {
			judging = append(judging, i)
		} else {
			fitting = append(fitting, i)
		}
	}
	return judging, fitting
}

// gather copies pictures of area bytes.
func gather(pictures []byte, area int, which []int) []byte {
	out := make([]byte, 0, len(which)*area)
	for _, i := range which {
		out = append(out, pictures[i*area:(i+1)*area]...)
	}
	return out
}

// writable finds out at the beginning what would fail at the end.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, "."+ManifestFile+".*")
	if err != nil {
		return fmt.Errorf("its folder cannot be written: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// sweep removes files that calibrations make and the manifest of the folder does not name: new ones after a failure, old ones after
// success, and what one that was killed left. That one cannot be removed is no failure: the next calibration tries again.
func sweep(dir string) {
	m, err := Load(dir) // rather than what was meant to be there
	if err != nil {
		return
	}
	named := map[string]bool{}
	for _, f := range m.Files() {
		named[f.Name] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if name := e.Name(); !named[name] && byCalibration(name) {
			_ = os.Remove(filepath.Join(dir, name))
		}
	}
}

// byCalibration reports whether a calibration makes files of that name, or replaces them.
func byCalibration(name string) bool {
	return strings.HasPrefix(name, "encoder.qdq.") && strings.HasSuffix(name, ".onnx") ||
		strings.HasPrefix(name, "reference.") && strings.HasSuffix(name, ".npz") ||
		strings.HasPrefix(name, ".observed-") || strings.HasPrefix(name, ".encoder.qdq.") || strings.HasPrefix(name, "."+unnamedReference) ||
		strings.HasPrefix(name, "."+ManifestFile)
}
