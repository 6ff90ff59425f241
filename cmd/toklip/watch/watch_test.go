package watch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	server "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/capture/capturetest"
)

// freePort returns a port that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// mosquitto runs the real broker until the test ends and returns its URL.
func mosquitto(t *testing.T, config ...string) string {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path = "/usr/sbin/mosquitto"; !fileExists(path) {
			t.Skip("mosquitto is not installed")
		}
	}
	port := freePort(t)
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	if len(config) == 0 {
		config = []string{"allow_anonymous true"}
	}
	text := fmt.Sprintf("listener %d 127.0.0.1\npersistence false\n%s\n", port, strings.Join(config, "\n"))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	for range 100 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return "mqtt://" + address
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("mosquitto does not listen")
	return ""
}

func fileExists(path string) bool { _, err := os.Stat(path); return err == nil }

// allowAll lets everybody do everything.
type allowAll struct{ server.HookBase }

func (*allowAll) ID() string { return "allow-all" }
func (*allowAll) Provides(b byte) bool {
	return b == server.OnConnectAuthenticate || b == server.OnACLCheck
}
func (*allowAll) OnConnectAuthenticate(*server.Client, packets.Packet) bool { return true }
func (*allowAll) OnACLCheck(*server.Client, string, bool) bool              { return true }

// embedded runs a broker in the process at an address, which stop ends.
func embedded(t *testing.T, address string) (stop func()) {
	t.Helper()
	s := server.New(&server.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := s.AddHook(new(allowAll), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: address})); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop = func() { once.Do(func() { _ = s.Close() }) }
	t.Cleanup(stop)
	return stop
}

// publisher connects a client and returns its way to publish.
func publisher(t *testing.T, url string) func(topic string, retained bool, payload []byte) {
	t.Helper()
	o := mqtt.NewClientOptions().AddBroker(strings.Replace(url, "mqtt://", "tcp://", 1)).SetClientID("node").SetProtocolVersion(4).
		SetAutoReconnect(false) // a broker that ends first would leave the library asleep between two attempts, beyond Disconnect
	c := mqtt.NewClient(o)
	if token := c.Connect(); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { c.Disconnect(100) })
	return func(topic string, retained bool, payload []byte) {
		t.Helper()
		if token := c.Publish(topic, 1, retained, payload); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
}

// watching runs Run in the background; the lines it writes come from the scanner.
type watching struct {
	lines *bufio.Scanner
	done  chan error
	stop  context.CancelFunc
}

func watchLines(t *testing.T, o Options) *watching {
	t.Helper()
	r, w := io.Pipe()
	o.Out = w
	ctx, cancel := context.WithCancel(t.Context())
	run := &watching{lines: bufio.NewScanner(r), done: make(chan error, 1), stop: cancel}
	run.lines.Buffer(nil, 1<<20)
	go func() {
		err := Run(ctx, o)
		w.Close()
		run.done <- err
	}()
	t.Cleanup(func() {
		cancel()
		r.Close()
	})
	return run
}

func (w *watching) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-w.done:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("Run does not return")
		return nil
	}
}

