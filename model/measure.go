package model

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/graph"
	"github.com/toklip/toklip/model/npy"
)

// How precisions are measured at import: on how many pictures, and in how many parts encoders run, so that their weights need
// not all be in memory.
const (
	grids        = 4
	measureParts = 8
)

// Files beside the graphs.
const (
	codebookFile  = "codebook.npy"
	referenceFile = "reference.npz"
)

// Commands that leave their name in the manifest.
const (
	byImport    = "toklip model import"
	byCalibrate = "toklip model calibrate"
)

// drawnPictures is what the manifest calls the importer's own pictures.
const drawnPictures = "pictures drawn by the importer: waves and noise"

// partsOf are the files of the encoder's parts in a precision, in order. TensorRT's int8 encoder is the one of BuildQDQ.
func partsOf(written []graph.Written, role, precision string) []string {
	var out []string
	for _, w := range written {
		if w.Role == role+".part" && w.Precision == precision {
			out = append(out, w.Graph.Name)
		}
	}
	return out
}

// measure makes the reference set on pictures drawn here, and compares every reduced precision with it, which it refuses below
// its floor. It also writes the int8 encoder for TensorRT, whose ranges come out of it.
func (im *importer) measure(ctx context.Context, arch *graph.Arch, m *Manifest, dir string, written []graph.Written) error {
	book, err := readCodebook(im.reader, arch)
	if err != nil {
		return err
	}
	b := &bench{runner: im.opts.Runner, dir: dir, m: m, search: newSearcher(book, arch.CodeDim), progress: im.progress}
	want := func(p string) bool { return slices.Contains(im.opts.Precisions, p) }

	pictures := testPictures(arch.Size)
	fp32 := partsOf(written, RoleEncoder, FP32)
	latents, err := m.Graph(RoleTokenizer, FP32, BackendTensorRT)
	if err != nil {
		return err
	}
	var ranges *graph.Ranges
	if want(Int8) {
		if ranges, err = graph.NewRanges(DefaultMethod); err != nil {
			return err
		}
	}
	b.begin("reference", grids*(1+len(fp32)))
	ref, err := b.reference(ctx, pictures, latents.File.Name, fp32, ranges)
	if err != nil {
		return err
	}
	if m.Reference, err = ref.save(ctx, dir, referenceFile); err != nil {
		return err
	}
	m.Reference.By, m.Reference.Source, m.Reference.Created = byImport, drawnPictures, m.Created

	if want(Int8) {
		g, err := m.Graph(RoleEncoder, Int8, BackendONNXRuntime)
		if err != nil {
			return err
		}
		floors := Floors{Features: im.opts.Floor, Embedding: im.opts.Floor}
		if m.Int8, err = im.passes(ctx, b, ref, "measure int8", "the int8 encoder", "", []string{g.File.Name}, floors); err != nil {
			return err
		}
		if err := im.quantise(ctx, arch, b, ref, ranges); err != nil {
			return err
		}
	}
	if want(FP16) {
		tokenizer := partsOf(written, RoleTokenizer, FP16)
		m.FP16, err = im.passes(ctx, b, ref, "measure fp16", "fp16", tokenizer[0], partsOf(written, RoleEncoder, FP16), DefaultFloors(FP16))
		if err != nil {
			return err
		}
	}
	return nil
}

// quantise writes the int8 encoder for TensorRT and measures it.
func (im *importer) quantise(ctx context.Context, arch *graph.Arch, b *bench, ref *Reference, ranges *graph.Ranges) error {
	m := b.m
	written, err := graph.BuildQDQ(ctx, im.reader, arch, b.dir, graph.QDQOptions{Ranges: ranges.Found(), Parts: measureParts, Progress: im.progress})
	if err != nil {
		return err
	}
	floors := DefaultFloors(Int8)
	if im.opts.Floor < floors.Features {
		floors.Features = im.opts.Floor
	}
	if im.opts.Floor < floors.Embedding {
		floors.Embedding = im.opts.Floor
	}
	m.QDQ, err = im.passes(ctx, b, ref, "measure int8 for TensorRT", "the int8 encoder for TensorRT", "", partsOf(written, RoleEncoder, Int8), floors)
	if err != nil {
		return fmt.Errorf("%w; with a lower floor it is written, and `toklip model calibrate` fits it to your own frames", err)
	}
	m.Calibration = &Calibration{By: byImport, Source: drawnPictures, Frames: ref.Frames, Method: DefaultMethod, Created: m.Created}
	for _, w := range written {
		if w.Role == RoleEncoder {
			m.Graphs = append(m.Graphs, describeGraph(w))
		}
	}
	return removeParts(b.dir, written)
}

