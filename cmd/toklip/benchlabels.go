package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/labelling"
	"github.com/toklip/toklip/mqtt"
)

// benchLabels prepares for scoring every frame against so many labels.
func benchLabels(opened *openedModel, count int, cameras []config.Camera, client *mqtt.Client) *labelling.Labelling {
	scale, bias, err := opened.manifest.Text.Scoring()
	if err != nil {
		scale, bias = 100, -10 // any will do
	}
	labels := config.Default().Labels
	for i := range count {
		labels.Set = append(labels.Set, fmt.Sprintf("label %d", i))
	}
	return labelling.New(labelling.Options{
		BootID: "bench", Labels: labels, Cameras: cameras, Scale: scale, Bias: bias,
		Texts: inventedTexts{opened.spec.EmbeddingDim}, Publish: client,
	})
}

// scoringAll reports whether every camera is scored.
func scoringAll(l *labelling.Labelling, cameras []config.Camera) bool {
	info := api.Info{Cameras: make([]api.CameraInfo, len(cameras))}
	for i, camera := range cameras {
		info.Cameras[i].Name = camera.Name
	}
	l.Describe(&info)
	for _, camera := range info.Cameras {
		if camera.LabelSet == "" {
			return false
		}
	}
	return true
}

// inventedTexts gives every text a direction of its own, so that a benchmark needs no text tower: how long scoring takes depends on how many
// labels there are and not on what they say.
type inventedTexts struct{ dim int }

// Embed implements texttower.Embedder.
func (t inventedTexts) Embed(_ context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		seed := fnv.New64a()
		seed.Write([]byte(text))
		random := rand.New(rand.NewPCG(seed.Sum64(), 0))
		out[i] = make([]float32, t.dim)
		for k := range out[i] {
			out[i][k] = float32(random.NormFloat64())
		}
	}
	return out, nil
}
