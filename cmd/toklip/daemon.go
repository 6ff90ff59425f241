package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/labelling"
	"github.com/toklip/toklip/cmd/toklip/tensorrt"
	"github.com/toklip/toklip/cmd/toklip/texttower"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/mqtt"
)

// cpuBatch is how many frames ONNX Runtime takes at once: a CPU gains nothing from batches, and with one frame at a time the newest of the next
// camera is taken when its turn comes, not when the batch began. engine.max_batch is for GPUs.
const cpuBatch = 1

// daemon is one running node. Its parts are built in the order of the fields and end in the reverse order.
type daemon struct {
	cfg     config.Config
	source  configSource // of cfg; its zero value is never read again
	log     *slog.Logger
	node    string
	bootID  string
	started time.Time

	lock        *nodeLock
	broker      *mqtt.Broker // nil with a broker outside
	client      *mqtt.Client
	model       *openedModel
	accelerator *accelerator
	texts       *texttower.Child // nil for a model that cannot embed texts
	labels      *labelling.Labelling
	pipeline    *engine.Pipeline
	cameras     []*camera
	publish     *publisher

	reviewing sync.Mutex // one review at a time, so that an older finding never replaces a newer one
	informing sync.Mutex // the same of the birth document

	mu        sync.Mutex
	state     api.State
	fault     string // what the backend last failed with; empty while it works
	assembled bool   // cameras and pipeline are there and do not change any more
}

// camera is one configured camera with everything that serves it.
type camera struct {
	cfg     config.Camera
	capture *capture.Camera
	slot    *engine.Camera
	feed    *feed
}

