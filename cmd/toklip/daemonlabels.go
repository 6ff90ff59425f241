package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/labelling"
	"github.com/toklip/toklip/cmd/toklip/texttower"
	"github.com/toklip/toklip/mqtt"
)

// newLabels prepares for scoring cameras. A model that cannot is no failure: frames flow, and the state says why they have no
// labels if they are to have some.
func (d *daemon) newLabels() error {
	opt := labelling.Options{
		BootID: d.bootID, Labels: d.cfg.Labels, Cameras: d.cfg.Cameras,
		OpenPool: d.openPool, Publish: d.client, Changed: d.labelsChanged, Logger: d.log.With("part", "labels"),
	}
	var err error
	if opt.StateFile, err = labelling.StateFile(d.cfg.Labels.StateFile, d.node); err != nil {
		return err
	}
	if opt.NoTexts = texttower.Check(d.model.dir, d.model.manifest); opt.NoTexts == nil {
		opt.Scale, opt.Bias, opt.NoTexts = d.model.manifest.Text.Scoring()
	}
	if opt.NoTexts == nil {
		d.texts, opt.NoTexts = d.newTexts()
	}
	if d.texts != nil {
		opt.Texts = d.texts
	}
	d.labels = labelling.New(opt)
	return nil
}

// newTexts prepares the text tower; it runs in a process of its own, and only for texts that are not cached. The model
// must be one that can score texts.
func (d *daemon) newTexts() (*texttower.Child, error) {
	cache, err := texttower.OpenCache(d.cfg.Labels.CacheDir)
	if err != nil {
		d.log.Warn("text embeddings are not kept: every start runs the text tower", "error", err)
	}
	opt := texttower.ChildOptions{Idle: d.cfg.Labels.TextIdle.Std()}
	opt.Dir, opt.Manifest, opt.Cache = d.model.dir, d.model.manifest, cache
	opt.Library, opt.Threads = d.cfg.Engine.ONNXRuntimeLibrary, d.cfg.Engine.Threads
	opt.Logger = d.log.With("part", "text")
	opt.Computing = func(texts int) { d.labels.Computing(texts) }
	return texttower.NewChild(opt)
}

// poolThreads leaves the other cores to the pipeline, which does not wait for regions.
const poolThreads = 1

// openPool opens the attention pool of regions, whatever backend serves frames.
func (d *daemon) openPool() (labelling.Pool, error) {
	return openPool(d.model, d.cfg.Engine.ONNXRuntimeLibrary, poolThreads)
}

// closeLabels ends scoring, once no frame comes any more: what is present goes.
func (d *daemon) closeLabels() {
	var err error
	if d.labels != nil {
		err = d.labels.Close()
	}
	if d.texts != nil {
		err = errors.Join(err, d.texts.Close())
	}
	if err != nil {
		d.log.Warn("labels were not closed in order", "error", err)
	}
}

// labelsChanged tells of other labels, or of what keeps them from being used.
func (d *daemon) labelsChanged() {
	d.publishInfo()
	d.judgeState()
}

// followCamera tells a camera's labels that it gives no frames any more. When the node stops, all of them go anyway.
func followCamera(stopping context.Context, labels *labelling.Camera, s capture.Status) {
	if s.State != capture.Online && stopping.Err() == nil {
		labels.Off(capture.MonotonicNow())
	}
}

// labelCommands are the commands about labels, all of which may have to wait for the text tower, or for their turn after one
// that does. Before the cameras are there they are refused.
func (d *daemon) labelCommands() map[string]mqtt.Handler {
	on := func(f func(*labelling.Labelling, context.Context, json.RawMessage) (any, error)) mqtt.Handler {
		return func(ctx context.Context, args json.RawMessage) (any, error) {
			if len(d.serving()) == 0 {
				return nil, errors.New("the node is starting and has no cameras yet; try again when its state is ready")
			}
			return f(d.labels, ctx, args)
		}
	}
	return map[string]mqtt.Handler{
		"labels/set": on((*labelling.Labelling).Set),
		"score":      on((*labelling.Labelling).Score),
		"heatmap":    on((*labelling.Labelling).Heatmap),
		"labels/get": on((*labelling.Labelling).Get),
	}
}

// regionMetrics are a camera's figures of regions; nil if it has none.
func (d *daemon) regionMetrics(camera string, sent mqtt.CameraStats) *api.RegionMetrics {
	regions, dropped := d.labels.Camera(camera).Regions()
	if regions == 0 {
		return nil
	}
	return &api.RegionMetrics{Frames: sent.RegionsPublished, Dropped: dropped + sent.RegionsDropped}
}

// configSource is the file that the configuration came from.
type configSource struct {
	read   func() (config.Config, error)
	reload <-chan os.Signal // it is to be read again
}

// reloads reads the configuration again whenever it is asked to, until ctx ends, and takes over its labels and regions. A file
// that cannot be used changes nothing.
func (d *daemon) reloads(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.source.reload:
		}
		cfg, err := d.source.read()
		if err != nil {
			d.log.Error("configuration cannot be used; everything stays as it is", "error", err)
			continue
		}
		if keys := config.Restart(d.cfg, cfg); len(keys) > 0 {
			d.log.Warn("what has changed in the configuration beside labels and regions needs a restart", "keys", fmt.Sprint(keys))
		}
		d.log.Info("labels of the configuration are taken over, those set by command forgotten")
		d.labels.Reload(cfg.Labels, cfg.Cameras)
	}
}
