package labels

// Compiled is a set ready to score: a direction for each label. It never changes and serves any number of goroutines.
type Compiled struct {
	labels      []Label
	hash        string
	dim         int
	scale, bias float64
	directions  []float32 // [len(labels)*dim], each of length 1
}

// Compile makes a set ready to score. The set must be valid; embeddings has what the text tower made of each of its Texts,
// all of one length and as the model gives them. scale is exp(logit_scale) of the model and bias its logit_bias.
func Compile(s *Set, embeddings map[string][]float32, scale, bias float64) (*Compiled, error) {
	panic("labels: not there yet")
}

// Ensemble is the direction that several embeddings of one thing have in common: the mean of them after each was brought to
// length 1, brought to length 1 again.
func Ensemble(embeddings ...[]float32) ([]float32, error) {
	panic("labels: not there yet")
}

// Len is the number of labels.
func (c *Compiled) Len() int { return len(c.labels) }

// Dim is the length of the embeddings to score; 0 for a set without labels, which takes any.
func (c *Compiled) Dim() int { return c.dim }

// Name of label i.
func (c *Compiled) Name(i int) string { return c.labels[i].Name }

// Hash is the set's [Set.Hash].
func (c *Compiled) Hash() string { return c.hash }
