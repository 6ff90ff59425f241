package main

import (
	"fmt"
	"slices"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/labels"
	"github.com/toklip/toklip/engine/onnxruntime"
)

// where scores parts of a picture: its attention pool sees some of the tokens only.
type where struct {
	model   *engine.Model
	pool    *onnxruntime.Pool
	set     *labels.Compiled
	regions []labels.Region

	label  int // that the heat map is of; -1: none
	radius int

	scores []labels.Score
}

// openPool loads the attention pool, which makes embeddings of parts of a picture.
func openPool(opened *openedModel, library string, threads int) (*onnxruntime.Pool, error) {
	graph, err := opened.manifest.PoolGraph()
	if err != nil {
		return nil, err
	}
	runtime, err := openRuntime(library)
	if err != nil {
		return nil, err
	}
	return runtime.LoadPool(graph.File.Path(opened.dir), opened.spec, onnxruntime.Options{Threads: threads})
}

// openWhere loads the attention pool. The caller closes it.
func openWhere(opened *openedModel, library string, threads int, set *labels.Compiled, regions []labels.Region) (*where, error) {
	pool, err := openPool(opened, library, threads)
	if err != nil {
		return nil, err
	}
	return &where{model: opened.spec, pool: pool, set: set, regions: regions, label: -1}, nil
}

// heatmap asks for a heat map of a label of the set; an empty one is none.
func (w *where) heatmap(label string, radius int) {
	for i := range w.set.Len() {
		if w.set.Name(i) == label {
			w.label, w.radius = i, radius
		}
	}
}

func (w *where) close() error { return w.pool.Close() }

// fill adds what was asked for to the line of an image with these features.
func (w *where) fill(line *labelled, in *fileImage, features []float32) error {
	if len(w.regions) > 0 {
		if err := w.fillRegions(line, in, features); err != nil {
			return err
		}
	}
	if w.label < 0 {
		return nil
	}
	rows, cols := w.model.Rows, w.model.Cols
	masks := make([]float32, w.model.Tokens()*w.model.Tokens())
	for cell, mask := range each(masks, w.model.Tokens()) {
		labels.Neighbourhood(mask, rows, cols, cell, w.radius)
	}
	line.Heatmap = &labelHeatmap{Label: w.set.Name(w.label), Radius: w.radius, Grid: [2]int{rows, cols}}
	return w.score(features, masks, func(int) {
		s := &w.scores[w.label]
		line.Heatmap.Cosine, line.Heatmap.Score = append(line.Heatmap.Cosine, s.Cosine), append(line.Heatmap.Score, s.Score)
	})
}

func (w *where) fillRegions(line *labelled, in *fileImage, features []float32) error {
	mapping, err := in.geometry.Mapping()
	if err != nil {
		return err
	}
	frame := labels.Size{Width: in.geometry.Width, Height: in.geometry.Height}
	window := windowOf(mapping)
	masks := make([]float32, len(w.regions)*w.model.Tokens())
	for i, mask := range each(masks, w.model.Tokens()) {
		if _, err := w.regions[i].Mask(mask, labels.Grid{Rows: w.model.Rows, Cols: w.model.Cols}, frame, window); err != nil {
			return err
		}
	}
	return w.score(features, masks, func(i int) {
		line.Regions = append(line.Regions, regionScores{w.regions[i].Name, bestFirst(w.set, w.scores)})
	})
}

// score scores what each mask lets see and calls take while w.scores has it.
func (w *where) score(features, masks []float32, take func(mask int)) error {
	embeddings, err := w.pool.Pool(features, masks, len(masks)/w.model.Tokens())
	if err != nil {
		return err
	}
	for i, embedding := range each(embeddings, w.model.EmbeddingDim) {
		w.scores = w.set.Score(w.scores, embedding)
		if w.scores[0].Broken {
			return fmt.Errorf("part %d of the picture has an embedding that is not a direction: the model's weights are damaged", i)
		}
		take(i)
	}
	return nil
}

// each goes over the rows of so many values.
func each(values []float32, width int) func(yield func(int, []float32) bool) {
	return func(yield func(int, []float32) bool) {
		i := 0
		for row := range slices.Chunk(values, width) {
			if !yield(i, row) {
				return
			}
			i++
		}
	}
}
