package labelling

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/labels"
)

// Heatmap is the reply to heatmap: how well a text fits the surroundings of each token of a camera's newest frame.
type Heatmap struct {
	Camera        string    `json:"camera"`
	Text          string    `json:"text"` // or the label's name
	Radius        int       `json:"radius"`
	Grid          [2]int    `json:"grid"` // rows, columns
	Sequence      uint64    `json:"sequence"`
	CaptureWallNS int64     `json:"capture_wall_ns"`
	Window        Area      `json:"window"` // of the frame under the grid, pixels
	Frame         [2]int    `json:"frame"`  // width, height, pixels
	Cosine        []float32 `json:"cosine"` // row by row
	Score         []float32 `json:"score"`
}

// Area of a frame in pixels, as in a header's window.
type Area struct {
	X      float64 `json:"x"`
	Y      float64 `json:"y"`
	Width  float64 `json:"width"`
	Height float64 `json:"height"`
}

// heatmapChunk is how many neighbourhoods are pooled at once, so that regions get their turn in between.
const heatmapChunk = 32

// Heatmap carries out heatmap.
func (l *Labelling) Heatmap(ctx context.Context, args json.RawMessage) (any, error) {
	a, err := parseHeatmap(args)
	if err != nil {
		return nil, err
	}
	cameras, err := l.chosen(a.Camera)
	if err != nil {
		return nil, err
	}
	camera := cameras[0]
	set, err := camera.sought(a)
	if err != nil {
		return nil, err
	}
	ready, err := l.compile(ctx, set)
	if err != nil {
		return nil, err
	}
	var header toklipv1.Header
	r := camera.last(&header)
	if r == nil {
		return nil, fmt.Errorf("camera %s has shown no frame yet", camera.name)
	}
	defer r.Release()
	w := header.GetWindow()
	found := &Heatmap{
		Camera: camera.name, Text: a.Label + a.Text, Radius: *a.Radius, Grid: [2]int{r.Model.Rows, r.Model.Cols},
		Sequence: r.Sequence, CaptureWallNS: r.CaptureWall, Frame: [2]int{r.Width, r.Height},
		Window: Area{w.GetX(), w.GetY(), w.GetWidth(), w.GetHeight()},
	}
	return found, l.fillHeatmap(ctx, found, ready, r)
}

// sought is a set of the one label that a heat map is for.
func (c *Camera) sought(a *heatmapArgs) (*labels.Set, error) {
	if a.Text != "" {
		return queries([]string{a.Text}, a.Templates)
	}
	is, _ := c.inForce()
	if is != nil {
		for _, label := range is.set.Labels {
			if label.Name == a.Label {
				return &labels.Set{Labels: []labels.Label{label}}, nil
			}
		}
	}
	return nil, fmt.Errorf("label %.128q is not in the set of camera %s: labels/get shows that; send text instead of label for any other", a.Label, c.name)
}

// fillHeatmap scores the neighbourhood of every cell.
func (l *Labelling) fillHeatmap(ctx context.Context, to *Heatmap, set *labels.Compiled, r *engine.Result) error {
	rows, cols := r.Model.Rows, r.Model.Cols
	cells, dim := rows*cols, set.Dim()
	if len(r.Embedding) != dim || r.Features == nil {
		return fmt.Errorf("heat map: frames of camera %s have embeddings of %d numbers, the text of %d", to.Camera, len(r.Embedding), dim)
	}
	masks := make([]float32, heatmapChunk*cells)
	var scores []labels.Score
	for chunk := range slices.Chunk(indices(cells), heatmapChunk) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for i, cell := range chunk {
			labels.Neighbourhood(masks[i*cells:(i+1)*cells], rows, cols, cell, to.Radius)
		}
		err := l.pool.run(r.Features, masks[:len(chunk)*cells], len(chunk), func(embeddings []float32) error {
			if len(embeddings) != len(chunk)*dim {
				return fmt.Errorf("heat map: %d numbers for %d cells of %d", len(embeddings), len(chunk), dim)
			}
			for embedding := range slices.Chunk(embeddings, dim) {
				scores = set.Score(scores, embedding)
				to.Cosine, to.Score = append(to.Cosine, scores[0].Cosine), append(to.Score, scores[0].Score)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// indices are 0 to n-1.
func indices(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}
