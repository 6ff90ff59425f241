package labels

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Compiled is a set ready to score: a direction for each label. It never changes and serves any number of goroutines.
type Compiled struct {
	labels      []Label
	limits      []limits
	hash        string
	dim         int
	scale, bias float64
	directions  []float32 // [len(labels), rounded up to a multiple of rowBlock][dim], each of length 1, those above it 0
}

// limits say when a label comes and goes. They are as narrow as scores, so that a score printed as 0.7 reaches 0.7.
type limits struct {
	reach float32 // appears at it
	keep  float32 // fades below it
	hold  time.Duration
}

// Compile makes a set ready to score. The set must be valid; embeddings has what the text tower made of each of its Texts,
// all of one length and as the model gives them. scale is exp(logit_scale) of the model and bias its logit_bias. The set may
// be changed afterwards.
func Compile(s *Set, embeddings map[string][]float32, scale, bias float64) (*Compiled, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if !(scale > 0) || math.IsInf(scale, 0) {
		return nil, fmt.Errorf("compile labels: exp(logit_scale) is %v: it must be positive and finite; is the model damaged?", scale)
	}
	if math.IsNaN(bias) || math.IsInf(bias, 0) {
		return nil, fmt.Errorf("compile labels: logit_bias is %v: it must be finite; is the model damaged?", bias)
	}
	c := &Compiled{labels: s.Clone().Labels, hash: s.Hash(), scale: scale, bias: bias}
	var parts [][]float32
	for i := range c.labels {
		l := &c.labels[i]
		parts = parts[:0]
		for _, text := range l.Texts() {
			e, ok := embeddings[text]
			if !ok {
				return nil, fmt.Errorf("compile label %s: text %s has no embedding", quote(l.Name), quote(text))
			}
			if c.dim == 0 {
				c.dim = len(e)
				c.directions = make([]float32, 0, c.dim*roundUp(len(c.labels), rowBlock))
			}
			if len(e) != c.dim {
				return nil, fmt.Errorf("compile label %s: the embedding of text %s has %d numbers, those before it have %d", quote(l.Name), quote(text), len(e), c.dim)
			}
			parts = append(parts, e)
		}
		direction, err := Ensemble(parts...)
		if err != nil {
			return nil, fmt.Errorf("compile label %s: %w", quote(l.Name), err)
		}
		c.directions = append(c.directions, direction...)
		c.limits = append(c.limits, limits{float32(l.Threshold), float32(l.Threshold - l.Hysteresis), l.Hold})
	}
	c.directions = c.directions[:cap(c.directions)]
	return c, nil
}

func roundUp(n, multiple int) int { return (n + multiple - 1) / multiple * multiple }

// Ensemble is the direction that several embeddings of one thing have in common: the mean of them after each was brought to
// length 1, brought to length 1 again. This is how CLIP averages its prompt templates.
func Ensemble(embeddings ...[]float32) ([]float32, error) {
	if len(embeddings) == 0 || len(embeddings[0]) == 0 {
		return nil, errors.New("average embeddings: there is nothing to average")
	}
	sum := make([]float64, len(embeddings[0]))
	for i, e := range embeddings {
		if len(e) != len(sum) {
			return nil, fmt.Errorf("average embeddings: number %d has length %d, the first %d", i+1, len(e), len(sum))
		}
		n := norm(e)
		if !directed(n) {
			return nil, fmt.Errorf("average embeddings: number %d has length %v and no direction", i+1, n)
		}
		for k, v := range e {
			sum[k] += float64(v) / n
		}
	}
	length := 0.0
	for _, v := range sum {
		length += v * v
	}
	length = math.Sqrt(length)
	// What is left of vectors that cancel each other is rounding.
	if length < 1e-6*float64(len(embeddings)) {
		return nil, fmt.Errorf("average embeddings: the %d of them point away from each other and have no direction in common", len(embeddings))
	}
	direction := make([]float32, len(sum))
	for k, v := range sum {
		direction[k] = float32(v / length)
	}
	return direction, nil
}

// Len is the number of labels.
func (c *Compiled) Len() int { return len(c.labels) }

// Dim is the length of the embeddings to score; 0 for a set without labels, which takes any.
func (c *Compiled) Dim() int { return c.dim }

// Name of label i.
func (c *Compiled) Name(i int) string { return c.labels[i].Name }

// Label i, as it was compiled. Its slices are the caller's.
func (c *Compiled) Label(i int) Label {
	l := c.labels[i]
	l.Prompts, l.Templates = slices.Clone(l.Prompts), slices.Clone(l.Templates)
	return l
}

// Hash is the set's [Set.Hash].
func (c *Compiled) Hash() string { return c.hash }
