package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/watch"
	"github.com/toklip/toklip/demo"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/synth"
)

// demoPreset names the synthetic architecture of the demo.
const demoPreset = "demo"

type demoOptions struct {
	listen      string
	quiet       bool
	in          io.Reader
	out, stderr io.Writer
}

// runDemo runs a daemon on the bundled clip and shows what a client sees of it.
func runDemo(ctx context.Context, o demoOptions) error {
	folder, err := demoFolder()
	if err != nil {
		return err
	}
	clip, err := demoClip(folder)
	if err != nil {
		return err
	}
	modelDir, err := demoModel(ctx, folder, o.stderr)
	if err != nil {
		return err
	}
	cfg := config.Default()
	cfg.Node = "demo"
	cfg.Model.Path = modelDir
	if o.listen != "" {
		cfg.MQTT.Listen = o.listen
	}
	source := url.URL{Scheme: "file", Path: clip, RawQuery: "loop=true"}
	cfg.Cameras = []config.Camera{{
		Name: "clip", Source: source.String(), Enabled: true, Resize: "squash", Publish: []string{"tokens", "embedding"},
	}}

	_, port, err := net.SplitHostPort(cfg.MQTT.Listen)
	if err != nil {
		return fmt.Errorf("--listen: %w; write host:port", err)
	}
	fmt.Fprintf(o.out, `toklip demo: a 24 s clip through a TokLIP network with synthetic weights. Nothing was trained: its tokens carry no meaning yet.
Broker  mqtt://%[1]s    topics  toklip/demo/camera/clip/{tokens,embedding}[/json]
Try     mosquitto_sub -p %[2]s -t 'toklip/demo/camera/clip/tokens/json'

`, cfg.MQTT.Listen, port)

	if o.quiet {
		return runDaemon(ctx, cfg, newLogger(cfg.Log, o.stderr))
	}
	return demoAndWatch(ctx, cfg, filepath.Join(folder, "demo.log"), o)
}

// demoAndWatch runs the daemon and a watching client side by side; whichever ends first ends the other. The log goes
// to a file, since the view has the terminal.
func demoAndWatch(ctx context.Context, cfg config.Config, logPath string, o demoOptions) error {
	logFile, err := os.Create(logPath)
	if err != nil {
		return fmt.Errorf("create the demo's log: %w", err)
	}
	defer logFile.Close()
	d, err := newDaemon(cfg, slog.New(slog.NewTextHandler(logFile, nil)))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- d.run(ctx)
		cancel()
	}()
	watching := watch.Run(ctx, watch.Options{Broker: d.broker.URL(), In: o.in, Out: o.out})
	cancel()
	serving := <-served
	if serving != nil {
		return fmt.Errorf("%w (log: %s)", serving, logPath)
	}
	if errors.Is(watching, context.Canceled) {
		return nil
	}
	return watching
}

// demoFolder is where clip, checkpoint and model of the demo are kept between runs.
func demoFolder() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	folder := filepath.Join(cache, "toklip", "demo")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("create the demo's folder: %w", err)
	}
	return folder, nil
}

// demoClip writes the bundled clip to a file, named after its content so that a newer program writes a newer one.
func demoClip(folder string) (string, error) {
	sum := sha256.Sum256(demo.Clip)
	path := filepath.Join(folder, "clip-"+hex.EncodeToString(sum[:6])+".mp4")
	if info, err := os.Stat(path); err == nil && info.Size() == int64(len(demo.Clip)) {
		return path, nil
	}
	part := path + ".part"
	if err := os.WriteFile(part, demo.Clip, 0o644); err != nil {
		return "", fmt.Errorf("write the demo's clip: %w", err)
	}
	if err := os.Rename(part, path); err != nil {
		return "", fmt.Errorf("write the demo's clip: %w", err)
	}
	return path, nil
}

// demoModel makes the demo's model at the first start: a checkpoint file first, which is then imported as any other, with what
// TensorRT needs.
func demoModel(ctx context.Context, folder string, stderr io.Writer) (string, error) {
	dir := filepath.Join(folder, fmt.Sprintf("model-v%d", model.FormatVersion))
	if usableDemo(ctx, dir) {
		return dir, nil
	}
	arch, err := synth.Preset(demoPreset)
	if err != nil {
		return "", err
	}
	weights, err := synth.New(arch, "", true)
	if err != nil {
		return "", err
	}
	file := filepath.Join(folder, "synthetic-demo.safetensors")
	bar := newProgress(stderr, true)
	if err := checkpoint.WriteSafetensorsFile(ctx, file, weights, func(done, total int64) { bar.update("make the demo's checkpoint", done, total) }); err != nil {
		return "", err
	}
	reader, err := checkpoint.Open(file)
	if err != nil {
		return "", err
	}
	defer reader.Close()
	if err := os.RemoveAll(dir); err != nil { // broken, or it would have been used
		return "", fmt.Errorf("remove the demo's broken model: %w", err)
	}
	opts := model.Options{Name: "synthetic-demo", Source: syntheticSource, Licence: "Apache-2.0", Progress: bar.update}
	opts.Precisions, opts.Runner = []string{model.FP32, model.FP16}, &graphRunner{}
	opts.Config.Heads = arch.Heads
	_, err = model.Import(ctx, reader, dir, opts)
	bar.finish()
	return dir, err
}

// usableDemo reports whether the model is whole and what this version makes.
func usableDemo(ctx context.Context, dir string) bool {
	m, err := model.Load(dir)
	if err != nil || m.Verify(ctx, dir, nil) != nil {
		return false
	}
	_, graphErr := m.Graph(model.RoleEncoder, model.FP16, model.BackendTensorRT)
	_, refErr := m.LoadReference(dir)
	return graphErr == nil && refErr == nil
}
