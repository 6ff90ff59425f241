package labels_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/toklip/toklip/engine/labels"
	"github.com/toklip/toklip/model/npy"
)

// The logit_scale and logit_bias of all reference weights (synth.py).
var goldenScale = math.Exp(float64(float32(4.7)))

const goldenBias = -16.5

func goldenArrays(t *testing.T, name string) map[string]*npy.Array {
	t.Helper()
	arrays, err := npy.LoadNPZ(filepath.Join("..", "..", "testdata", "reference", "golden", name))
	if err != nil {
		t.Fatal(err)
	}
	return arrays
}

func rows(t *testing.T, a *npy.Array) [][]float32 {
	t.Helper()
	values, err := a.Float32()
	if err != nil {
		t.Fatal(err)
	}
	n := a.Shape()[len(a.Shape())-1]
	out := make([][]float32, 0, len(values)/n)
	for ; len(values) > 0; values = values[n:] {
		out = append(out, values[:n])
	}
	return out
}

// checkGolden scores images against texts, and holds logits and probabilities [images][texts] to what PyTorch found.
func checkGolden(t *testing.T, images, texts [][]float32, logits, probs [][]float64) {
	t.Helper()
	set := new(labels.Set)
	embeddings := make(map[string][]float32)
	for i, e := range texts {
		l := labels.Named(fmt.Sprint("text ", i))
		l.Templates = []string{"{}"}
		set.Labels = append(set.Labels, l)
		embeddings[l.Name] = e
	}
	c, err := labels.Compile(set, embeddings, goldenScale, goldenBias)
	if err != nil {
		t.Fatal(err)
	}
	if len(images) == 0 || len(images) != len(logits) || len(texts) != len(logits[0]) {
		t.Fatalf("%d images and %d texts with %dx%d logits", len(images), len(texts), len(logits), len(logits[0]))
	}
	worst := 0.0
	for i, image := range images {
		for k, s := range c.Score(nil, image) {
			off := math.Abs(float64(s.Logit) - logits[i][k])
			worst = max(worst, off)
			// fp32 knows a cosine to about 1e-7, times a scale of 110.
			if off > 5e-5 {
				t.Errorf("image %d, text %d: logit %v, want %v", i, k, s.Logit, logits[i][k])
			}
			// The error of the logit is a relative one of a small probability.
			if p := float64(s.Score); math.Abs(p-probs[i][k]) > 1e-4*probs[i][k] {
				t.Errorf("image %d, text %d: probability %v, want %v", i, k, p, probs[i][k])
			}
			if want := (logits[i][k] - goldenBias) / goldenScale; math.Abs(float64(s.Cosine)-want) > 5e-7 {
				t.Errorf("image %d, text %d: cosine %v, want %v", i, k, s.Cosine, want)
			}
		}
	}
	t.Logf("%d images, %d texts: logits off by at most %.2g", len(images), len(texts), worst)
}

func TestGoldenLabels(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "reference", "golden", "tiny_labels.json"))
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		TextEmbedding [][]float32 `json:"text_embedding"`
		Logits, Probs [][]float64
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	checkGolden(t, rows(t, goldenArrays(t, "tiny.npz")["embedding"]), golden.TextEmbedding, golden.Logits, golden.Probs)
}

// TestGoldenText: the same with the texts that were given as ids, at full size too.
func TestGoldenText(t *testing.T) {
	for _, name := range []string{"tiny", "s256", "l384"} {
		t.Run(name, func(t *testing.T) {
			text := goldenArrays(t, name+"_text.npz")
			wide := func(key string) (out [][]float64) {
				for _, row := range rows(t, text[key]) {
					var w []float64
					for _, v := range row {
						w = append(w, float64(v))
					}
					out = append(out, w)
				}
				return out
			}
			checkGolden(t, rows(t, goldenArrays(t, name+".npz")["embedding"]), rows(t, text["text_embedding"]), wide("logits"), wide("probs"))
		})
	}
}
