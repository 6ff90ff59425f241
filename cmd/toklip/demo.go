package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/labelling"
	"github.com/toklip/toklip/cmd/toklip/texttower"
	"github.com/toklip/toklip/cmd/toklip/watch"
	"github.com/toklip/toklip/demo"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/checkpoint"
)

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
	cfg, err := demoConfig(folder, modelDir, clip)
	if err != nil {
		return err
	}
	if o.listen != "" {
		cfg.MQTT.Listen = o.listen
	}
	_, port, err := net.SplitHostPort(cfg.MQTT.Listen)
	if err != nil {
		return fmt.Errorf("--listen: %w; write host:port", err)
	}
	introduce(o.out, cfg, port)

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

// demoConfig is the daemon of the demo: one camera, the clip, scored against the bundled labels.
func demoConfig(folder, modelDir, clip string) (config.Config, error) {
	cfg := config.Default()
	cfg.Node = "demo"
	cfg.Model.Path = modelDir
	source := url.URL{Scheme: "file", Path: clip, RawQuery: "loop=true"}
	cfg.Cameras = []config.Camera{{
		Name: "clip", Source: source.String(), Enabled: true, Resize: "squash", Publish: []string{"tokens", "embedding"},
	}}
	cfg.Labels.StateFile = config.NoStateFile // every demo begins with the bundled ones
	cfg.Labels.CacheDir = filepath.Join(folder, "text")
	var entries []json.RawMessage
	if err := json.Unmarshal(demo.Labels, &entries); err != nil {
		return cfg, fmt.Errorf("read the demo's labels: %w", err)
	}
	for _, entry := range entries {
		label, err := labelling.ParseLabel(entry, cfg.Labels)
		if err != nil {
			return cfg, fmt.Errorf("read the demo's labels: %w", err)
		}
		cfg.Labels.Label = append(cfg.Labels.Label, label)
	}
	return cfg, nil
}

// introduce says what is to be seen, where, and how to have something else looked for.
func introduce(out io.Writer, cfg config.Config, port string) {
	var names []string
	for _, label := range cfg.Labels.Label {
		names = append(names, label.Name)
	}
	fmt.Fprintf(out, `toklip demo: a drive through rendered rooms, seen by a small TokLIP model that was trained on such rooms and never saw these.
Broker  mqtt://%[1]s    topics  toklip/demo/camera/clip/{tokens,embedding,labels}[/json], …/event
Labels  %[3]s
See     mosquitto_sub -p %[2]s -t 'toklip/demo/camera/clip/event'
Change  mosquitto_pub -p %[2]s -t toklip/demo/command/labels/set -m '{"id":"1","reply_to":"me","args":{"labels":["white ball","a green cone"]}}'
Ask     mosquitto_pub -p %[2]s -t toklip/demo/command/score -m '{"id":"2","reply_to":"me","args":{"text":"a red box left of a door"}}'
        (replies come to the topic that reply_to names: mosquitto_sub -p %[2]s -t me)

`, cfg.MQTT.Listen, port, strings.Join(names, ", "))
}

// demoModel makes the demo's model at the first start of this checkpoint: it is imported as any other, with what TensorRT needs.
func demoModel(ctx context.Context, folder string, stderr io.Writer) (string, error) {
	sum := sha256.New()
	sum.Write(demo.Checkpoint)
	sum.Write(demo.Tokenizer)
	dir := filepath.Join(folder, fmt.Sprintf("model-v%d-%x", model.FormatVersion, sum.Sum(nil)[:6]))
	if usableDemo(ctx, dir) {
		return dir, nil
	}
	// The importer reads files. Two demos that start at the same time have their own.
	temp, err := os.MkdirTemp(folder, "checkpoint-")
	if err != nil {
		return "", fmt.Errorf("write the demo's checkpoint: %w", err)
	}
	defer os.RemoveAll(temp)
	checkpointFile, tokenizerFile := filepath.Join(temp, "demo.safetensors"), filepath.Join(temp, "tokenizer.model")
	for file, content := range map[string][]byte{checkpointFile: demo.Checkpoint, tokenizerFile: demo.Tokenizer} {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return "", fmt.Errorf("write the demo's checkpoint: %w", err)
		}
	}
	reader, err := checkpoint.Open(checkpointFile)
	if err != nil {
		return "", err
	}
	defer reader.Close()
	if err := os.RemoveAll(dir); err != nil { // broken, or it would have been used
		return "", fmt.Errorf("remove the demo's broken model: %w", err)
	}
	bar := newProgress(stderr, true)
	defer bar.abandon()
	_, err = model.Import(ctx, reader, dir, model.Options{
		Name: "toklip-demo", Source: "toklip's demo, trained on rendered rooms", Licence: "Apache-2.0", Tokenizer: tokenizerFile,
		Precisions: []string{model.FP32, model.FP16}, Runner: &graphRunner{}, Progress: bar.update, Logger: warnings(stderr),
	})
	if err != nil {
		return "", fmt.Errorf("make the demo's model: %w", err)
	}
	bar.finish()
	return dir, nil
}

// usableDemo reports whether the model is whole and what this version makes.
func usableDemo(ctx context.Context, dir string) bool {
	m, err := model.Load(dir)
	if err != nil || m.Verify(ctx, dir, nil) != nil {
		return false
	}
	_, graphErr := m.Graph(model.RoleEncoder, model.FP16, model.BackendTensorRT)
	_, refErr := m.LoadReference(dir)
	return graphErr == nil && refErr == nil && texttower.Check(dir, m) == nil
}
