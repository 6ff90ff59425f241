package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sync/errgroup"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/labelling"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/labels"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/mqtt"
)

// benchWarmUp is how many rounds are run and not counted.
const benchWarmUp = 2

// benchPictures is how many different frames are shown in turn: consecutive ones must differ, or the encoder would not run.
const benchPictures = 3

type benchOptions struct {
	frames, cameras, width, height int

	labels int // that every frame is scored against

	noGraph, noKernels bool
	inFlight           int
}

func (o benchOptions) check() error {
	switch {
	case o.frames < 1 || o.frames > 1_000_000:
		return fmt.Errorf("--frames %d is not between 1 and 1000000", o.frames)
	case o.cameras < 1 || o.cameras > 64:
		return fmt.Errorf("--cameras %d is not between 1 and 64", o.cameras)
	case min(o.width, o.height) < 1 || max(o.width, o.height) > preprocess.MaxSourceEdge:
		return fmt.Errorf("--width %d --height %d: each must lie between 1 and %d", o.width, o.height, preprocess.MaxSourceEdge)
	}
	if o.labels < 0 || o.labels > labels.MaxLabels {
		return fmt.Errorf("--labels %d is not between 0 and %d", o.labels, labels.MaxLabels)
	}
	if o.inFlight < 0 || o.inFlight > 2 {
		return fmt.Errorf("--in-flight %d is not 1 or 2, nor 0 for what the daemon has", o.inFlight)
	}
	return nil
}

// bench is one run: the daemon's own pipeline, publisher, client and broker, with frames from memory instead of workers.
type bench struct {
	opts     benchOptions
	subject  *benchSubject
	pipeline *engine.Pipeline
	cameras  []*engine.Camera
	configs  []config.Camera
	labels   *labelling.Labelling // nil: frames are not scored
	pictures [][]byte

	results chan benchResult // one for each result of the pipeline
	arrived chan time.Time   // one for the last message of each result at the subscriber
	samples map[string][]time.Duration
	over    []float64
	bare    []float64
}

// benchResult is what is kept of a result.
type benchResult struct {
	stages engine.Stages
	reused bool
	batch  int // frames that shared these stages
	label  time.Duration
	at     time.Time
}

func benchmark(ctx context.Context, opened *openedModel, subject *benchSubject, opts benchOptions, bar *progress) (*benchReport, error) {
	backend := subject.backend
	broker, err := mqtt.NewBroker(mqtt.BrokerOptions{Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		return nil, err
	}
	client, err := mqtt.New(mqtt.Options{Broker: broker.URL(), Node: "bench", JSON: true})
	if err != nil {
		broker.Close()
		return nil, err
	}
	b := &bench{
		opts: opts, subject: subject, results: make(chan benchResult, opts.cameras), arrived: make(chan time.Time, opts.cameras),
		samples: map[string][]time.Duration{},
	}
	publish := newPublisher(client, slog.New(slog.DiscardHandler), &toklipv1.Header{Schema: api.Schema, Node: "bench"})
	b.pipeline, err = engine.New(engine.Config{Backend: backend, Sink: engine.SinkFunc(func(r *engine.Result) {
		at := time.Now() // before the message leaves: it may arrive before Deliver returns
		publish.Deliver(r)
		label := time.Duration(publish.cameras[r.Camera].header.Stages.LabelNs)
		b.results <- benchResult{stages: r.Stages, reused: r.Reused, batch: r.Batch, label: label, at: at}
	})})
	if err != nil {
		broker.Close()
		return nil, err
	}
	for i := range opts.cameras {
		name := fmt.Sprintf("bench-%d", i)
		slot, err := b.pipeline.AddCamera(engine.CameraConfig{Name: name, Resize: opened.spec.Resize})
		if err != nil {
			broker.Close()
			return nil, err
		}
		b.cameras = append(b.cameras, slot)
		b.configs = append(b.configs, config.Camera{Name: name, Publish: []string{"tokens", "embedding"}})
	}
	if opts.labels > 0 {
		b.labels = benchLabels(opened, opts.labels, b.configs, client)
	}
	for _, camera := range b.configs {
		var labels *labelling.Camera
		if b.labels != nil {
			labels = b.labels.Camera(camera.Name)
		}
		publish.add(camera, labels)
	}
	for i := range benchPictures {
		b.pictures = append(b.pictures, benchPicture(opts.width, opts.height, uint64(i)))
	}

	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	group, running := errgroup.WithContext(serving)
	group.Go(func() error { return broker.Run(running) })
	group.Go(func() error { return client.Run(running) })
	group.Go(func() error { return b.pipeline.Run(running) })
	if b.labels != nil {
		group.Go(func() error { return b.labels.Run(running) })
	}
	report := &benchReport{
		Model: opened.manifest.Name, Backend: backend.Describe().Name + " " + backend.Describe().Version, Precision: backend.Describe().Precision,
		Threads: subject.threads, ImageSize: opened.spec.ImageSize, Frame: [2]int{opts.width, opts.height}, Frames: opts.frames, Cameras: opts.cameras, Labels: opts.labels,
		Weights: subject.weights,
	}
	subject.describe(report)
	group.Go(func() error {
		defer cancel()
		return b.measure(running, broker.URL(), client, report, bar)
	})
	err = group.Wait()
	if b.labels != nil {
		err = errors.Join(err, b.labels.Close())
	}
	if err != nil {
		return nil, err
	}
	return report, ctx.Err()
}

// measure runs the rounds and fills the report.
func (b *bench) measure(ctx context.Context, url string, client *mqtt.Client, report *benchReport, bar *progress) error {
	unsubscribe, err := b.subscribe(ctx, url, client)
	if err != nil {
		return err
	}
	defer unsubscribe()
	if b.labels != nil {
		if err := waitUntil(ctx, func() bool { return scoringAll(b.labels, b.configs) }); err != nil {
			return err
		}
	}
	busy := time.Duration(0)
	for round := range benchWarmUp + b.opts.frames {
		bar.update("bench", int64(round), int64(benchWarmUp+b.opts.frames))
		spent, err := b.round(ctx, round)
		if err != nil {
			return err
		}
		if round >= benchWarmUp {
			busy += spent
		}
	}
	for _, s := range []struct{ name, what string }{
		{"preprocess", "resize and normalise, of the batch"},
		{"tokenize", "tokenizer network and comparison with the last ids"},
		{"encode", "token encoder network"},
		{"label", "score every label"},
		{"publish", "from result to the subscriber's hands: encode, broker, loopback"},
		{"whole", "from frame to the subscriber's hands"},
		{"overhead", "whole frame less its networks"},
		{"bare", "both networks alone, just before each frame"},
	} {
		if s.name != "label" || b.labels != nil {
			report.Stages = append(report.Stages, stage(s.name, s.what, b.samples[s.name]))
		}
	}
	report.FPS = float64(b.opts.frames*b.opts.cameras) / busy.Seconds()
	report.Stages = append(report.Stages, b.subject.stages()...)
	b.subject.finish(report)
	report.Overhead, report.OverBare = median(b.over), median(b.bare)
	report.memory()
	return nil
}

// subscribe connects an independent client that notes when the last message of each result arrives: that of labels, where there are some.
func (b *bench) subscribe(ctx context.Context, url string, client *mqtt.Client) (func(), error) {
	address, err := mqtt.ParseAddress(url)
	if err != nil {
		return nil, err
	}
	kind := api.KindTokens
	if b.labels != nil {
		kind = api.KindLabels
	}
	subscriber := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + address.Host).SetClientID("bench-subscriber").SetProtocolVersion(4).SetAutoReconnect(false).SetOrderMatters(false))
	for _, wait := range []func() paho.Token{
		subscriber.Connect,
		func() paho.Token {
			return subscriber.Subscribe("toklip/bench/camera/+/"+string(kind), 0, func(paho.Client, paho.Message) { b.arrived <- time.Now() })
		},
	} {
		token := wait()
		if !token.WaitTimeout(10 * time.Second) {
			return nil, errors.New("bench: the embedded broker does not answer")
		}
		if token.Error() != nil {
			return nil, fmt.Errorf("bench: %w", token.Error())
		}
	}
	if err := waitUntil(ctx, client.Connected); err != nil {
		subscriber.Disconnect(100)
		return nil, err
	}
	return func() { subscriber.Disconnect(100) }, nil
}

