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

// Labels that did not change are left out, but not if others were dropped that did.
func TestUnchangedLabels(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	c, _ := client(t, mqtt.Options{Broker: b.url})
	connected(t, c)
	labels := c.Topics().Camera("front", api.KindLabels)
	tokens := c.Topics().Camera("front", api.KindTokens)
	o := observe(t, b.url, labels, tokens)
	sequence := func(payload string) uint64 {
		var m toklipv1.Labels // the header is the same field in all messages
		if err := proto.Unmarshal([]byte(payload), &m); err != nil {
			t.Fatal(err)
		}
		return m.Header.Sequence
	}
	send := func(n uint64, unchanged bool) {
		t.Helper()
		f := frame(n, nil)
		f.Labels, f.LabelsUnchanged = []*toklipv1.Label{{Label: "cat", Score: 0.7}}, unchanged
		if err := c.PublishFrame(f); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(n uint64) {
		t.Helper()
		o.await(t, tokens, func(p string) bool { return sequence(p) == n })
	}
	send(1, false)
	receive(1)
	send(2, true)
	receive(2)
	b.stop()
	eventually(t, "the loss is noticed", func() bool { return !c.Connected() })
	send(3, false)
	send(4, true)
	before := o.all()
	b.start()
	connected(t, c)
	o = observe(t, b.url, labels, tokens)
	send(5, true)
	receive(5)
	send(6, true)
	receive(6)
	send(7, false)
	receive(7)
	// Labels go out after the tokens of their frame: those of 7 may still be under way.
	o.await(t, labels, func(p string) bool { return sequence(p) == 7 })
	var got []uint64
	for _, m := range append(before, o.all()...) {
		if m.topic == labels {
			got = append(got, sequence(m.payload))
		}
	}
	if !slices.Equal(got, []uint64{1, 5, 7}) {
		t.Errorf("labels came of the frames %v, want 1, 5, 7", got)
	}
}

// Regions have a slot of their own: frames neither wait for them nor push them out.
func TestRegions(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	p := newProxy(t, strings.TrimPrefix(b.url, "mqtt://"))
	c, _ := client(t, mqtt.Options{Broker: "mqtt://" + p.listener.Addr().String(), JSON: true})
	var lent owner
	send := func(sequence uint64) {
		t.Helper()
		lent.lent.Add(1)
		h := frame(sequence, nil).Header
		h.Reused = true
		labels := []*toklipv1.Label{{Label: "cat", Score: 0.7, Present: true, SinceNs: 5, Region: "door"}, {Label: "cat", Region: "table"}}
		if err := c.PublishRegions(h, labels, &lent); err != nil {
			t.Fatal(err)
		}
		h.Sequence = 0 // ours again
	}
	connected(t, c)
	topics := c.Topics()
	o := observe(t, b.url, topics.Camera("front", api.KindRegions), topics.Camera("front", api.KindRegionsJSON), topics.Camera("front", api.KindTokens))
	send(8)
	var m toklipv1.Labels
	if err := proto.Unmarshal([]byte(o.await(t, topics.Camera("front", api.KindRegions), any1).payload), &m); err != nil {
		t.Fatal(err)
	}
	if m.Header.Sequence != 8 || !m.Header.Reused || m.Header.PublishNs == 0 || m.Labels[0].Region != "door" || !m.Labels[0].Present || m.Labels[1].Region != "table" {
		t.Errorf("regions came as %v", &m)
	}
	twin, err := api.ParseLabelsJSON([]byte(o.await(t, topics.Camera("front", api.KindRegionsJSON), any1).payload))
	if err != nil || !proto.Equal(twin, &m) {
		t.Errorf("twin of regions is %v, %v", twin, err)
	}
	if got := c.CameraStats("front"); got != (mqtt.CameraStats{RegionsPublished: 1}) {
		t.Errorf("figures are %+v", got)
	}

	// A network that takes nothing: the newest regions and the newest frame wait, and a frame
	// that comes later does not push the regions out.
	p.stall()
	eventually(t, "regions take the place of others", func() bool {
		f := frame(1, &lent)
		f.Features = make([]float32, 256*1152)
		if err := c.PublishFrame(f); err != nil {
			t.Fatal(err)
		}
		send(9)
		return c.CameraStats("front").RegionsDropped > 0 && c.CameraStats("front").DroppedPublish > 0
	})
	send(10)
	if err := c.PublishFrame(frame(10, &lent)); err != nil {
		t.Fatal(err)
	}
	p.resume()
	for _, kind := range []api.Kind{api.KindRegions, api.KindTokens} {
		o.await(t, topics.Camera("front", kind), func(payload string) bool {
			var m toklipv1.Labels
			return proto.Unmarshal([]byte(payload), &m) == nil && m.Header.Sequence == 10
		})
	}
	eventually(t, "all are given back", func() bool { return lent.back.Load() == lent.lent.Load() })

	// Without a connection they are dropped, and given back, at once.
	p.stall()
	b.stop()
	p.resume()
	eventually(t, "the loss is noticed", func() bool { return !c.Connected() })
	before := c.CameraStats("front")
	send(11)
	if got := c.CameraStats("front"); got.RegionsDropped != before.RegionsDropped+1 || got.DroppedBroker != before.DroppedBroker {
		t.Errorf("figures are %+v, before %+v", got, before)
	}
	if lent.back.Load() != lent.lent.Load() {
		t.Errorf("%d of %d given back", lent.back.Load(), lent.lent.Load())
	}
	for want, change := range map[string]func(h *toklipv1.Header, l *[]*toklipv1.Label){
		"no labels":      func(_ *toklipv1.Header, l *[]*toklipv1.Label) { *l = nil },
		`name "a b" has`: func(h *toklipv1.Header, _ *[]*toklipv1.Label) { h.Camera = "a b" },
	} {
		var lent owner
		h, labels := frame(1, nil).Header, []*toklipv1.Label{{Label: "cat"}}
		change(h, &labels)
		if err := c.PublishRegions(h, labels, &lent); err == nil || !strings.Contains(err.Error(), want) || lent.back.Load() != 1 {
			t.Errorf("error %v does not say %q; given back %d times", err, want, lent.back.Load())
		}
	}
}

// Handing a frame, its regions and an event over allocates nothing, once all has its size.
func TestHandoverAllocatesNothing(t *testing.T) {
	c, err := mqtt.New(mqtt.Options{Broker: "mqtt://127.0.0.1", Node: "robot-1"})
	if err != nil {
		t.Fatal(err)
	}
	f, e := frame(1, nil), event(1)
	f.Header.Stages, f.Header.Window = new(toklipv1.Stages), new(toklipv1.Window)
	f.Labels = []*toklipv1.Label{{Label: "cat"}}
	for range 4096 {
		if err := c.PublishEvent(e); err != nil {
			t.Fatal(err)
		}
	}
	n := testing.AllocsPerRun(200, func() {
		if c.PublishFrame(f) != nil || c.PublishRegions(f.Header, f.Labels, nil) != nil || c.PublishEvent(e) != nil {
			t.Error("handing over fails")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
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
