package mqtt_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
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

// A broker that dies and comes back without memory: everything retained is there again,
// the publisher never waited, every frame is accounted for.
func TestBrokerRestart(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		var mu sync.Mutex
		var events []bool
		c, stop := client(t, mqtt.Options{Broker: b.url, OnConnection: func(n mqtt.Connection) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, n.Connected)
		}})
		setDocuments(t, c)
		connected(t, c)
		var lent owner
		send := func(n int) {
			for range n {
				if err := c.PublishFrame(frame(uint64(lent.lent.Load()), &lent)); err != nil {
					t.Fatal(err)
				}
			}
		}
		send(50)
		b.stop()
		eventually(t, "the loss is noticed and told", func() bool { return !c.Connected() && c.Stats().LastError != nil })
		// What waited when the connection went has to be settled first.
		eventually(t, "all frames are given back", func() bool { return lent.back.Load() == lent.lent.Load() })
		s := c.Stats()
		send(100)
		if d := c.Stats().DroppedBroker - s.DroppedBroker; d != 100 {
			t.Errorf("%d of 100 frames without a broker are counted", d)
		}
		if lent.back.Load() != lent.lent.Load() {
			t.Errorf("%d of %d frames given back without a broker", lent.back.Load(), lent.lent.Load())
		}
		if err := c.SetState(api.State{State: api.StateDegraded, Reason: "changed while away"}); err != nil {
			t.Fatal(err)
		}
		b.start()
		connected(t, c)
		o := observe(t, b.url, "toklip/robot-1/+", "toklip/robot-1/camera/+/+")
		topics := c.Topics()
		o.await(t, topics.Availability(), is("online"))
		o.await(t, topics.Info(), any1)
		o.await(t, topics.Camera("front", api.KindStatus), any1)
		o.await(t, topics.Camera("front", api.KindCalibration), any1)
		if m := o.await(t, topics.State(), any1); unmarshal[api.State](t, m.payload).Reason != "changed while away" {
			t.Errorf("state = %s", m.payload)
		}
		send(1)
		m := o.await(t, topics.Camera("front", api.KindTokens), any1)
		var tokens toklipv1.Tokens
		if err := proto.Unmarshal([]byte(m.payload), &tokens); err != nil {
			t.Fatal(err)
		}
		if tokens.Header.Drops.Broker < 100 {
			t.Errorf("header tells of %d frames dropped for want of a broker, want 100 or more", tokens.Header.Drops.Broker)
		}
		eventually(t, "all frames are given back", func() bool { return lent.back.Load() == lent.lent.Load() })
		cs := c.CameraStats("front")
		if sum := cs.Published + cs.DroppedBroker + cs.DroppedPublish; sum != uint64(lent.lent.Load()) {
			t.Errorf("%+v add up to %d of %d frames", cs, sum, lent.lent.Load())
		}
		if c.Stats().Connects != 2 {
			t.Errorf("%d connects, want 2", c.Stats().Connects)
		}
		stop()
		mu.Lock()
		defer mu.Unlock()
		if !events[0] || events[1] || events[len(events)-1] {
			t.Errorf("connection events = %v", events)
		}
	})
}

// The broker is not there at first.
func TestBrokerComesLater(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	b.stop()
	c, _ := client(t, mqtt.Options{Broker: b.url})
	setDocuments(t, c)
	eventually(t, "a failed attempt", func() bool {
		err := c.Stats().LastError
		return err != nil && strings.Contains(err.Error(), "nothing listens there")
	})
	b.start()
	o := observe(t, b.url, "toklip/robot-1/availability")
	o.await(t, c.Topics().Availability(), is("online"))
}

// Run ends at once while there is no broker, however long the pause is.
func TestStopWithoutBroker(t *testing.T) {
	for name, url := range map[string]string{"refused": "mqtt://" + freePort(t), "silent": silent(t)} {
		t.Run(name, func(t *testing.T) {
			c, err := mqtt.New(mqtt.Options{Broker: url, Node: "robot-1", RetryMin: time.Hour, ConnectTimeout: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			stop := run(t, c)
			time.Sleep(50 * time.Millisecond) // inside the attempt or the pause
			stop()
		})
	}
}

// silent is a server that accepts and says nothing.
func silent(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Add(1)
	go func() {
		defer conns.Done()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			go func() {
				defer conns.Done()
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	return "mqtt://" + l.Addr().String()
}

// A killed node is offline, by its will.
func TestWillOfKilledProcess(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		o := observe(t, b.url, "toklip/victim/availability")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+b.url)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}()
		o.await(t, "toklip/victim/availability", is("online"))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		o.await(t, "toklip/victim/availability", is("offline"))
		late := observe(t, b.url, "toklip/victim/availability")
		if m := late.await(t, "toklip/victim/availability", is("offline")); !m.retained {
			t.Error("the will is not retained")
		}
	})
}

