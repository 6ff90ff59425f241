package mqtt_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/mqtt"
)

// Frames that were dropped are told of in the next message: which cells changed in them,
// and that features are not those of the message before.
func TestDroppedFramesAreToldOf(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	b.stop()
	c, _ := client(t, mqtt.Options{Broker: b.url})
	send := func(sequence uint64, keyframe, reused bool, changed ...uint64) {
		t.Helper()
		f := frame(sequence, nil)
		f.Header.Keyframe, f.Header.Reused, f.Changed = keyframe, reused, changed
		if err := c.PublishFrame(f); err != nil {
			t.Fatal(err)
		}
	}
	send(1, false, true, 0, 0, 0, 0)
	send(2, true, false, 1<<63, 2, 0, 0)
	send(3, false, false, 0, 4, 0, 0)
	b.start()
	connected(t, c)
	topic := c.Topics().Camera("front", api.KindTokens)
	o := observe(t, b.url, topic)
	receive := func(sequence uint64) (*toklipv1.Header, []int32) {
		t.Helper()
		var m toklipv1.Tokens
		o.await(t, topic, func(payload string) bool {
			return proto.Unmarshal([]byte(payload), &m) == nil && m.Header.Sequence == sequence
		})
		changed, err := api.ChangedCells(nil, &m)
		if err != nil {
			t.Fatal(err)
		}
		return m.Header, changed
	}
	send(4, false, true, 0, 0, 0, 0)
	if h, changed := receive(4); h.Reused || !h.Keyframe || !slices.Equal(changed, []int32{63, 65, 66}) {
		t.Errorf("after dropped frames: reused %v, keyframe %v, changed %v", h.Reused, h.Keyframe, changed)
	}
	send(5, false, true, 0, 0, 0, 0)
	if h, changed := receive(5); !h.Reused || h.Keyframe || len(changed) != 0 {
		t.Errorf("after that: reused %v, keyframe %v, changed %v", h.Reused, h.Keyframe, changed)
	}
}

func TestFramesRefused(t *testing.T) {
	c, err := mqtt.New(mqtt.Options{Broker: "mqtt://127.0.0.1", Node: "robot-1"})
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*mqtt.Frame){
		"no header":                    func(f *mqtt.Frame) { f.Header = nil },
		`name "Front"`:                 func(f *mqtt.Frame) { f.Header.Camera = "Front" },
		"256 tokens for a grid of 4x4": func(f *mqtt.Frame) { f.Rows, f.Cols = 4, 4 },
		"changed cells have 0 words":   func(f *mqtt.Frame) { f.Changed = nil },
		"300 elements of features":     func(f *mqtt.Frame) { f.Features = make([]float32, 300) },
	} {
		var lent owner
		f := frame(1, &lent)
		change(f)
		if err := c.PublishFrame(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
		if lent.back.Load() != 1 {
			t.Errorf("%s: frame given back %d times", want, lent.back.Load())
		}
	}
}

// Labels, features, fp32 and normalised embeddings.
func TestOtherKinds(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	c, _ := client(t, mqtt.Options{Broker: b.url, Prefix: "fleet/a", JSON: true, EmbeddingType: toklipv1.DType_DTYPE_FP32, Normalize: true})
	connected(t, c)
	o := observe(t, b.url, "fleet/a/robot-1/camera/front/+", "fleet/a/robot-1/camera/front/+/json")
	f := frame(3, nil)
	f.Features = make([]float32, 256*4)
	f.Features[1023] = 0.5
	f.Labels = []*toklipv1.Label{{Label: "cat", Cosine: 0.5, Logit: 1, Score: 0.7}}
	if err := c.PublishFrame(f); err != nil {
		t.Fatal(err)
	}
	var features toklipv1.Features
	if err := proto.Unmarshal([]byte(o.await(t, "fleet/a/robot-1/camera/front/features", any1).payload), &features); err != nil {
		t.Fatal(err)
	}
	if v, err := api.FeatureVectors(nil, &features); err != nil || !slices.Equal(v, f.Features) {
		t.Errorf("features differ: %v", err)
	}
	var embedding toklipv1.Embedding
	if err := proto.Unmarshal([]byte(o.await(t, "fleet/a/robot-1/camera/front/embedding", any1).payload), &embedding); err != nil {
		t.Fatal(err)
	}
	v, err := api.EmbeddingVector(nil, &embedding)
	if err != nil || !embedding.Normalized || embedding.Dtype != toklipv1.DType_DTYPE_FP32 {
		t.Fatalf("embedding = %v, %v", embedding.Dtype, err)
	}
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum < 0.9999 || sum > 1.0001 {
		t.Errorf("length² = %v", sum)
	}
	labels, err := api.ParseLabelsJSON([]byte(o.await(t, "fleet/a/robot-1/camera/front/labels/json", any1).payload))
	if err != nil || labels.Labels[0].Label != "cat" {
		t.Errorf("labels = %v, %v", labels, err)
	}
	o.await(t, "fleet/a/robot-1/camera/front/labels", any1)
}
