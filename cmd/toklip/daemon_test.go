package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/capture/capturetest"
	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/mqtt"
)

// A daemon whose embedded broker ends for good does not go on for nobody.
func TestEmbeddedBrokerEnds(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := filepath.Join(t.TempDir(), "tiny")
	toklip(t, "model", "synth", "--preset", "tiny", "--no-text", "--out", dir)
	cfg := config.Default()
	cfg.Node = "broken"
	cfg.Model.Path = dir
	cfg.Engine.Threads = 1
	cfg.MQTT.Listen = "127.0.0.1:0"
	cfg.Capture.Worker = capturetest.Worker(t)
	cfg.Cameras = []config.Camera{{Name: "bars", Source: "test://pattern?fps=10", Enabled: true, Resize: "squash", Publish: []string{"tokens"}}}
	log := &capturetest.Output{}
	d, err := newDaemon(cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.run(t.Context()) }()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), "camera online"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no camera came online:\n%s", log)
		}
	}
	d.broker.Close()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "embedded broker") {
			t.Errorf("the daemon ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("the daemon goes on without its broker:\n%s", log)
	}
}

// failing is a backend that fails every batch.
type failing struct{ model engine.Model }

func (f *failing) Describe() engine.Description {
	return engine.Description{Name: "failing", Model: &f.model, MaxBatch: 1, InFlight: 1}
}
func (f *failing) Submit(*engine.Batch) error { return errors.New("out of memory") }
func (f *failing) Wait(*engine.Batch) error   { return nil }
func (f *failing) Close() error               { return nil }

// A backend that fails for every frame is told of in the state, and not in the log for every frame.
func TestBackendThatAlwaysFails(t *testing.T) {
	log := &capturetest.Output{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	client, err := mqtt.New(mqtt.Options{Broker: "mqtt://127.0.0.1:1", Node: "broken"})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{log: logger, client: client}
	model := engine.Model{Name: "none", ImageSize: 8, Rows: 2, Cols: 2, Codebook: 16}
	d.pipeline, err = engine.New(engine.Config{
		Backend: &failing{model}, Sink: newPublisher(client, logger, nil), OnError: d.backendFailed, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	slot, err := d.pipeline.AddCamera(engine.CameraConfig{Name: "bars"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- d.pipeline.Run(ctx) }()
	const batches = 200
	for n := range batches {
		f := &engine.Frame{Width: 8, Height: 8, Stride: 8, Format: preprocess.Gray8, Pixels: make([]byte, 64), Sequence: uint64(n + 1)}
		f.Reset(nil)
		slot.Offer(f)
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Microsecond) {
			if _, failed := d.pipeline.Health(); failed == n+1 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("batch %d does not fail", n)
			}
		}
	}
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(log.String(), "\n"); lines > 20 {
		t.Errorf("%d lines in the log for %d failed batches", lines, batches)
	}
	if d.state.State != api.StateDegraded || d.state.Reason != "backend: out of memory" {
		t.Errorf("state is %+v", d.state)
	}
}