func TestPlainLinesFromMosquitto(t *testing.T) {
	url := mosquitto(t)
	publish := publisher(t, url)
	publish("toklip/robot-7/availability", true, []byte("online"))
	w := watchLines(t, Options{Broker: url, Count: 8})
	if !w.lines.Scan() || !strings.Contains(w.lines.Text(), "robot-7                 availability  online  6 B") {
		t.Fatalf("retained availability: %q", w.lines.Text())
	}
	s := newSender(t, "robot-7", "front", 16)
	now := time.Now()
	h := s.header(42, now.Add(-50*time.Millisecond), now)
	h.Keyframe = true
	labels := &toklipv1.Labels{Header: h, Labels: []*toklipv1.Label{{Label: "door\x1b[2J", Score: 0.5}, {Label: "box", Score: 0.25, Present: true}}}
	regions := &toklipv1.Labels{Header: h, Labels: []*toklipv1.Label{{Label: "door", Score: 0.5, Region: "hall\x1b[2J"},
		{Label: "box", Score: 0.25, Present: true, Region: "hall\x1b[2J"}, {Label: "cup", Score: float32(math.NaN()), Region: "table"}}}
	for _, m := range []struct {
		kind    api.Kind
		payload []byte
		want    string
	}{
		{api.KindTokens, s.tokens(h, s.change(1, 2)), `tokens        #42  age \d+ ms  keyframe  16x16  2 changed  ids ` + idsText(s.ids, 8)},
		{api.KindEmbedding, s.embedding(h, true), `embedding     #42  age \d+ ms  keyframe  1152 x fp16  norm 1  \[0.000 0.0`},
		{api.KindLabels, s.marshal(labels), `labels        #42  age \d+ ms  keyframe  ● box 0.25 · door·\[2J 0.50`},
		{api.KindRegions, s.marshal(regions), `regions       #42  age \d+ ms  keyframe  hall·\[2J: ● box 0.25 · table: cup 0.00`},
		{api.KindEvent, []byte(labelEvent), `event         #41  box·\[2J gone in hall  after 2.5 s  peak 0.75  stopping`},
		{api.KindStatus, []byte(`{"status":"online","counters":{"frames":9,"drops":{"rate":2}}}`), `status        online  9 frames, 0 published, 0 restarts  dropped rate 2`},
		{api.KindTokens, []byte("\xff\xff garbage"), `tokens        cannot be decoded: .*  10 B  ff ff 20 67`},
	} {
		publish(s.topic(m.kind), false, m.payload)
		if !w.lines.Scan() {
			t.Fatal("no line")
		}
		line := w.lines.Text()
		if !regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3}  robot-7/front           ` + m.want).MatchString(line) {
			t.Errorf("%s: %q, want %q", m.kind, line, m.want)
		}
		// The heavy topics are not subscribed to.
		publish("toklip/robot-7/camera/front/features", false, []byte("x"))
		publish("toklip/robot-7/command/reload", false, []byte("x"))
	}
	if err := w.wait(t); err != nil {
		t.Errorf("after Count messages: %v", err)
	}
}

func TestJSONLinesFromMosquitto(t *testing.T) {
	url := mosquitto(t)
	publish := publisher(t, url)
	w := watchLines(t, Options{Broker: url, JSON: true, Filter: "#", Duration: 20 * time.Second})
	next := func() (topic string, message json.RawMessage, raw map[string]json.RawMessage) {
		t.Helper()
		if !w.lines.Scan() {
			t.Fatal("no line")
		}
		if err := json.Unmarshal(w.lines.Bytes(), &raw); err != nil {
			t.Fatalf("%v: %s", err, w.lines.Text())
		}
		if err := json.Unmarshal(raw["topic"], &topic); err != nil {
			t.Fatal(err)
		}
		return topic, raw["message"], raw
	}
	publish("ready", true, []byte("?")) // retained: comes when the subscription stands
	if topic, message, raw := next(); topic != "ready" || string(message) != "null" || string(raw["hex"]) != `"3f"` {
		t.Errorf("foreign topic: %s %s", topic, w.lines.Text())
	}
	s := newSender(t, "n", "c", 24)
	now := time.Now()
	h := s.header(7, now, now)
	publish(s.topic(api.KindTokens), false, s.tokens(h, s.change(0)))
	topic, message, _ := next()
	m, err := api.ParseTokensJSON(message)
	if err != nil || topic != "toklip/n/camera/c/tokens" {
		t.Fatalf("%s: %v", topic, err)
	}
	ids, err := api.TokenIDs(nil, m)
	if err != nil || len(ids) != 576 || ids[0] != s.ids[0] || ids[575] != s.ids[575] || m.Header.Sequence != 7 {
		t.Errorf("tokens came out wrong: %v %v", err, m.Header)
	}
	publish(s.topic(api.KindEmbedding), false, s.embedding(h, true))
	if _, message, _ = next(); true {
		e, err := api.ParseEmbeddingJSON(message)
		if err != nil || e.Dim != 1152 || !e.Normalized {
			t.Errorf("embedding: %v", err)
		}
	}
	twin, err := api.AppendTokensJSON(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	publish(s.topic(api.KindTokensJSON), false, twin)
	if topic, message, _ := next(); topic != "toklip/n/camera/c/tokens/json" || !bytes.Equal(message, twin) {
		t.Errorf("twin: %s", w.lines.Text())
	}
	publish("toklip/n/state", false, []byte("{\n \"state\": \"ready\", \"later\": [1, \"\u009b31m\"] }"))
	if topic, message, _ := next(); topic != "toklip/n/state" || string(message) != `{"state":"ready","later":[1,"\u009b31m"]}` {
		t.Errorf("document: %s %s", topic, message)
	}
	labels := &toklipv1.Labels{Header: h, Labels: []*toklipv1.Label{{Label: "cup", Score: 0.5, Present: true, SinceNs: 9, Region: "door"}}}
	publish(s.topic(api.KindRegions), false, s.marshal(labels))
	if topic, message, _ := next(); topic != "toklip/n/camera/c/regions" || !bytes.Contains(message, []byte(`"present":true,"since_ns":9,"region":"door"}]}`)) {
		t.Errorf("regions: %s %s", topic, message)
	}
	publish(s.topic(api.KindEvent), false, []byte(labelEvent))
	if topic, message, _ := next(); topic != "toklip/n/camera/c/event" || string(message) != labelEvent {
		t.Errorf("event: %s %s", topic, message)
	}
	publish("toklip/n/availability", false, []byte("offline"))
	if _, message, _ := next(); string(message) != `"offline"` {
		t.Errorf("availability: %s", message)
	}
	publish("toklip/n/info", false, []byte(`{"broken`))
	if _, message, raw := next(); string(message) != "null" || raw["error"] == nil || string(raw["bytes"]) != "8" {
		t.Errorf("broken document: %s", w.lines.Text())
	}
	features := &toklipv1.Features{Header: h}
	if err := api.SetFeatures(features, []float32{1, 2, 3, 4}, 2, toklipv1.DType_DTYPE_FP16); err != nil {
		t.Fatal(err)
	}
	publish(s.topic(api.KindFeatures), false, s.marshal(features))
	if _, message, _ := next(); !bytes.Contains(message, []byte(`"rows":2,"dim":2`)) {
		t.Errorf("features: %s", message)
	}
	w.stop()
	if err := w.wait(t); err != nil {
		t.Errorf("cancelled: %v", err)
	}
}

