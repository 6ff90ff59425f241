package main

import (
	"log/slog"
	"testing"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/mqtt"
)

// Figures in metrics are those of one camera and of one interval.
func TestIntervalOfACamera(t *testing.T) {
	client, err := mqtt.New(mqtt.Options{Broker: "mqtt://127.0.0.1:1", Node: "porch"})
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(client, slog.New(slog.DiscardHandler), &toklipv1.Header{Node: "porch"})
	p.add(config.Camera{Name: "fast", Publish: []string{"tokens"}}, nil)
	p.add(config.Camera{Name: "slow", Publish: []string{"tokens"}}, nil)
	model := &engine.Model{Rows: 2, Cols: 2, Codebook: 16, ImageSize: 8}
	deliver := func(camera string, sequence uint64, changed uint64, took time.Duration) {
		batch := engine.NewBatch(model)
		defer batch.Clear()
		f := &engine.Frame{Camera: camera, Sequence: sequence, Width: 8, Height: 8, Format: preprocess.Gray8}
		r := batch.Add(0, f, preprocess.Squash).Result
		r.Changed[0], r.Age = changed, 2*took
		r.Stages = engine.Stages{Preprocess: took, Tokenize: took, Total: 3 * took}
		p.Deliver(r)
	}
	deliver("fast", 1, 0b1111, time.Second) // the first takes long, as it does
	deliver("slow", 1, 0b1111, 50*time.Millisecond)
	if _, _, stages := p.interval("fast"); stages["tokenize"].MaxNS != time.Second.Nanoseconds() {
		t.Errorf("fast at first: %+v", stages["tokenize"])
	}
	for n := range uint64(10) {
		deliver("fast", n+2, 0b0001, time.Millisecond)
		deliver("slow", n+2, 0b0011, 100*time.Millisecond)
	}
	for camera, want := range map[string]struct {
		took    time.Duration // at most, within 3.2 %
		changed float64
	}{"fast": {time.Millisecond, 0.25}, "slow": {100 * time.Millisecond, 0.545}} {
		changed, sequence, stages := p.interval(camera)
		if sequence != 11 || changed < want.changed-0.01 || changed > want.changed+0.01 {
			t.Errorf("%s: sequence %d, %v of the cells changed, want %v", camera, sequence, changed, want.changed)
		}
		for stage, times := range map[string]int64{"preprocess": 1, "tokenize": 1, "age": 2, "total": 3} {
			s, longest := stages[stage], times*want.took.Nanoseconds()
			if s.MaxNS != longest || s.P99NS > longest || s.P99NS < longest*96/100 {
				t.Errorf("%s: %s is %+v, want %d at most", camera, stage, s, longest)
			}
		}
		if stages["encode"] != (api.Spread{}) {
			t.Errorf("%s: the encoder did not run and took %+v", camera, stages["encode"])
		}
	}
	if changed, sequence, stages := p.interval("fast"); changed != 0 || sequence != 11 || stages["total"] != (api.Spread{}) {
		t.Errorf("an interval without results: %v changed, sequence %d, %+v", changed, sequence, stages["total"])
	}
}
