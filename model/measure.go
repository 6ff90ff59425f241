package model

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
)

// How the int8 encoder is measured: on how many token grids, and in how many parts the fp32 encoder runs, so
// that its weights need not all be in memory.
const (
	grids        = 6
	measureParts = 4
)

// measure compares the int8 encoder with the fp32 one, whose parts are given, on token grids that the model's own
// tokenizer makes of pictures drawn here, and refuses it below the floor.
func (im *importer) measure(ctx context.Context, m *Manifest, dir string, parts []string) (*Quality, error) {
	var inputs []map[string]Tensor
	for i := range grids {
		inputs = append(inputs, map[string]Tensor{TensorImage: {
			Shape: []int64{1, 3, int64(m.Image.Size), int64(m.Image.Size)}, Float32: testPicture(m.Image.Size, uint64(i)),
		}})
	}
	steps, step := int64(len(parts)+2), int64(0)
	run := func(file string, inputs []map[string]Tensor, outputs ...string) ([]map[string]Tensor, error) {
		im.progress("measure int8", step, steps)
		out, err := im.opts.Runner.Run(ctx, file, inputs, outputs)
		if err != nil {
			return nil, fmt.Errorf("measure int8: %w", err)
		}
		if len(out) != len(inputs) {
			return nil, fmt.Errorf("measure int8: %d results came for %d inputs of %s", len(out), len(inputs), filepath.Base(file))
		}
		step++
		im.progress("measure int8", step, steps)
		return out, nil
	}
	path := func(role, precision string) string {
		g, _ := m.Graph(role, precision, BackendONNXRuntime)
		return g.File.Path(dir)
	}
	ids, err := run(path(RoleTokenizer, FP32), inputs, TensorIDs)
	if err != nil {
		return nil, err
	}
	want := ids
	for i, part := range parts {
		outputs := []string{"next_stream"}
		if i == len(parts)-1 {
			outputs = []string{TensorFeatures, TensorEmbedding}
		}
		if i > 0 {
			for j := range want {
				want[j] = map[string]Tensor{"stream": want[j]["next_stream"]}
			}
		}
		if want, err = run(part, want, outputs...); err != nil {
			return nil, err
		}
	}
	got, err := run(path(RoleEncoder, Int8), ids, TensorFeatures, TensorEmbedding)
	if err != nil {
		return nil, err
	}
	q := &Quality{Grids: grids, FeatureCosine: 1, EmbeddingCosine: 1, Floor: im.opts.Floor}
	for i := range want {
		q.FeatureCosine = min(q.FeatureCosine, worstCosine(want[i][TensorFeatures], got[i][TensorFeatures], m.Encoder.FeatureDim))
		q.EmbeddingCosine = min(q.EmbeddingCosine, worstCosine(want[i][TensorEmbedding], got[i][TensorEmbedding], m.Encoder.EmbeddingDim))
	}
	im.log.Info("int8 measured", "feature_cosine", q.FeatureCosine, "embedding_cosine", q.EmbeddingCosine, "floor", q.Floor)
	// Written so that NaN is refused too.
	if !(q.FeatureCosine >= q.Floor && q.EmbeddingCosine >= q.Floor) {
		return nil, fmt.Errorf("the int8 encoder is too far from fp32: worst cosine of a token's features %.5f, of an embedding %.5f, floor %.5f "+
			"(%d token grids); leave int8 out, or lower the floor if this is good enough for you", q.FeatureCosine, q.EmbeddingCosine, q.Floor, grids)
	}
	return q, nil
}

// worstCosine compares rows of width values; NaN if the tensors do not match or a value is none.
func worstCosine(a, b Tensor, width int) float64 {
	if len(a.Float32) != len(b.Float32) || len(a.Float32) == 0 || len(a.Float32)%width != 0 {
		return math.NaN()
	}
	worst := 1.0
	for at := 0; at < len(a.Float32); at += width {
		var ab, aa, bb float64
		for i, x := range a.Float32[at : at+width] {
			y := float64(b.Float32[at+i])
			ab += float64(x) * y
			aa += float64(x) * float64(x)
			bb += y * y
		}
		c := ab / math.Sqrt(aa*bb)
		if math.IsNaN(c) {
			return c
		}
		worst = min(worst, c)
	}
	return worst
}

// testPicture draws a picture [3, size, size] in [-1, 1]: a few waves in each colour and, on every second one,
// noise over them. The same number gives the same picture.
func testPicture(size int, number uint64) []float32 {
	r := rand.New(rand.NewPCG(number, 0x70686f746f))
	p := make([]float32, 3*size*size)
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
				p[(c*size+y)*size+x] = float32(max(-1, min(1, v)))
			}
		}
	}
	return p
}