// waitUntil looks until something is so.
func waitUntil(ctx context.Context, so func() bool) error {
	for !so() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// round times the bare networks, then one frame of every camera on its whole way.
func (b *bench) round(ctx context.Context, round int) (time.Duration, error) {
	count := round >= benchWarmUp
	add := func(name string, d time.Duration) {
		if count {
			b.samples[name] = append(b.samples[name], d)
		}
	}
	// The pipeline is idle between rounds, so the networks may be run beside it.
	bare, err := b.subject.bare(b.frames(round))
	if err != nil {
		return 0, err
	}
	b.subject.count(count)
	add("bare", bare)

	begun := time.Now()
	for i, frame := range b.frames(round) {
		b.cameras[i].Offer(frame)
	}
	var last time.Time
	var networks time.Duration
	var results []benchResult
	for range b.cameras {
		select {
		case r := <-b.results:
			if r.reused {
				return 0, errors.New("bench: two different frames gave equal tokens; the encoder did not run")
			}
			results = append(results, r)
			networks += b.subject.networks(r.stages) / time.Duration(r.batch)
			add("preprocess", r.stages.Preprocess)
			add("tokenize", r.stages.Tokenize)
			add("encode", r.stages.Encode)
			if b.labels != nil {
				add("label", r.label)
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	for i := range b.cameras {
		select {
		case last = <-b.arrived:
			add("publish", last.Sub(results[i].at))
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	whole := last.Sub(begun)
	add("whole", whole)
	add("overhead", whole-networks)
	if count {
		b.over = append(b.over, float64(whole-networks)/float64(networks))
		if b.opts.cameras == 1 {
			b.bare = append(b.bare, float64(whole)/float64(bare)-1)
		}
	}
	return whole, nil
}

// frames are those of a round, one of every camera.
func (b *bench) frames(round int) []*engine.Frame {
	var all []*engine.Frame
	for i := range b.cameras {
		frame := &engine.Frame{
			Pixels: b.pictures[(round+i)%benchPictures], Width: b.opts.width, Height: b.opts.height, Stride: 3 * b.opts.width, Format: preprocess.BGR8,
			Sequence: uint64(round + 1), CaptureWall: time.Now().UnixNano(), CaptureMono: capture.MonotonicNow(), Clock: "generated",
		}
		frame.Reset(nil)
		all = append(all, frame)
	}
	return all
}

// benchPicture draws smooth waves with a little noise, BGR, rows without gaps.
func benchPicture(width, height int, seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	var wave [3][3]float64
	for c := range wave {
		for k := range wave[c] {
			wave[c][k] = 2 + 10*random.Float64()
		}
	}
	pixels := make([]byte, 3*width*height)
	for y := range height {
		for x := range width {
			u, v := float64(x)/float64(width), float64(y)/float64(height)
			for c := range 3 {
				w := wave[c]
				pixels[3*(y*width+x)+c] = byte(127 + 100*math.Sin(w[0]*u+w[2])*math.Cos(w[1]*v) + 20*random.Float64())
			}
		}
	}
	return pixels
}
