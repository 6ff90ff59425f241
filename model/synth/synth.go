// Package synth computes synthetic TokLIP checkpoints: every weight is a pure function of its tensor's name
// and its index, so that a model of any size exists without a file, the same on every machine.
//
//	value(name, i) = float32( u(salt+name, i) * scale + offset )     computed in float64, rounded once
//	u(key, i)      = (mix64(fnv1a64(key) + (i+1) * 0x9E3779B97F4A7C15 mod 2^64) >> 40) / 2^23 - 1     in [-1, 1)
//
// where mix64 is the finaliser of splitmix64 (Steele, Lea, Flood 2014) and scale and offset depend on the
// kind of tensor: Glorot-like widths for weights, ones and zeros for norms. Such a model's tokens carry no
// meaning; it has the exact architecture, and realistic sizes of numbers.
package synth

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/toklip/toklip/model/checkpoint"
)

// Checkpoint is a synthetic checkpoint. It holds no values: they are computed when they are read. It may be
// used by several goroutines at once.
type Checkpoint struct {
	config Config
	salt   string
	infos  []checkpoint.Info
	index  map[string]int
}

var _ checkpoint.Reader = (*Checkpoint)(nil)

// New makes a synthetic checkpoint of the given architecture, with or without the text tower. Another salt
// gives other weights.
func New(config Config, salt string, withText bool) (*Checkpoint, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	c := &Checkpoint{config: config, salt: salt, infos: config.tensors(withText), index: map[string]int{}}
	for i, info := range c.infos {
		c.index[info.Name] = i
	}
	return c, nil
}

// Config is the checkpoint's architecture.
func (c *Checkpoint) Config() Config {
	out := c.config
	out.Mult = slices.Clone(out.Mult)
	return out
}

// Metadata tells what the tensors' shapes do not: "heads", and "text_heads" where the architecture has a text tower.
func (c *Checkpoint) Metadata() map[string]string {
	m := map[string]string{"heads": strconv.Itoa(c.config.Heads)}
	if c.config.Text.Layers > 0 {
		m["text_heads"] = strconv.Itoa(c.config.Text.Heads)
	}
	return m
}

// Tensors implements [checkpoint.Reader].
func (c *Checkpoint) Tensors() []checkpoint.Info { return slices.Clone(c.infos) }

// Lookup implements [checkpoint.Reader].
func (c *Checkpoint) Lookup(name string) (checkpoint.Info, bool) {
	i, ok := c.index[name]
	if !ok {
		return checkpoint.Info{}, false
	}
	return c.infos[i], true
}

// ReadFloat32 implements [checkpoint.Reader]. Long ranges are computed by all processors.
func (c *Checkpoint) ReadFloat32(name string, dst []float32, offset int64) error {
	info, ok := c.Lookup(name)
	if !ok {
		return fmt.Errorf("synthetic checkpoint: no tensor is named %q", name)
	}
	if n := info.Len(); offset < 0 || offset > n || int64(len(dst)) > n-offset {
		return fmt.Errorf("synthetic checkpoint: tensor %q has %d elements; elements %d to %d were asked for",
			name, n, offset, offset+int64(len(dst)))
	}
	r := ruleFor(name, info.Shape)
	fill(dst, hash(c.salt+name), offset, r)
	return nil
}

// Close implements [checkpoint.Reader]. There is nothing to release.
func (c *Checkpoint) Close() error { return nil }

// Uniform fills dst with u(key, i) for i from offset on, as float32, which holds it exactly.
func Uniform(key string, dst []float32, offset int64) {
	fill(dst, hash(key), offset, rule{scale: 1})
}

// rule says how a tensor's values come from uniform ones.
type rule struct{ scale, offset float64 }

// ruleFor finds the rule of a tensor by its name, without salt, and its shape.
func ruleFor(name string, shape []int64) rule {
	leaf := name[strings.LastIndexByte(name, '.')+1:]
	norm := slices.ContainsFunc([]string{".norm", "norm1.", "norm2.", "norm_out.", "ln_1.", "ln_2.", "ln_final."},
		func(part string) bool { return strings.Contains(name, part) })
	switch {
	case strings.HasSuffix(name, "logit_scale"):
		return rule{0, 4.7}
	case strings.HasSuffix(name, "logit_bias"):
		return rule{0, -16.5}
	case norm && leaf == "weight":
		return rule{0.1, 1}
	case norm:
		return rule{0.1, 0}
	case leaf == "bias", leaf == "in_proj_bias":
		return rule{0.02, 0}
	case leaf == "latent":
		return rule{1, 0}
	case strings.Contains(leaf, "pos_embed"), leaf == "positional_embedding":
		return rule{0.5, 0}
	case strings.HasSuffix(name, "quantize.embedding.weight"), strings.HasSuffix(name, "token_embedding.weight"):
		return rule{1, 0}
	case strings.Contains(leaf, "codebook_used"):
		return rule{0, 0}
	}
	fanIn := int64(1)
	if len(shape) == 1 {
		fanIn = shape[0]
	}
	for _, d := range shape[min(1, len(shape)):] {
		fanIn *= d
	}
	return rule{math.Sqrt(3 / float64(fanIn)), 0}
}

// hash is FNV-1a, 64 bits.
func hash(key string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 0x100000001b3
	}
	return h
}

// piece is how many values one goroutine computes at least.
const piece = 1 << 16

// fill computes values of the tensor with the given hash, from offset on.
func fill(dst []float32, seed uint64, offset int64, r rule) {
	workers := min(runtime.GOMAXPROCS(0), len(dst)/piece)
	if workers <= 1 {
		fillPiece(dst, seed, offset, r)
		return
	}
	var wg sync.WaitGroup
	size := (len(dst) + workers - 1) / workers
	for at := 0; at < len(dst); at += size {
		part := dst[at:min(at+size, len(dst))]
		wg.Add(1)
		go func() {
			defer wg.Done()
			fillPiece(part, seed, offset+int64(at), r)
		}()
	}
	wg.Wait()
}

func fillPiece(dst []float32, seed uint64, offset int64, r rule) {
	const step = 0x9E3779B97F4A7C15
	state := seed + (uint64(offset)+1)*step
	for i := range dst {
		z := (state ^ state>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		z ^= z >> 31
		u := float64(int64(z>>40))*0x1p-23 - 1
		// The conversion keeps compilers from fusing product and sum, which would round once instead of twice.
		dst[i] = float32(float64(u*r.scale) + r.offset)
		state += step
	}
}
