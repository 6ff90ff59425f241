// Package config is toklip's configuration file: its keys, their defaults and
// what is refused.
//
// A file is TOML, decoded over [Default] and then checked. Unknown keys and bad
// values are errors that carry file, line, key and value. Loading does nothing
// else: no logging is set up, no file other than the configuration is opened.
package config

import (
	"fmt"
	"log/slog"
	"time"
)

// Config is a whole configuration file.
type Config struct {
	Node    string   `toml:"node"` // name of this daemon in topics, [a-z0-9-]+; by default made from the host name
	Log     Log      `toml:"log"`
	Model   Model    `toml:"model"`
	Engine  Engine   `toml:"engine"`
	MQTT    MQTT     `toml:"mqtt"`
	Capture Capture  `toml:"capture"`
	Labels  Labels   `toml:"labels"`
	Cameras []Camera `toml:"camera"`
}

// Log says what is logged and how.
type Log struct {
	Level  Level  `toml:"level"`
	Format string `toml:"format"` // "text" or "json"
}

// Model names the model folder, as `toklip model import` makes it.
type Model struct {
	Path   string `toml:"path"`
	Verify bool   `toml:"verify"` // check the SHA-256 of every file at start
}

// Engine says what executes the model.
type Engine struct {
	Backend            string   `toml:"backend"`   // "auto", "onnxruntime" or "tensorrt"
	Precision          string   `toml:"precision"` // "auto", "fp32", "int8"; "fp16" with TensorRT
	Threads            int      `toml:"threads"`   // CPU threads of the backend; 0: one for each physical core
	MaxBatch           int      `toml:"max_batch"` // frames of different cameras in one run, where the backend gains from it
	KeyframeInterval   Duration `toml:"keyframe_interval"`
	ONNXRuntimeLibrary string   `toml:"onnxruntime_library"`
	TensorRT           TensorRT `toml:"tensorrt"`
}

// MQTT says where and what is published.
type MQTT struct {
	Broker          string   `toml:"broker"` // "embedded" or a URL: mqtt://, mqtts://, ws://, wss://
	Listen          string   `toml:"listen"` // address of the embedded broker
	Prefix          string   `toml:"prefix"` // first part of every topic
	ClientID        string   `toml:"client_id"`
	Username        string   `toml:"username"`
	PasswordFile    string   `toml:"password_file"`
	CAFile          string   `toml:"ca_file"`
	CertFile        string   `toml:"cert_file"`
	KeyFile         string   `toml:"key_file"`
	JSON            bool     `toml:"json"`           // publish the JSON twins beside protobuf
	EmbeddingType   string   `toml:"embedding_type"` // "fp16" or "fp32"
	Normalize       bool     `toml:"normalize"`      // publish embeddings of length 1
	MetricsInterval Duration `toml:"metrics_interval"`
	StaleAfter      Duration `toml:"stale_after"` // published in every header: older messages should not be acted on
}

// Capture says how camera workers are run.
type Capture struct {
	Worker       string   `toml:"worker"`        // path of toklip-capture; by default beside toklip, then in PATH
	OpenTimeout  Duration `toml:"open_timeout"`  // a source that has not opened by then is restarted
	StallTimeout Duration `toml:"stall_timeout"` // a source without a new frame for so long is restarted
}

// Camera is one named source.
type Camera struct {
	Name    string   `toml:"name"`   // [a-z0-9-]+, unique
	Source  string   `toml:"source"` // v4l2://, csi://, rtsp://, file://, images://, gst:, test://
	Enabled bool     `toml:"enabled"`
	Resize  string   `toml:"resize"`  // "squash", "shortest" or "longest"
	MaxFPS  float64  `toml:"max_fps"` // 0: every frame the backend can take
	Publish []string `toml:"publish"` // of "tokens", "embedding", "features"
	FrameID string   `toml:"frame_id"`
	Labels  []string `toml:"labels"` // instead of labels.set and its tables; nil: those, empty: none
	Regions []Region `toml:"region"` // of interest, scored by themselves
}

// Publishes reports whether the camera publishes messages of this kind.
func (c Camera) Publishes(kind string) bool {
	for _, p := range c.Publish {
		if p == kind {
			return true
		}
	}
	return false
}

// OpticalFrame is the coordinate frame of the camera's optics: its own name where none is given.
func (c Camera) OpticalFrame() string {
	if c.FrameID != "" {
		return c.FrameID
	}
	return c.Name
}

// Default is the configuration of an empty file. It names no camera and no model.
func Default() Config {
	return Config{
		Log: Log{Level: Level(slog.LevelInfo), Format: "text"},
		Engine: Engine{
			Backend: "auto", Precision: "auto", MaxBatch: 4, KeyframeInterval: Duration(10 * time.Second), TensorRT: defaultTensorRT(),
		},
		MQTT: MQTT{
			Broker: "embedded", Listen: "127.0.0.1:1883", Prefix: "toklip", JSON: true, EmbeddingType: "fp16",
			MetricsInterval: Duration(5 * time.Second), StaleAfter: Duration(2 * time.Second),
		},
		Capture: Capture{OpenTimeout: Duration(15 * time.Second), StallTimeout: Duration(5 * time.Second)},
		Labels:  defaultLabels(),
	}
}

// defaultCamera is a [[camera]] table that says nothing.
func defaultCamera() Camera {
	return Camera{Enabled: true, Resize: "squash", Publish: []string{"tokens", "embedding"}}
}

// Duration is a time.Duration written as text: "500ms", "5s", "1m30s".
type Duration time.Duration

// UnmarshalText reads the text form.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration: write for example \"500ms\", \"5s\" or \"1m30s\"", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the text form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.Std().String()), nil }

// Std is the duration as the standard library knows it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Level is a slog level written as text: debug, info, warn, error.
type Level slog.Level

// UnmarshalText reads the text form.
func (l *Level) UnmarshalText(text []byte) error {
	switch string(text) {
	case "debug", "info", "warn", "error":
		return (*slog.Level)(l).UnmarshalText(text)
	}
	return fmt.Errorf("%q is not a log level: choose debug, info, warn or error", text)
}

// Level makes Level a slog.Leveler.
func (l Level) Level() slog.Level { return slog.Level(l) }