func TestDurationEnds(t *testing.T) {
	url := mosquitto(t)
	if err := Run(t.Context(), Options{Broker: url, Duration: 200 * time.Millisecond, Out: io.Discard}); err != nil {
		t.Errorf("duration alone: %v", err)
	}
	err := Run(t.Context(), Options{Broker: url, Duration: 200 * time.Millisecond, Count: 3, Out: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "received 0 of 3 messages in 200ms from "+url) {
		t.Errorf("duration before count: %v", err)
	}
}

func TestReconnects(t *testing.T) {
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	stop := embedded(t, address)
	url := "mqtt://" + address
	var log capturetest.Output
	w := watchLines(t, Options{Broker: url, Duration: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil))})
	publisher(t, url)("toklip/a/availability", true, []byte("online"))
	if !w.lines.Scan() || !strings.Contains(w.lines.Text(), "online") {
		t.Fatalf("before: %q", w.lines.Text())
	}
	stop()
	// A broker that is back before the client noticed has its connection without a gap to tell of.
	for gone := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), "not connected"); time.Sleep(time.Millisecond) {
		if time.Now().After(gone) {
			t.Fatalf("the broker's end is not told: %s", log.String())
		}
	}
	embedded(t, address) // knows nothing of the session
	publisher(t, url)("toklip/a/availability", true, []byte("offline"))
	if !w.lines.Scan() || !strings.Contains(w.lines.Text(), "offline") {
		t.Fatalf("after the broker came back: %q", w.lines.Text())
	}
	w.stop()
	if err := w.wait(t); err != nil {
		t.Error(err)
	}
	if text := log.String(); !strings.Contains(text, "not connected") || !strings.Contains(text, "connected again") {
		t.Errorf("log: %s", text)
	}
}

