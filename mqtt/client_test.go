package mqtt_test

import (
	"errors"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/mqtt"
)

func setDocuments(t *testing.T, c *mqtt.Client) {
	t.Helper()
	var calibration api.Calibration
	calibration.Width, calibration.Height, calibration.K[0] = 640, 480, 500
	for _, err := range []error{
		c.SetInfo(api.Info{Schema: 1, Node: "robot-1", BootID: "boot", Cameras: []api.CameraInfo{{Name: "front"}}}),
		c.SetState(api.State{State: api.StateReady, SinceNS: 1}),
		c.SetCameraStatus("front", api.CameraStatus{Status: api.CameraOnline}),
		c.SetCalibration("front", calibration),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A whole life as an independent client sees it: documents, frames, farewell.
func TestLife(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		o := observe(t, b.url, "toklip/robot-1/#")
		c, err := mqtt.New(mqtt.Options{Broker: b.url, Node: "robot-1", JSON: true, Logger: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		setDocuments(t, c)
		stop := run(t, c)
		connected(t, c)
		topics := c.Topics()
		o.await(t, topics.Availability(), is("online"))
		o.await(t, topics.Info(), any1)
		o.await(t, topics.Camera("front", api.KindCalibration), any1)

		// Whoever comes later finds all of it, retained.
		late := observe(t, b.url, "toklip/+/info", "toklip/+/state", "toklip/+/availability", "toklip/+/camera/+/status")
		if m := late.await(t, topics.Info(), any1); !m.retained || unmarshal[api.Info](t, m.payload).BootID != "boot" {
			t.Errorf("late info = %+v", m)
		} else if !strings.Contains(m.payload, `"publish":[],"frame_id":"","label_set":"","label_names":[],"regions":[]}`) {
			t.Errorf("lists that are empty are not written as such: %s", m.payload)
		}
		if m := late.await(t, topics.Availability(), is("online")); !m.retained {
			t.Errorf("late availability = %+v", m)
		}
		if m := late.await(t, topics.State(), any1); unmarshal[api.State](t, m.payload).State != api.StateReady {
			t.Errorf("late state = %+v", m)
		}
		late.await(t, topics.Camera("front", api.KindStatus), any1)
		late.close()

		var lent owner
		f := frame(7, &lent)
		before := time.Now().UnixNano()
		if err := c.PublishFrame(f); err != nil {
			t.Fatal(err)
		}
		m := o.await(t, topics.Camera("front", api.KindEmbeddingJSON), any1)
		var tokens toklipv1.Tokens
		binary := o.await(t, topics.Camera("front", api.KindTokens), any1)
		if err := proto.Unmarshal([]byte(binary.payload), &tokens); err != nil {
			t.Fatal(err)
		}
		if ids, err := api.TokenIDs(nil, &tokens); err != nil || !slices.Equal(ids, f.Tokens) {
			t.Errorf("ids differ: %v", err)
		}
		if changed, err := api.ChangedCells(nil, &tokens); err != nil || !slices.Equal(changed, []int32{0, 255}) {
			t.Errorf("changed = %v, %v", changed, err)
		}
		h := tokens.Header
		if h.Sequence != 7 || h.Node != "robot-1" || h.Drops.Queue != 5 || h.PublishNs < before || h.PublishNs > time.Now().UnixNano() {
			t.Errorf("header = %v", h)
		}
		if binary.retained || binary.qos != 0 {
			t.Errorf("frame message has retained %v, QoS %d", binary.retained, binary.qos)
		}
		twin, err := api.ParseTokensJSON([]byte(o.await(t, topics.Camera("front", api.KindTokensJSON), any1).payload))
		if err != nil || !proto.Equal(twin, &tokens) {
			t.Errorf("JSON twin differs: %v\n%v\n%v", err, twin, &tokens)
		}
		var embedding toklipv1.Embedding
		if err := proto.Unmarshal([]byte(o.await(t, topics.Camera("front", api.KindEmbedding), any1).payload), &embedding); err != nil {
			t.Fatal(err)
		}
		if twin, err := api.ParseEmbeddingJSON([]byte(m.payload)); err != nil || !proto.Equal(twin, &embedding) {
			t.Errorf("JSON twin of the embedding differs: %v", err)
		}
		if !proto.Equal(embedding.Header, h) {
			t.Errorf("headers of one frame differ:\n%v\n%v", embedding.Header, h)
		}
		if _, ok := o.last(topics.Camera("front", api.KindFeatures)); ok {
			t.Error("features are published though nobody asked for them")
		}
		eventually(t, "the frame is given back", func() bool { return lent.back.Load() == 1 })

		if err := c.PublishMetrics(api.Metrics{BootID: "boot"}); err != nil {
			t.Fatal(err)
		}
		metrics := o.await(t, topics.Metrics(), any1)
		if got := unmarshal[api.Metrics](t, metrics.payload); !got.MQTT.Connected || got.MQTT.Published != 4 || metrics.qos != 0 {
			t.Errorf("metrics = %+v, QoS %d", got, metrics.qos)
		}

		stop()
		o.await(t, topics.Availability(), is("offline"))
		all := o.all()
		var order []string
		for _, m := range all {
			switch m.topic {
			case topics.Availability():
				order = append(order, m.payload)
			case topics.State():
				order = append(order, string(unmarshal[api.State](t, m.payload).State))
			}
		}
		// QoS 1 may repeat, and a subscriber may get a text live and retained: what counts is
		// how it ended.
		order = slices.Compact(order)
		if want := []string{"ready", "online", "stopping", "offline"}; len(order) < 4 || !slices.Equal(order[len(order)-4:], want) {
			t.Errorf("states and availability came as %v, want %v", order, want)
		}
		if c.Connected() {
			t.Error("connected after its end")
		}
		var after owner
		if err := c.PublishFrame(frame(8, &after)); err != nil || after.back.Load() != 1 {
			t.Errorf("a frame after the end: %v, given back %d times", err, after.back.Load())
		}
	})
}

// Same by the tools of another project, as a user would look.
func TestMosquittoSub(t *testing.T) {
	program, err := exec.LookPath("mosquitto_sub")
	if err != nil {
		t.Skip("mosquitto_sub is not installed (apt-get install mosquitto-clients)")
	}
	b := embedded(t, mqtt.BrokerOptions{})
	c, _ := client(t, mqtt.Options{Broker: b.url})
	connected(t, c)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(b.url, "mqtt://"))
	cmd := exec.Command(program, "-h", "127.0.0.1", "-p", port, "-t", "toklip/robot-1/camera/front/tokens", "-C", "1", "-N")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte, 1)
	go func() {
		data, _ := io.ReadAll(out)
		got <- data
	}()
	var data []byte
	for sequence := uint64(1); data == nil; sequence++ { // until it has subscribed
		if err := c.PublishFrame(frame(sequence, nil)); err != nil {
			t.Fatal(err)
		}
		select {
		case data = <-got:
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	var m toklipv1.Tokens
	if err := proto.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	if ids, err := api.TokenIDs(nil, &m); err != nil || !slices.Equal(ids, frame(m.Header.Sequence, nil).Tokens) {
		t.Errorf("ids differ: %v", err)
	}
}

func TestRemoveCamera(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	c, _ := client(t, mqtt.Options{Broker: b.url})
	setDocuments(t, c)
	connected(t, c)
	status := c.Topics().Camera("front", api.KindStatus)
	o := observe(t, b.url, status)
	o.await(t, status, any1)
	c.RemoveCamera("front")
	o.await(t, status, is(""))
	late := observe(t, b.url, c.Topics().Info(), status)
	late.await(t, c.Topics().Info(), any1)
	if m, ok := late.last(status); ok {
		t.Errorf("status of a removed camera is still there: %+v", m)
	}
}

var errTest = errors.New("no such camera: this node has front")