// Somebody, for instance the will of a dead connection, says we are offline.
func TestAvailabilityIsDefended(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		c, _ := client(t, mqtt.Options{Broker: b.url})
		connected(t, c)
		topic := c.Topics().Availability()
		o := observe(t, b.url, topic)
		o.await(t, topic, is("online"))
		o.send(t, topic, true, "offline")
		eventually(t, "online again", func() bool {
			all := o.all()
			n := len(all)
			return n >= 3 && all[n-2].payload == "offline" && all[n-1].payload == "online"
		})
	})
}

// Two nodes of one name kick each other; both must go on trying without a storm.
func TestNamesakes(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	kicked := make(chan error, 1000)
	mk := func() *mqtt.Client {
		c, err := mqtt.New(mqtt.Options{Broker: b.url, Node: "twin", RetryMin: 20 * time.Millisecond, RetryMax: 10 * time.Second, Logger: testLog(t),
			OnConnection: func(n mqtt.Connection) {
				if n.Err != nil {
					kicked <- n.Err
				}
			}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, second := mk(), mk()
	run(t, first)
	connected(t, first)
	run(t, second)
	if err := <-kicked; !strings.Contains(err.Error(), "another client has our client id") {
		t.Errorf("error %v does not tell of a namesake", err)
	}
}

// A broker that stops reading: publishing goes on dropping and never waits, and the
// connection is given up.
func TestStalledBroker(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	p := newProxy(t, strings.TrimPrefix(b.url, "mqtt://"))
	c, _ := client(t, mqtt.Options{Broker: "mqtt://" + p.listener.Addr().String(), WriteTimeout: 500 * time.Millisecond, AckTimeout: time.Second})
	connected(t, c)
	p.stall()
	var lent owner
	send := func() {
		f := frame(uint64(lent.lent.Load()), &lent)
		f.Features = make([]float32, 256*1152) // fills the sockets' buffers soon
		if err := c.PublishFrame(f); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a newer frame takes the place of a waiting one", func() bool {
		send()
		return c.Stats().DroppedPublish > 0
	})
	eventually(t, "the connection is given up", func() bool {
		send()
		return !c.Connected()
	})
	p.resume()
	connected(t, c)
	o := observe(t, b.url, c.Topics().Camera("front", api.KindTokens))
	send()
	o.await(t, c.Topics().Camera("front", api.KindTokens), any1)
	eventually(t, "all frames are given back", func() bool { return lent.back.Load() == lent.lent.Load() })
}

// proxy stands between client and broker and can stop reading.
type proxy struct {
	listener net.Listener
	mu       sync.Mutex
	gate     *sync.Cond
	stalled  bool
	over     bool
	conns    []net.Conn
	wg       sync.WaitGroup
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l}
	p.gate = sync.NewCond(&p.mu)
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", to)
			if err != nil {
				_ = from.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, from, back)
			p.mu.Unlock()
			p.wg.Add(2)
			go p.copy(back, from)
			go p.copy(from, back)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.over = true
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.gate.Broadcast()
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) copy(to, from net.Conn) {
	defer p.wg.Done()
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 4096)
	for {
		p.mu.Lock()
		for p.stalled && !p.over {
			p.gate.Wait()
		}
		p.mu.Unlock()
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = true
}

func (p *proxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = false
	p.gate.Broadcast()
}

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

func TestBadOptions(t *testing.T) {
	for _, c := range []struct {
		opt  mqtt.Options
		want string
	}{
		{mqtt.Options{Broker: "", Node: "a"}, "broker URL is empty"},
		{mqtt.Options{Broker: "localhost:1883", Node: "a"}, "has no scheme: write mqtt://"},
		{mqtt.Options{Broker: "http://localhost", Node: "a"}, `scheme "http" is unknown`},
		{mqtt.Options{Broker: "mqtt://", Node: "a"}, "names no host"},
		{mqtt.Options{Broker: "mqtt://h:99999", Node: "a"}, `port "99999"`},
		{mqtt.Options{Broker: "mqtt://h:x", Node: "a"}, "invalid port"},
		{mqtt.Options{Broker: "mqtt://u:secret@h/topic", Node: "a"}, `path "/topic"`},
		{mqtt.Options{Broker: "ws://h/mqtt?x=1", Node: "a"}, "query or fragment"},
		{mqtt.Options{Broker: "mqtt://h", Node: "Node 1"}, `name "Node 1"`},
		{mqtt.Options{Broker: "mqtt://h", Node: "a", Prefix: "x/#"}, "wildcard"},
		{mqtt.Options{Broker: "mqtt://h", Node: "a", Password: "p"}, "without user name"},
		{mqtt.Options{Broker: "mqtt://h", Node: "a", CAFile: "ca.pem"}, "is not encrypted"},
		{mqtt.Options{Broker: "mqtts://h", Node: "a", CAFile: "/missing.pem"}, "read CA file"},
		{mqtt.Options{Broker: "mqtts://h", Node: "a", CAFile: os.Args[0]}, "no PEM certificate"},
		{mqtt.Options{Broker: "mqtts://h", Node: "a", CertFile: "c.pem"}, "belong together"},
		{mqtt.Options{Broker: "mqtts://h", Node: "a", CertFile: "c.pem", KeyFile: "k.pem"}, "load client certificate"},
		{mqtt.Options{Broker: "mqtt://h", Node: "a", EmbeddingType: 9}, "embedding type"},
		{mqtt.Options{Broker: "mqtt://h", Node: "a", RetryMin: -1}, "must not be negative"},
	} {
		_, err := mqtt.New(c.opt)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v does not say %q", c.opt.Broker, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("error shows the password: %v", err)
		}
	}
	for in, want := range map[string]string{
		"mqtt://h": "mqtt://h:1883", "tcp://h:7": "mqtt://h:7", "mqtts://h": "mqtts://h:8883", "ssl://h": "mqtts://h:8883", "tls://h": "mqtts://h:8883",
		"ws://h/mqtt": "ws://h:80/mqtt", "wss://h": "wss://h:443", "mqtt://u:p@[::1]:9": "mqtt://[::1]:9",
	} {
		a, err := mqtt.ParseAddress(in)
		if err != nil || a.String() != want {
			t.Errorf("%s is %s, %v; want %s", in, a, err, want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("mqtt://user:password@host:1883")
	f.Add("wss://[::1]:9001/mqtt")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := mqtt.ParseAddress(text)
		if err != nil {
			return
		}
		again, err := mqtt.ParseAddress(a.String())
		a.Username, a.Password = "", ""
		if err != nil || again != a {
			t.Errorf("%q is %+v, whose text reads as %+v, %v", text, a, again, err)
		}
	})
}

func TestRunOnce(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	c, stop := client(t, mqtt.Options{Broker: b.url})
	connected(t, c)
	stop()
	if err := c.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "make a new Client") {
		t.Errorf("second Run: %v", err)
	}
}