func TestErrorsNameTheNextStep(t *testing.T) {
	closed := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	denied := mosquitto(t, "allow_anonymous false")
	for _, test := range []struct {
		name string
		o    Options
		want string
	}{
		{"refused", Options{Broker: "mqtt://" + closed}, "connect to mqtt://" + closed + ": connection refused: no broker listens there; `toklip run --demo` starts one, with a broker"},
		{"denied", Options{Broker: strings.Replace(denied, "//", "//me:secret@", 1)}, "connect to " + denied + ": not authorised: give user and password in the URL: mqtt://user:password@host"},
		{"not tls", Options{Broker: strings.Replace(denied, "mqtt:", "mqtts:", 1)}, ": is it an MQTT broker, and with TLS only if the URL says mqtts?"},
		{"scheme", Options{Broker: "http://me:secret@host"}, `broker URL "http://me:xxxxx@host" has scheme "http": write it as mqtt://host:1883, or mqtts://host:8883 for TLS`},
		{"no host", Options{Broker: "mqtt://:1883"}, "has no host"},
		{"path", Options{Broker: "mqtt://host/toklip/a"}, "a topic is given as FILTER, not in the URL"},
		{"bad URL", Options{Broker: "mqtt://me:secret@ho st"}, "broker URL cannot be read: invalid character \" \" in host name"},
		{"prefix", Options{Prefix: "a//b"}, "empty level"},
		{"hash", Options{Filter: "a/#/b"}, `filter "a/#/b": # can only be the last level`},
		{"plus", Options{Filter: "a+/b"}, `the wildcard in "a+" must be a whole level`},
		{"count", Options{Count: -1}, "count -1 is negative"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.o.Out = io.Discard
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err := Run(ctx, test.o)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v\nwant: %s", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the password is shown: %v", err)
			}
		})
	}
}

func TestParseBroker(t *testing.T) {
	for text, want := range map[string]broker{
		"localhost":               {url: "tcp://localhost:1883", shown: "mqtt://localhost:1883"},
		"robot.local:1884":        {url: "tcp://robot.local:1884", shown: "mqtt://robot.local:1884"},
		"MQTT://u:p%40@h":         {url: "tcp://h:1883", shown: "mqtt://h:1883", user: "u", pass: "p@"},
		"mqtts://h":               {url: "ssl://h:8883", shown: "mqtts://h:8883", secure: true},
		"tcp://[::1]:9":           {url: "tcp://[::1]:9", shown: "tcp://[::1]:9"},
		"wss://h/mqtt":            {url: "wss://h:443/mqtt", shown: "wss://h:443/mqtt", secure: true},
		"mqtt://h/":               {url: "tcp://h:1883", shown: "mqtt://h:1883"},
		"ws://h:8080/a%20b?x=1#y": {url: "ws://h:8080/a%20b", shown: "ws://h:8080/a%20b"},
	} {
		if have, err := parseBroker(text); err != nil || have != want {
			t.Errorf("%s: %+v, %v", text, have, err)
		}
	}
}

// A prefix of several levels, given by the user's filter only.
func TestFindTopic(t *testing.T) {
	for _, test := range []struct{ topic, prefix, node, camera string }{
		{"toklip/n/state", "toklip", "n", ""},
		{"lab/7/n/camera/c/tokens", "lab/7", "n", "c"},
		{"x/n/camera/c/tokens", "x", "n", "c"},
		{"n/state/", "", "", ""},
		{"/", "", "", ""}, {"", "", "", ""}, {"camera/c/tokens", "", "", ""},
		{strings.Repeat("a/", 20) + "n/state", "", "", ""},
	} {
		of, prefix, ok := findTopic("toklip", test.topic)
		if ok != (test.node != "") || of.Node != test.node || of.Camera != test.camera || prefix != test.prefix {
			t.Errorf("%q: %+v %q %v", test.topic, of, prefix, ok)
		}
	}
}

func TestQueueIsBounded(t *testing.T) {
	l := &link{messages: make(chan message, queueMessages)}
	large := fakeMessage{topic: "t", payload: make([]byte, 1<<20)}
	for range 100 {
		l.receive(nil, large)
	}
	if n := len(l.messages); n > queueBytes>>20 || n < queueBytes>>20-1 || l.dropped.Load() != uint64(100-n) {
		t.Errorf("%d of 100 messages of 1 MiB are queued, %d dropped", n, l.dropped.Load())
	}
	for len(l.messages) > 0 {
		l.taken(<-l.messages)
	}
	if l.queued.Load() != 0 {
		t.Errorf("an empty queue holds %d bytes", l.queued.Load())
	}
	for range queueMessages + 10 {
		l.receive(nil, fakeMessage{topic: "t"})
	}
	if len(l.messages) != queueMessages {
		t.Errorf("%d messages queued", len(l.messages))
	}
}

