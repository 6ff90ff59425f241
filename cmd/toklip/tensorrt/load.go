package tensorrt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/enginecache"
)

// RunOptions say how engines run and when they are good enough.
type RunOptions struct {
	Streams   int           // stream numbers are below it; 0: 64
	InFlight  int           // batches under way: 1 or 2; 0: as the GPU is
	CUDAGraph bool          // replay batches as CUDA graphs
	Kernels   bool          // pre-processing and search on the GPU
	Timeout   time.Duration // longest wait for a batch; 0: the binding's own
	Floors    model.Floors  // each 0: what the precision is known to reach

	// Observe is told of the GPU's times of every batch, from the goroutine that waits for it. Nil: nobody is.
	Observe func(trt.Times)
}

// Loaded is a backend and what is known of it.
type Loaded struct {
	*Backend

	Device   string // what it runs on, for people
	Networks []Network
	Report   model.Report // against the model's reference

	kernels bool
	keep    func(context.Context)
	once    sync.Once
}

// OnGPU reports whether pre-processing and codebook search run on the GPU, too.
func (l *Loaded) OnGPU() bool { return l.kernels }

// Load puts the model's engines on the GPU, judges them, and makes a backend of them, which the caller closes. Engines
// that are not in the cache, or damaged, or of another TensorRT or GPU, are an error of type *Missing. An error that wraps
// model.ErrTooFar has the figures of engines that are not good enough.
func (m *Machine) Load(ctx context.Context, s Source, run RunOptions) (_ *Loaded, err error) {
	networks, err := m.Networks(s, model.RoleTokenizer, model.RoleEncoder)
	if err != nil {
		return nil, err
	}
	// Before anything is built in vain.
	ref, err := s.Manifest.LoadReference(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("judge engines: %w", err)
	}
	cache, err := m.opts.Cache()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	engines, err := m.engines(ctx, cache, networks)
	if err != nil {
		return nil, err
	}
	free := func() error { return closeEngines(engines) }
	options, err := m.pipelineOptions(s, run, engines)
	if err != nil {
		return nil, errors.Join(err, free())
	}
	p, err := m.lib.NewPipeline(options)
	if err != nil {
		return nil, errors.Join(err, free())
	}
	l := &Loaded{Device: m.DeviceName(), kernels: run.Kernels && m.device.Kernels, Networks: networks}
	l.Backend = newBackend(p, engine.Description{
		Name: Name, Version: m.info.Version.String(), Precision: s.Precision, MaxBatch: options.BatchMax, InFlight: options.InFlight, Model: s.spec(networks),
	}, options.StreamsMax, free)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	l.observe = run.Observe
	loaded := time.Now()
	if l.Report, err = judge(ctx, ref, p, engines[1], run.floors(s.Precision)); err != nil {
		return nil, err
	}
	l.streams[0].fresh.Store(true) // it has seen the reference's pictures
	l.keep = func(ctx context.Context) { m.keep(ctx, cache, networks, l.Report) }
	m.log.Info("engines loaded and judged", "precision", s.Precision, "load", loaded.Sub(begun).Round(time.Millisecond),
		"judge", time.Since(loaded).Round(time.Millisecond), "agreement", l.Report.String(), "passed", l.Report.Passed)
	if err = l.Report.Err(); err != nil {
		l.Keep(ctx)
		return nil, err
	}
	return l, nil
}

// Keep writes the report beside the engines, the first time it is called. It may take long on a busy disk, so that whoever
// serves with the engines begins to do so first.
func (l *Loaded) Keep(ctx context.Context) { l.once.Do(func() { l.keep(ctx) }) }

// floors are those asked for, where none is the precision's own.
func (r RunOptions) floors(precision string) model.Floors {
	f := model.DefaultFloors(precision)
	for _, one := range []struct {
		to    *float64
		asked float64
	}{{&f.Tokens, r.Floors.Tokens}, {&f.Features, r.Floors.Features}, {&f.Embedding, r.Floors.Embedding}} {
		if one.asked > 0 {
			*one.to = one.asked
		}
	}
	return f
}

// engines loads all networks or none. Of those whose plan lies outside the cache it says so in networks.
func (m *Machine) engines(ctx context.Context, cache *enginecache.Cache, networks []Network) (_ []*trt.Engine, err error) {
	missing := &Missing{}
	plans := make([]*enginecache.Plan, len(networks))
	wanted := slices.Clone(networks)
	defer func() {
		for _, p := range plans {
			if p != nil {
				err = errors.Join(err, p.Close())
			}
		}
	}()
	// All are looked for first: what is missing is built in one go, and a GPU that is short of memory is not filled in vain.
	for i, n := range wanted {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if networks[i], plans[i] = m.delivered(n); plans[i] != nil {
			continue
		}
		if plans[i], err = cache.Load(n.Key); err != nil {
			missing.add(n, err)
		}
	}
	if len(missing.Networks) > 0 {
		return nil, missing
	}
	var engines []*trt.Engine
	for i := range networks {
		e, err := m.lib.Load(plans[i].Bytes, networks[i].Key.DLACore)
		if errors.Is(err, trt.ErrBadPlan) && networks[i].Plan != "" {
			m.log.Warn("plan is not used", "network", networks[i].String(), "because", err, "plan", networks[i].Plan)
			e, err = m.instead(cache, &networks[i], &plans[i], wanted[i])
		}
		var absent *enginecache.Unusable
		switch {
		case errors.Is(err, trt.ErrBadPlan):
			missing.Damaged = true
			missing.add(wanted[i], err)
			err = missing
		case errors.As(err, &absent):
			missing.add(wanted[i], err)
			err = missing
		}
		if err != nil {
			return nil, errors.Join(err, closeEngines(engines))
		}
		engines = append(engines, e)
	}
	return engines, nil
}

