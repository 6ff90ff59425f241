package onnxruntime_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/onnxruntime"
)

// TestPool: a region of all tokens has the frame's embedding, and what a region comes to does not depend on how many others there
// are. That it is right for any mask is tested where the graph is made.
func TestPool(t *testing.T) {
	r := openRuntime(t)
	m := buildModel(t, "tiny", "fp32")
	golden := tinyGoldens(t)
	p, err := r.LoadPool(filepath.Join(filepath.Dir(m.Tokenizer), "pool.onnx"), m, onnxruntime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	n, d, e := m.Tokens(), m.FeatureDim, m.EmbeddingDim
	ones := slices.Repeat([]float32{1}, n)
	for frame := range 3 {
		features := golden.Features[frame*n*d : (frame+1)*n*d]
		got, err := p.Pool(features, ones, 1)
		if err != nil {
			t.Fatal(err)
		}
		sameEmbeddings(t, "all tokens", got, golden.Embedding[frame*e:(frame+1)*e], e, 2e-4, 0.99999)

		var each []float32
		cells := make([]float32, n*n)
		for i := range n {
			cells[i*n+i] = 1
			one, err := p.Pool(features, cells[i*n:(i+1)*n], 1)
			if err != nil {
				t.Fatal(err)
			}
			each = append(each, one...)
		}
		const times = 70 // more regions than run at once
		many, err := p.Pool(features, slices.Repeat(cells, times), times*n)
		if err != nil {
			t.Fatal(err)
		}
		sameEmbeddings(t, "cells", many, slices.Repeat(each, times), e, 1e-5, 0.999999)
	}
}

func TestPoolErrors(t *testing.T) {
	r := openRuntime(t)
	m := buildModel(t, "tiny", "fp32")
	file := filepath.Join(filepath.Dir(m.Tokenizer), "pool.onnx")
	n := m.Tokens()
	wide := *m
	wide.FeatureDim++
	for want, load := range map[string]func() (*onnxruntime.Pool, error){
		`input "features" is float32 [16,96], the model wants features float32 [16,97]`: func() (*onnxruntime.Pool, error) { return r.LoadPool(file, &wide, onnxruntime.Options{}) },
		"is the model folder complete?": func() (*onnxruntime.Pool, error) { return r.LoadPool(file+"x", m, onnxruntime.Options{}) },
		`it has no input "features"`:    func() (*onnxruntime.Pool, error) { return r.LoadPool(m.Encoder, m, onnxruntime.Options{}) },
		`model "empty"`: func() (*onnxruntime.Pool, error) {
			return r.LoadPool(file, &engine.Model{Name: "empty"}, onnxruntime.Options{})
		},
	} {
		if p, err := load(); err == nil {
			p.Close()
			t.Errorf("loaded, want error %s", want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	p, err := r.LoadPool(file, m, onnxruntime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	features := make([]float32, n*m.FeatureDim)
	ones := slices.Repeat([]float32{1}, 2*n)
	empty, half := slices.Clone(ones), slices.Clone(ones)
	clear(empty[n:])
	half[3] = 0.5
	for want, call := range map[string]func() ([]float32, error){
		"1535 features, model \"tiny\" has 16 tokens of 96": func() ([]float32, error) { return p.Pool(features[1:], ones, 2) },
		"masks of 32 values for 1 regions of 16 tokens":     func() ([]float32, error) { return p.Pool(features, ones, 1) },
		"masks of 0 values for 0 regions":                   func() ([]float32, error) { return p.Pool(features, nil, 0) },
		"region 1: its mask holds no token":                 func() ([]float32, error) { return p.Pool(features, empty, 2) },
		"region 0: its mask has 0.5 at token 3":             func() ([]float32, error) { return p.Pool(features, half, 2) },
	} {
		if _, err := call(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if _, err := p.Pool(features, ones, 2); err != nil {
		t.Errorf("a good call after bad ones: %v", err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.Pool(features, ones, 2); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("after closing: %v", err)
	}
}