// passes judges graphs, which have to reach the floors. what they are called stands in the error.
func (im *importer) passes(ctx context.Context, b *bench, ref *Reference, stage, what, tokenizer string, encoder []string, floors Floors) (*Quality, error) {
	steps := len(encoder)
	if tokenizer != "" {
		steps++
	}
	b.begin(stage, steps*ref.Frames)
	r, err := b.judge(ctx, ref, tokenizer, encoder, floors)
	if err != nil {
		return nil, err
	}
	im.log.Info(stage, "token_agreement", r.TokenAgreement, "feature_cosine", r.FeatureCosine, "embedding_cosine", r.EmbeddingCosine, "floors", floors)
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%s is %w; leave this precision out, or lower the floor if this is good enough for you", what, err)
	}
	return quality(r), nil
}

// removeParts removes the graphs that were only there to measure.
func removeParts(dir string, written []graph.Written) error {
	for _, w := range written {
		if strings.HasSuffix(w.Role, ".part") {
			if err := os.Remove(filepath.Join(dir, w.Graph.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// readCodebook reads the codebook [K,C] of a checkpoint.
func readCodebook(r checkpoint.Reader, arch *graph.Arch) ([]float32, error) {
	book := make([]float32, arch.Codebook*arch.CodeDim)
	return book, r.ReadFloat32(arch.CodebookTensor(), book, 0)
}

// saveCodebook writes codebook.npy.
func (im *importer) saveCodebook(ctx context.Context, arch *graph.Arch, dir string) (*File, error) {
	book, err := readCodebook(im.reader, arch)
	if err != nil {
		return nil, err
	}
	if err := npy.WriteFloat32(filepath.Join(dir, codebookFile), []int{arch.Codebook, arch.CodeDim}, book); err != nil {
		return nil, err
	}
	return describeFile(ctx, dir, codebookFile)
}

// describeFile is what the manifest says of a file that was just written; it is made durable.
func describeFile(ctx context.Context, dir, name string) (*File, error) {
	path := filepath.Join(dir, name)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	err = file.Sync()
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, fmt.Errorf("write %q: %w", path, err)
	}
	f := &File{Name: name}
	f.SHA256, err = hashFile(ctx, path, func(n int64) { f.Size += n })
	return f, err
}

// testPictures are the importer's own pictures [grids, size, size, 3].
func testPictures(size int) []byte {
	var pictures []byte
	for i := range grids {
		pictures = append(pictures, testPicture(size, uint64(i))...)
	}
	return pictures
}

// testPicture draws a picture [size, size, 3], R, G, B: a few waves in each colour and, on every second one,
// noise over them. The same number gives the same picture.
func testPicture(size int, number uint64) []byte {
	r := rand.New(rand.NewPCG(number, 0x70686f746f))
	p := make([]byte, 3*size*size)
	noise := 0.0
	if number%2 == 1 {
		noise = 0.2 * float64(number)
	}
	for c := range 3 {
		const waves = 6
		var w [waves][4]float64
		for k := range w {
			w[k] = [4]float64{8*r.Float64() - 4, 8*r.Float64() - 4, 2 * math.Pi * r.Float64(), r.Float64()}
		}
		for y := range size {
			for x := range size {
				v := 0.0
				for _, k := range w {
					v += k[3] * math.Sin(2*math.Pi*(k[0]*float64(x)+k[1]*float64(y))/float64(size)+k[2])
				}
				v = v/waves*2 + noise*(2*r.Float64()-1)
				p[3*(y*size+x)+c] = byte(math.Round((max(-1, min(1, v)) + 1) / 2 * 255))
			}
		}
	}
	return p
}