type fakeMessage struct {
	mqtt.Message
	topic   string
	payload []byte
}

func (m fakeMessage) Topic() string   { return m.topic }
func (m fakeMessage) Payload() []byte { return m.payload }
func (m fakeMessage) Retained() bool  { return false }

// FuzzDecode: whatever arrives, each of the three ways to show it works, no line carries
// what a terminal would obey, and JSON lines are JSON.
func FuzzDecode(f *testing.F) {
	s := newSender(f, "n", "c", 4)
	h := s.header(3, start, start)
	nan := &toklipv1.Embedding{Header: h}
	if err := api.SetEmbedding(nan, []float32{float32(math.NaN()), 1}, toklipv1.DType_DTYPE_FP32, false); err != nil {
		f.Fatal(err)
	}
	f.Add(s.topic(api.KindTokens), s.tokens(h, s.change(1)))
	f.Add(s.topic(api.KindEmbedding), s.embedding(h, true))
	f.Add(s.topic(api.KindEmbedding), s.marshal(nan))
	f.Add(s.topic(api.KindEvent), []byte(labelEvent))
	f.Add(s.topic(api.KindRegions), s.marshal(&toklipv1.Labels{Header: h, Labels: []*toklipv1.Label{{Label: "x", Present: true, SinceNs: -1, Region: "\x1b"}}}))
	f.Add(s.topic(api.KindLabels), s.marshal(&toklipv1.Labels{Header: h, Labels: []*toklipv1.Label{{Label: "\x1b[2J", Score: float32(math.Inf(1))}}}))
	f.Add(s.topic(api.KindFeatures), s.marshal(&toklipv1.Features{Header: h}))
	f.Add(s.topic(api.KindTokensJSON), []byte(`{"header":{"schema":1},"grid":[1,1],"tokens":[3],"changed":[0]}`))
	f.Add(s.topic(api.KindStatus), []byte(`{"status":"\u001b]0;x","reason":"\u009b","counters":null}`))
	f.Add("toklip/n/info", []byte(`{"grid":[-1,99999999999],"cameras":null}`))
	f.Add("toklip/n/state", []byte(`{"progress":{"done":1e308,"left_ns":-9223372036854775808}}`))
	f.Add("toklip/n/metrics", []byte(`{"process":{"cpu":-1e300}}`))
	f.Add("toklip/n/availability", []byte("\x00"))
	f.Add("toklip/n/command/x", []byte(`{"id":"\u001b"}`))
	f.Add("a/b/c\x1b[2J\xff", []byte{0x9b})
	themes := []theme{newTheme(0), newTheme(3)} // true colour, none
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		e := decode("toklip", message{topic: topic, payload: payload, at: start})
		if e.err != nil && e.body != nil {
			t.Errorf("an error with a body: %v", e.err)
		}
		line := appendPlain(nil, e, 0)
		if i := bytes.IndexFunc(line[:len(line)-1], func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }); i >= 0 || line[len(line)-1] != '\n' {
			t.Errorf("plain line holds a control character: %q", line)
		}
		line = appendJSON(nil, e, 0)
		var out map[string]json.RawMessage
		if err := json.Unmarshal(line, &out); err != nil || out["topic"] == nil || out["message"] == nil {
			t.Errorf("%v: %q", err, line)
		}
		if i := bytes.IndexFunc(line[:len(line)-1], func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }); i >= 0 {
			t.Errorf("JSON line holds a control character: %q", line)
		}
		st := newState("toklip")
		st.feed(e)
		again := e
		again.at = start.Add(time.Second)
		st.feed(again)
		snap := st.snapshot(start.Add(2 * time.Second))
		v := viewOptions{Width: 80, Height: 24, Grid: true}
		for i := range themes {
			text := themes[i].render(&snap, v)
			checkPicture(t, text, v)
			if i == 1 && strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && r < ' ' || r >= 0x7f && r < 0xa0 }) {
				t.Errorf("the view holds a control character: %q", text)
			}
		}
	})
}
