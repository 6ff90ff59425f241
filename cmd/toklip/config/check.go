package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/capture"
)

// badFunc notes that the value of a key cannot be used.
type badFunc func(key, format string, args ...any)

// Problems lists values that cannot be used. Lines are not known.
func (c *Config) Problems() []Problem {
	var found []Problem
	var bad badFunc = func(key, format string, args ...any) {
		found = append(found, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
	}
	oneOf := func(key, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			bad(key, "%q is not one of %s", value, strings.Join(allowed, ", "))
		}
	}
	positive := func(key string, d Duration, least time.Duration) {
		if d.Std() < least {
			bad(key, "%s is too short: at least %s", d.Std(), least)
		}
	}

	if err := api.ValidName(c.Node); c.Node != "" && err != nil {
		bad("node", "%v", err)
	}
	oneOf("log.format", c.Log.Format, "text", "json")

	oneOf("engine.backend", c.Engine.Backend, "auto", "onnxruntime", "tensorrt")
	oneOf("engine.precision", c.Engine.Precision, "auto", "fp32", "fp16", "int8")
	if c.Engine.Precision == "fp16" && c.Engine.Backend == "onnxruntime" {
		bad("engine.precision", "fp16 needs TensorRT: with backend \"onnxruntime\" choose auto, fp32 or int8")
	}
	if c.Engine.Threads < 0 || c.Engine.Threads > 1024 {
		bad("engine.threads", "%d is not between 0 (one for each core) and 1024", c.Engine.Threads)
	}
	if c.Engine.MaxBatch < 1 || c.Engine.MaxBatch > 64 {
		bad("engine.max_batch", "%d is not between 1 and 64", c.Engine.MaxBatch)
	}
	if c.Engine.KeyframeInterval.Std() < 0 {
		bad("engine.keyframe_interval", "%s is negative: 0s switches periodic keyframes off", c.Engine.KeyframeInterval.Std())
	}
	c.Engine.TensorRT.check(bad, positive)

	c.checkMQTT(bad, oneOf)
	positive("mqtt.metrics_interval", c.MQTT.MetricsInterval, 100*time.Millisecond)
	positive("mqtt.stale_after", c.MQTT.StaleAfter, time.Millisecond)
	positive("capture.open_timeout", c.Capture.OpenTimeout, 100*time.Millisecond)
	positive("capture.stall_timeout", c.Capture.StallTimeout, 100*time.Millisecond)

	used := map[string]int{}
	for i, camera := range c.Cameras {
		key := func(field string) string { return fmt.Sprintf("camera[%d].%s", i, field) }
		if err := api.ValidName(camera.Name); err != nil {
			bad(key("name"), "%v", err)
		} else if first, ok := used[camera.Name]; ok {
			bad(key("name"), "%q is the name of camera[%d] already", camera.Name, first)
		} else {
			used[camera.Name] = i
		}
		if camera.Source == "" {
			bad(key("source"), "missing: name a source, for example \"v4l2:///dev/video0\" or \"rtsp://host/path\"")
		} else if _, err := capture.ParseSource(camera.Source); err != nil {
			bad(key("source"), "%v", err)
		}
		oneOf(key("resize"), camera.Resize, "squash", "shortest", "longest")
		if camera.MaxFPS < 0 || camera.MaxFPS > 1000 {
			bad(key("max_fps"), "%g is not between 0 (no limit) and 1000", camera.MaxFPS)
		}
		for _, kind := range camera.Publish {
			oneOf(key("publish"), kind, "tokens", "embedding", "features")
		}
		checkRegions(fmt.Sprintf("camera[%d]", i), camera.Regions, bad)
	}
	oneOf("labels.publish", c.Labels.Publish, "every", "change")
	c.Labels.check(c.Cameras, bad)
	return found
}

func (c *Config) checkMQTT(bad badFunc, oneOf func(key, value string, allowed ...string)) {
	m := c.MQTT
	oneOf("mqtt.embedding_type", m.EmbeddingType, "fp16", "fp32")
	if m.Broker == "embedded" {
		if _, _, err := net.SplitHostPort(m.Listen); err != nil {
			bad("mqtt.listen", "%q is not an address of the form host:port: %v", m.Listen, err)
		}
	} else if u, err := url.Parse(m.Broker); err != nil || u.Host == "" {
		bad("mqtt.broker", "%q is neither \"embedded\" nor a URL such as mqtt://host:1883", m.Broker)
	} else {
		oneOf("mqtt.broker", u.Scheme, "mqtt", "tcp", "mqtts", "ssl", "ws", "wss")
		if u.User != nil {
			if _, inURL := u.User.Password(); inURL {
				bad("mqtt.broker", "a password in the URL ends up in logs: use username and password_file")
			}
		}
	}
	if m.Prefix == "" || strings.ContainsAny(m.Prefix, "+# \x00") || strings.HasPrefix(m.Prefix, "/") || strings.HasSuffix(m.Prefix, "/") {
		bad("mqtt.prefix", "%q cannot begin a topic: no +, #, spaces, nor / at either end", m.Prefix)
	}
	if (m.CertFile == "") != (m.KeyFile == "") {
		bad("mqtt.cert_file", "cert_file and key_file belong together: one of them is missing")
	}
	for _, file := range []struct{ key, path string }{
		{"mqtt.password_file", m.PasswordFile}, {"mqtt.ca_file", m.CAFile}, {"mqtt.cert_file", m.CertFile}, {"mqtt.key_file", m.KeyFile},
	} {
		if file.path == "" {
			continue
		}
		if _, err := os.Stat(file.path); err != nil {
			bad(file.key, "%v", err)
		}
	}
}
