package main

import (
	"log/slog"
	"sync"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/labelling"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/labels"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/mqtt"
)

// publisher hands results of the pipeline to the MQTT client. It is the pipeline's sink.
type publisher struct {
	client *mqtt.Client
	log    *slog.Logger
	common *toklipv1.Header // what all headers of this run share

	mu      sync.Mutex
	cameras map[string]*publishing
}

// publishing is what is kept for one camera. All but the last block is used by Deliver alone.
type publishing struct {
	header toklipv1.Header
	window preprocess.Geometry // that header.Window was computed for
	frame  mqtt.Frame

	tokens, embedding, features bool              // which are published
	labels                      *labelling.Camera // nil: frames are not scored

	// Guarded by publisher.mu.
	sequence    uint64
	cells, hits uint64     // seen and changed since metrics last asked
	stages      stageTimes // of results since metrics last asked
}

// stageTimes are the distributions of how long results spent where.
type stageTimes struct{ age, wait, queue, preprocess, tokenize, encode, label, total engine.Histogram }

func (s *stageTimes) add(r *engine.Result, label time.Duration) {
	s.age.Add(r.Age)
	s.wait.Add(r.Stages.Wait)
	s.queue.Add(r.Stages.Queue)
	s.preprocess.Add(r.Stages.Preprocess)
	s.tokenize.Add(r.Stages.Tokenize)
	if r.Stages.Encode > 0 { // it ran
		s.encode.Add(r.Stages.Encode)
	}
	if label > 0 { // there are some
		s.label.Add(label)
	}
	s.total.Add(r.Stages.Total)
}

// spreads are the figures of metrics, by the names of toklipv1.Stages.
func (s *stageTimes) spreads() map[string]api.Spread {
	return map[string]api.Spread{
		"age": spread(&s.age), "wait": spread(&s.wait), "queue": spread(&s.queue), "preprocess": spread(&s.preprocess),
		"tokenize": spread(&s.tokenize), "encode": spread(&s.encode), "label": spread(&s.label), "total": spread(&s.total),
	}
}

func spread(h *engine.Histogram) api.Spread {
	return api.Spread{P50NS: h.Quantile(0.5).Nanoseconds(), P99NS: h.Quantile(0.99).Nanoseconds(), MaxNS: h.Max().Nanoseconds()}
}

func newPublisher(client *mqtt.Client, log *slog.Logger, common *toklipv1.Header) *publisher {
	return &publisher{client: client, log: log, common: common, cameras: map[string]*publishing{}}
}

// add makes the publisher know a camera, before its first frame. labels may be nil.
func (p *publisher) add(cfg config.Camera, labels *labelling.Camera) {
	to := &publishing{tokens: cfg.Publishes("tokens"), embedding: cfg.Publishes("embedding"), features: cfg.Publishes("features"), labels: labels}
	api.CopyHeader(&to.header, p.common)
	to.header.Camera, to.header.FrameId = cfg.Name, cfg.OpticalFrame()
	to.header.Stages, to.header.Drops, to.header.Window = new(toklipv1.Stages), new(toklipv1.Drops), new(toklipv1.Window)
	p.mu.Lock()
	p.cameras[cfg.Name] = to
	p.mu.Unlock()
}

// Deliver implements engine.Sink. It does not block: the client encodes and sends in its own time.
func (p *publisher) Deliver(r *engine.Result) {
	p.mu.Lock()
	to := p.cameras[r.Camera]
	if to == nil {
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()

	to.describe(r)
	f := &to.frame
	*f = mqtt.Frame{Header: &to.header, Rows: r.Model.Rows, Cols: r.Model.Cols, Codebook: r.Model.Codebook}
	if to.tokens {
		f.Tokens, f.Changed = r.IDs, r.Changed
	}
	if to.embedding {
		f.Embedding = r.Embedding
	}
	if to.features {
		f.Features = r.Features
	}
	to.own(f, r) // PublishFrame releases it

	p.mu.Lock()
	to.sequence = r.Sequence
	to.cells += uint64(len(r.IDs))
	to.hits += uint64(r.Changed.Count())
	to.stages.add(r, time.Duration(to.header.Stages.LabelNs))
	p.mu.Unlock()
	if err := p.client.PublishFrame(f); err != nil {
		p.log.Error("publishing a frame failed", "camera", r.Camera, "error", err)
	}
}

// own adds the labels of the frame and makes somebody its owner who holds the result: the labels, where there are some.
func (to *publishing) own(f *mqtt.Frame, r *engine.Result) {
	if to.labels != nil {
		if scored := to.labels.Score(r, &to.header); scored != nil {
			f.Labels, f.LabelsUnchanged, f.Owner = scored.Labels, !scored.Due, scored
			return
		}
	}
	r.Retain()
	f.Owner = r
}

// describe fills the header with what the result says of its frame.
func (to *publishing) describe(r *engine.Result) {
	h := &to.header
	h.Sequence, h.CaptureWallNs, h.CaptureMonoNs, h.Clock = r.Sequence, r.CaptureWall, r.CaptureMono, r.Clock
	h.Width, h.Height, h.Resize = uint32(r.Width), uint32(r.Height), r.Resize.String()
	h.Backend, h.Precision = r.Backend, r.Precision
	h.Keyframe, h.Reused = r.Keyframe, r.Reused

	s := h.Stages
	s.AgeNs, s.WaitNs, s.PreprocessNs = r.Age.Nanoseconds(), r.Stages.Wait.Nanoseconds(), r.Stages.Preprocess.Nanoseconds()
	s.TokenizeNs, s.QueueNs, s.EncodeNs = r.Stages.Tokenize.Nanoseconds(), r.Stages.Queue.Nanoseconds(), r.Stages.Encode.Nanoseconds()
	s.TotalNs = r.Stages.Total.Nanoseconds()

	d := h.Drops
	d.Capture, d.Queue, d.Rate = r.Lost.Capture, r.Drops.Replaced, r.Lost.Rate+r.Drops.Rate
	d.Invalid, d.Failed, d.Closed = r.Lost.Broken+r.Drops.Invalid, r.Drops.Failed, r.Drops.Closed

	geometry := preprocess.Geometry{Width: r.Width, Height: r.Height, Format: r.Format, Size: r.Model.ImageSize, Mode: r.Resize}
	if geometry == to.window {
		return
	}
	mapping, err := geometry.Mapping()
	if err != nil { // cannot be: the frame went through the same geometry
		h.Window.Reset()
		return
	}
	w := windowOf(mapping)
	h.Window.X, h.Window.Y, h.Window.Width, h.Window.Height = w.X, w.Y, w.Width, w.Height
	to.window = geometry
}

// windowOf is the area of the frame that the network's input shows, in pixels of the frame.
func windowOf(m preprocess.Mapping) labels.Window {
	size := float64(m.Size)
	return labels.Window{X: m.OffsetX * m.ScaleX, Y: m.OffsetY * m.ScaleY, Width: size * m.ScaleX, Height: size * m.ScaleY}
}

// interval is what was seen of a camera since the last call: the mean share of changed cells, the last sequence number, the
// time by stage.
func (p *publisher) interval(camera string) (changed float64, sequence uint64, stages map[string]api.Spread) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to := p.cameras[camera]
	if to == nil {
		return 0, 0, map[string]api.Spread{}
	}
	if to.cells > 0 {
		changed = float64(to.hits) / float64(to.cells)
	}
	stages = to.stages.spreads()
	to.cells, to.hits, to.stages = 0, 0, stageTimes{}
	return changed, to.sequence, stages
}