// instead loads the cache's plan in place of one that TensorRT refuses.
func (m *Machine) instead(cache *enginecache.Cache, n *Network, plan **enginecache.Plan, wanted Network) (*trt.Engine, error) {
	if err := (*plan).Close(); err != nil {
		return nil, err
	}
	*n = wanted
	var err error
	if *plan, err = cache.Load(wanted.Key); err != nil {
		return nil, err
	}
	return m.lib.Load((*plan).Bytes, wanted.Key.DLACore)
}

func (e *Missing) add(n Network, why error) {
	e.Networks = append(e.Networks, n)
	e.Why = append(e.Why, fmt.Errorf("%s: %w", n, why))
}

func closeEngines(engines []*trt.Engine) error {
	var errs []error
	for _, e := range engines {
		errs = append(errs, e.Close())
	}
	return errors.Join(errs...)
}

func (m *Machine) pipelineOptions(s Source, run RunOptions, engines []*trt.Engine) (trt.PipelineOptions, error) {
	o := trt.DefaultPipelineOptions()
	o.Tokenizer, o.Encoder = engines[0], engines[1]
	o.ImageSize, o.Tokens = s.Spec.ImageSize, s.Spec.Tokens()
	o.FeatureDim, o.EmbeddingDim = s.Spec.FeatureDim, s.Spec.EmbeddingDim
	o.CodebookSize, o.CodebookDim = s.Manifest.Tokens.Codebook, s.Manifest.Tokens.CodebookDim
	if s.Manifest.Codebook != nil { // else the tokenizer gives ids
		var err error
		if o.Codebook, err = s.Manifest.LoadCodebook(s.Dir); err != nil {
			return o, err
		}
	}
	o.Mean, o.Std = s.Spec.Mean, s.Spec.Std
	o.BatchMax, o.CUDAGraph, o.Kernels = s.Batch, run.CUDAGraph, run.Kernels
	if run.Streams > 0 {
		o.StreamsMax = run.Streams
	}
	if run.Timeout > 0 {
		o.Timeout = run.Timeout
	}
	if o.InFlight = run.InFlight; o.InFlight == 0 {
		o.InFlight = inFlight(m.info.Family, m.Device())
	}
	return o, nil
}

// inFlight is how many batches a GPU has under way. A discrete one has room for the tokenizer of the next batch beside the
// encoder of this one; an integrated one is full with either. TensorRT 8 has one at a time: 8.5 gives each batch size of
// each batch under way a profile of its own, and an engine has few.
func inFlight(family string, d trt.Device) int {
	if d.Integrated || family == "trt8" {
		return 1
	}
	return 2
}

// judge runs the reference's pictures through the whole pipeline, and the encoder alone on the reference's ids.
func judge(ctx context.Context, ref *model.Reference, p *trt.Pipeline, encoder *trt.Engine, floors model.Floors) (model.Report, error) {
	got := model.Outputs{
		Features: make([]float32, len(ref.Features)), Embedding: make([]float32, len(ref.Embedding)),
	}
	results := make([]trt.Result, 1)
	frame := trt.Frame{Width: ref.Size, Height: ref.Size, Stride: 3 * ref.Size, Pixels: trt.RGB, Resize: trt.Squash, Fresh: true}
	for i := range ref.Frames {
		frame.Data = ref.Picture(i)
		if _, err := p.Process(ctx, []trt.Frame{frame}, results); err != nil {
			return model.Report{}, fmt.Errorf("judge engines: picture %d: %w", i, err)
		}
		got.IDs = append(got.IDs, results[0].IDs...)
	}
	n, rows, width := ref.Tokens, ref.Tokens*ref.FeatureDim, ref.EmbeddingDim
	for i := range ref.Frames {
		if err := ctx.Err(); err != nil {
			return model.Report{}, err
		}
		err := encoder.Run(
			[]trt.Tensor{{Name: model.TensorIDs, Shape: []int64{1, int64(n)}, Data: ref.IDs[i*n : (i+1)*n]}},
			[]trt.Tensor{
				{Name: model.TensorFeatures, Shape: []int64{1, int64(n), int64(ref.FeatureDim)}, Data: got.Features[i*rows : (i+1)*rows]},
				{Name: model.TensorEmbedding, Shape: []int64{1, int64(width)}, Data: got.Embedding[i*width : (i+1)*width]},
			})
		if err != nil {
			return model.Report{}, fmt.Errorf("judge engines: encoder, frame %d: %w", i, err)
		}
	}
	return model.Judge(ref, got, floors)
}

// keepWithin is how long a report waits for others that build the same engine.
const keepWithin = 5 * time.Second

// keep writes the report beside the engines. That it cannot is no reason not to run them.
func (m *Machine) keep(ctx context.Context, cache *enginecache.Cache, networks []Network, report model.Report) {
	ctx, cancel := context.WithTimeout(ctx, keepWithin)
	defer cancel()
	text, err := json.Marshal(report)
	for _, n := range networks {
		if err == nil && n.Plan == "" {
			err = cache.SetReport(ctx, n.Key, text)
		}
	}
	if err != nil {
		m.log.Warn("the engines' report was not kept", "error", err)
	}
}