// newDaemon claims the node's name and starts the broker; everything slow happens in run.
func newDaemon(cfg config.Config, log *slog.Logger) (_ *daemon, err error) {
	d := &daemon{cfg: cfg, log: log, node: cfg.Node, bootID: newBootID(), started: time.Now()}
	if d.node == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("name the node: %w; set node in the configuration", err)
		}
		d.node = api.SanitizeName(host)
	}
	if d.lock, err = lockNode(d.node); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	url := cfg.MQTT.Broker
	if url == "embedded" {
		d.broker, err = mqtt.NewBroker(mqtt.BrokerOptions{Listen: []string{cfg.MQTT.Listen}, Logger: log.With("part", "broker")})
		if err != nil {
			return nil, err
		}
		url = d.broker.URL()
	}
	password := ""
	if cfg.MQTT.PasswordFile != "" {
		text, err := os.ReadFile(cfg.MQTT.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("read mqtt.password_file: %w", err)
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	dtype, err := api.ParseDType(cfg.MQTT.EmbeddingType)
	if err != nil {
		return nil, err
	}
	d.client, err = mqtt.New(mqtt.Options{
		Broker: url, Prefix: cfg.MQTT.Prefix, Node: d.node, ClientID: cfg.MQTT.ClientID,
		Username: cfg.MQTT.Username, Password: password,
		CAFile: cfg.MQTT.CAFile, CertFile: cfg.MQTT.CertFile, KeyFile: cfg.MQTT.KeyFile,
		JSON: cfg.MQTT.JSON, EmbeddingType: dtype, Normalize: cfg.MQTT.Normalize,
		Logger: log.With("part", "mqtt"),
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// run serves until ctx ends. Cameras and pipeline then end before the connection to the broker, so that the last
// messages and the goodbye still reach it.
func (d *daemon) run(ctx context.Context) error {
	defer d.close()
	d.log.Info("starting", "node", d.node, "version", version, "boot_id", d.bootID)

	// The connection outlives everything that publishes.
	connection, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	defer disconnect()
	disconnected := make(chan struct{})
	var connectErr error // once disconnected
	d.setState(api.StateStarting, "loading the model", nil)
	d.registerCommands()
	go func() {
		defer close(disconnected)
		connectErr = d.connect(connection)
	}()

	err := d.serveWithin(ctx, disconnected)
	if err != nil {
		d.setState(api.StateStopping, err.Error(), nil)
	}
	disconnect()
	<-disconnected
	return errors.Join(err, connectErr)
}

// stopGrace is how long cameras, pipeline and model have to end. With the time that the client takes to say goodbye
// (mqtt.Options.ShutdownTimeout, 2 s) and a broker inside to hand that out, it stays below the 5 s promised.
const stopGrace = 1900 * time.Millisecond

// serveWithin serves until ctx ends, the connection to the broker ends for good, or serving fails. It does not wait
// longer than stopGrace for what a context cannot interrupt: a model being loaded, a run of the backend, a worker that
// hangs in the kernel. Their end is that of the process, which follows.
func (d *daemon) serveWithin(ctx context.Context, disconnected <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- d.serve(ctx) }()
	select {
	case err := <-served:
		if ctx.Err() == nil {
			return err
		}
		served <- err
	case <-disconnected:
		cancel()
	case <-ctx.Done():
	}
	d.log.Info("stopping")
	d.setState(api.StateStopping, "", nil)
	overdue := time.NewTimer(stopGrace)
	defer overdue.Stop()
	select {
	case err := <-served:
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	case <-overdue.C:
		d.log.Error("model, pipeline or a camera does not end; ending without it", "waited", round(stopGrace))
		return nil
	}
}

// connect holds the connection to the broker until ctx ends, or the broker inside does. That one lives longer than the
// connection to it.
func (d *daemon) connect(ctx context.Context) error {
	if d.broker == nil {
		return d.client.Run(ctx)
	}
	connection, disconnect := context.WithCancel(ctx)
	defer disconnect()
	broker, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	served := make(chan error, 1)
	go func() {
		served <- d.broker.Run(broker)
		disconnect() // there is nobody left to connect to
	}()
	err := d.client.Run(connection)
	stop()
	err = errors.Join(err, <-served)
	if err == nil && ctx.Err() == nil {
		err = errors.New("the embedded broker ended by itself")
	}
	return err
}

// serve loads the model and runs cameras and pipeline until ctx ends or one of them fails for good.
func (d *daemon) serve(ctx context.Context) error {
	d.reapOrphans(ctx)
	group, ctx := errgroup.WithContext(ctx)
	if err := d.load(ctx); err != nil {
		return err
	}
	defer func() {
		if err := d.accelerator.close(); err != nil {
			d.log.Warn("the backend was not closed in order", "error", err)
		}
	}()
	defer d.closeLabels()
	if ctx.Err() != nil {
		return nil
	}
	for _, c := range d.cameras {
		if !c.cfg.Enabled {
			c.capture.SetEnabled(false)
		}
		group.Go(func() error { return c.capture.Run(ctx) })
		group.Go(func() error { return c.feed.run(ctx) })
	}
	group.Go(func() error { return d.pipeline.Run(ctx) })
	group.Go(func() error { return d.report(ctx) })
	group.Go(func() error { return d.labels.Run(ctx) })
	group.Go(func() error { return d.reloads(ctx) })
	group.Go(func() error { return d.accelerator.serve(ctx, d.pipeline) })
	d.review()
	d.log.Info("ready", "cameras", len(d.cameras), "backend", d.pipeline.Describe().Name, "precision", d.pipeline.Describe().Precision)
	return group.Wait()
}

// load opens model and backend, makes the pipeline and its cameras, and publishes the birth document.
func (d *daemon) load(ctx context.Context) (err error) {
	if d.model, err = openDaemonModel(d.cfg); err != nil {
		return err
	}
	if d.cfg.Model.Verify {
		if err := d.model.manifest.Verify(ctx, d.model.dir, nil); err != nil {
			return err
		}
	}
	d.accelerator = newAccelerator(d.cfg.Engine, d.model, len(d.cfg.Cameras), d.log)
	d.accelerator.changed, d.accelerator.news = d.backendChanged, d.judgeState
	backend, err := d.accelerator.begin(ctx)
	if err != nil {
		return err
	}
	if err := d.assemble(ctx, backend); err != nil {
		d.closeLabels()
		return errors.Join(err, d.accelerator.close())
	}
	return d.client.SetInfo(d.info())
}

// openDaemonModel opens the model as ONNX Runtime runs it: TensorRT's precisions that it lacks are fp32 there.
func openDaemonModel(cfg config.Config) (*openedModel, error) {
	manifest, err := loadManifest(cfg.Model.Path)
	if err != nil {
		return nil, err
	}
	precision := cfg.Engine.Precision
	lacks := func(backend string) bool {
		_, err := manifest.Graph(model.RoleEncoder, precision, backend)
		return err != nil
	}
	switch {
	case precision == tensorrt.Auto || precision == model.FP16:
		precision = model.FP32
	case cfg.Engine.Backend != model.BackendONNXRuntime && lacks(model.BackendONNXRuntime) && !lacks(model.BackendTensorRT):
		precision = model.FP32
	}
	return translate(cfg.Model.Path, manifest, precision)
}

// assemble makes the pipeline and one camera after the other. All of it ends with ctx.
func (d *daemon) assemble(ctx context.Context, backend engine.Backend) (err error) {
	if err := d.newLabels(); err != nil {
		return err
	}
	d.publish = newPublisher(d.client, d.log, d.header())
	d.pipeline, err = engine.New(engine.Config{
		Backend: backend, Sink: d.publish, MaxBatch: d.cfg.Engine.MaxBatch,
		KeyframeInterval: d.cfg.Engine.KeyframeInterval.Std(),
		OnError:          d.backendFailed, Logger: d.log.With("part", "engine"),
	})
	if err != nil {
		return err
	}
	for _, cfg := range d.cfg.Cameras {
		c, err := d.newCamera(ctx, cfg)
		if err != nil {
			return fmt.Errorf("camera %s: %w", cfg.Name, err)
		}
		d.cameras = append(d.cameras, c)
		d.publish.add(c.cfg, d.labels.Camera(c.cfg.Name))
	}
	d.mu.Lock()
	d.assembled = true
	d.mu.Unlock()
	return nil
}

func (d *daemon) newCamera(ctx context.Context, cfg config.Camera) (*camera, error) {
	source, err := capture.ParseSource(cfg.Source)
	if err != nil {
		return nil, err
	}
	mode, err := preprocess.ParseMode(cfg.Resize)
	if err != nil {
		return nil, err
	}
	c := &camera{cfg: cfg}
	c.capture, err = capture.New(capture.Options{
		Name: cfg.Name, Source: source, Node: d.node, Version: version, WorkerPath: d.cfg.Capture.Worker,
		Slots: heldFrames + 2, OpenTimeout: d.cfg.Capture.OpenTimeout.Std(), FrameTimeout: d.cfg.Capture.StallTimeout.Std(),
		Logger: d.log.With("part", "capture"),
		OnStatus: func(s capture.Status) {
			followCamera(ctx, d.labels.Camera(cfg.Name), s)
			d.review()
		},
	})
	if err != nil {
		return nil, err
	}
	if c.slot, err = d.pipeline.AddCamera(engine.CameraConfig{Name: cfg.Name, MaxFPS: cfg.MaxFPS, Resize: mode}); err != nil {
		return nil, err
	}
	c.feed = newFeed(c.capture, c.slot)
	return c, nil
}

// reapOrphans ends workers that a crash of this node left behind: they would hold their cameras.
func (d *daemon) reapOrphans(ctx context.Context) {
	ended, err := capture.ReapOrphans(ctx, capture.OrphanOptions{Node: d.node})
	if err != nil {
		d.log.Warn("looking for workers left by a crash failed", "error", err)
	}
	for _, p := range ended {
		d.log.Warn("ended a camera worker that a crash had left", "pid", p.PID, "camera", p.Camera)
	}
}

// close ends what newDaemon made.
func (d *daemon) close() {
	if d.broker != nil {
		d.broker.Close()
	}
	d.lock.release()
}

// newBootID names this run of the daemon.
func newBootID() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