var errTest = errors.New("no such camera: this node has front")

func TestCommands(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		c, _ := client(t, mqtt.Options{Broker: b.url})
		blocked, release := make(chan struct{}), make(chan struct{})
		var order []string
		for verb, h := range map[string]mqtt.Handler{
			"ping":  func(context.Context, json.RawMessage) (any, error) { return map[string]int{"n": 1}, nil },
			"echo":  func(_ context.Context, args json.RawMessage) (any, error) { return args, nil },
			"fail":  func(context.Context, json.RawMessage) (any, error) { return "ignored", errTest },
			"panic": func(context.Context, json.RawMessage) (any, error) { panic("oops") },
			"never": func(context.Context, json.RawMessage) (any, error) { return func() {}, nil },
			"note": func(_ context.Context, args json.RawMessage) (any, error) {
				order = append(order, string(args))
				return order, nil
			},
			"block": func(ctx context.Context, _ json.RawMessage) (any, error) {
				blocked <- struct{}{}
				select {
				case <-release:
				case <-ctx.Done():
				}
				return nil, ctx.Err()
			},
		} {
			if err := c.Handle(verb, h); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Handle("ping", func(context.Context, json.RawMessage) (any, error) { return nil, nil }); err == nil {
			t.Error("a verb is registered twice")
		}
		if c.Handle("a/b", func(context.Context, json.RawMessage) (any, error) { return nil, nil }) == nil || c.Handle("x", nil) == nil {
			t.Error("a bad verb or handler is accepted")
		}
		connected(t, c)
		o := observe(t, b.url, "me/#", "toklip/robot-1/#")
		topics := c.Topics()
		ask := func(verb, payload string) api.Reply {
			t.Helper()
			n := len(o.all())
			o.send(t, topics.Command(verb), false, payload)
			var r api.Reply
			eventually(t, "a reply to "+verb, func() bool {
				for _, m := range o.all()[n:] {
					if m.topic == "me/replies" {
						r = unmarshal[api.Reply](t, m.payload)
						return true
					}
				}
				return false
			})
			return r
		}
		if r := ask("ping", `{"id":"1","reply_to":"me/replies"}`); !r.OK || r.ID != "1" || r.Result.(map[string]any)["n"] != 1.0 {
			t.Errorf("ping: %+v", r)
		}
		if r := ask("echo", `{"id":"2","reply_to":"me/replies","args":[1,"x"]}`); !r.OK || len(r.Result.([]any)) != 2 {
			t.Errorf("echo: %+v", r)
		}
		for _, q := range []struct{ verb, payload, want string }{
			{"fail", `{"id":"3","reply_to":"me/replies"}`, errTest.Error()},
			{"panic", `{"id":"3","reply_to":"me/replies"}`, "oops"},
			{"never", `{"id":"3","reply_to":"me/replies"}`, "cannot be encoded"},
			{"unknown", `{"id":"3","reply_to":"me/replies"}`, "this node knows block, echo, fail"},
			{"ping", `{"id":"3","reply_to":"me/replies","arg":1}`, `unknown member "arg"`},
		} {
			if r := ask(q.verb, q.payload); r.OK || r.ID != "3" || !strings.Contains(r.Error, q.want) || r.Result != nil {
				t.Errorf("%s %s: %+v does not say %q", q.verb, q.payload, r, q.want)
			}
		}

		// Topics a reply may not go to; nothing must appear there.
		for _, to := range []string{topics.Camera("front", api.KindTokensJSON), topics.State(), topics.Command("ping"), "toklip/other/command/ping", "me/#", "$SYS/x", ""} {
			o.send(t, topics.Command("ping"), false, `{"id":"bad","reply_to":"`+to+`"}`)
		}
		o.send(t, topics.Command("ping"), false, `{"id":"bad","reply_to":`)
		o.send(t, topics.Command("ping"), false, strings.Repeat("x", api.MaxCommandBytes+1))
		for i := range 10 { // and order is kept
			o.send(t, topics.Command("note"), false, `{"args":`+string(rune('0'+i))+`}`)
		}
		if r := ask("note", `{"id":"4","reply_to":"me/replies","args":"last"}`); len(r.Result.([]any)) != 11 {
			t.Errorf("note: %+v", r)
		}
		for i := range 10 {
			if order[i] != string(rune('0'+i)) {
				t.Errorf("commands came in the order %v", order)
				break
			}
		}
		for _, m := range o.all() {
			if strings.Contains(m.payload, `"bad"`) && !strings.HasPrefix(m.topic, topics.Command("")) {
				t.Errorf("a reply went to %s: %s", m.topic, m.payload)
			}
		}

		// Retained commands are refused when they come with the subscription. (One that is
		// sent while we listen arrives without the flag: MQTT 3.1.1, 3.3.1.3.)
		o.send(t, topics.Command("note"), true, `{"id":"old","reply_to":"me/replies","args":"retained"}`)
		b.stop()
		eventually(t, "the loss is noticed", func() bool { return !c.Connected() })
		b.start()
		o = observe(t, b.url, "me/#")
		o.send(t, topics.Command("note"), true, `{"id":"old","reply_to":"me/replies","args":"retained"}`)
		other, stopOther := client(t, mqtt.Options{Broker: b.url, ClientID: "fresh"}) // same node: subscribes anew
		connected(t, other)
		eventually(t, "a refusal", func() bool {
			return slices.ContainsFunc(o.all(), func(m message) bool { return strings.Contains(m.payload, "is retained: send it without") })
		})
		stopOther()

		// A full queue says so instead of growing.
		connected(t, c)
		for i := range 18 {
			o.send(t, topics.Command("block"), false, `{"id":"b","reply_to":"me/block"}`)
			if i == 0 {
				<-blocked
			}
		}
		eventually(t, "a refusal", func() bool {
			return slices.ContainsFunc(o.all(), func(m message) bool { return strings.Contains(m.payload, "others wait already") })
		})
		close(release)
		for range 16 {
			<-blocked
		}
	})
}
