package mqtt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/mqtt"
)

const childVariable = "TOKLIP_TEST_CHILD_BROKER"

func TestMain(m *testing.M) {
	if url := os.Getenv(childVariable); url != "" {
		child(url)
		return
	}
	goleak.VerifyTestMain(m)
}

// child is a node that another test kills.
func child(url string) {
	c, err := mqtt.New(mqtt.Options{Broker: url, Node: "victim"})
	if err == nil {
		err = c.SetState(api.State{State: api.StateReady})
	}
	if err == nil {
		err = c.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// patience is how long a test waits for what must come. Nothing is asserted about time
// below it.
const patience = 20 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// testLog writes to the test's log, unless the test has ended.
func testLog(t testing.TB) *slog.Logger {
	var over atomic.Bool
	t.Cleanup(func() { over.Store(true) })
	return slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		if !over.Load() {
			t.Logf("%s", bytes.TrimSpace(p))
		}
		return len(p), nil
	}), nil))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// anyBroker is a broker of some kind that tests can end and begin again on its port.
type anyBroker struct {
	url   string
	start func()
	stop  func() // at once, as a crash
}

// brokers are those every client has to get along with.
func brokers(t *testing.T, test func(t *testing.T, b *anyBroker)) {
	t.Run("embedded", func(t *testing.T) { test(t, embedded(t, mqtt.BrokerOptions{})) })
	t.Run("mosquitto", func(t *testing.T) { test(t, mosquitto(t, "allow_anonymous true")) })
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func embedded(t testing.TB, opt mqtt.BrokerOptions) *anyBroker {
	t.Helper()
	address := freePort(t)
	opt.Listen = []string{address}
	opt.Logger = testLog(t)
	b := &anyBroker{url: "mqtt://" + address}
	var end func()
	b.start = func() {
		var server *mqtt.Broker
		var err error
		eventually(t, "the broker's port is free", func() bool {
			server, err = mqtt.NewBroker(opt)
			return err == nil
		})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- server.Run(ctx) }()
		end = func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			end = nil
		}
	}
	b.stop = func() {
		if end != nil {
			end()
		}
	}
	b.start()
	t.Cleanup(b.stop)
	return b
}

// mosquitto starts the real thing with these lines of configuration.
func mosquitto(t testing.TB, lines ...string) *anyBroker {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto" // apt puts it where users' PATH does not lead
	}
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mosquitto is missing: %v", err)
		}
		t.Skip("mosquitto is not installed (apt-get install mosquitto)")
	}
	address := freePort(t)
	_, port, _ := net.SplitHostPort(address)
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := "listener " + port + " 127.0.0.1\npersistence false\nuser root\n" + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &anyBroker{url: "mqtt://" + address}
	var cmd *exec.Cmd
	b.start = func() {
		var out bytes.Buffer
		cmd = exec.Command(program, "-c", config)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "mosquitto listens", func() bool {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
	}
	b.stop = func() {
		if cmd != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			cmd = nil
		}
	}
	b.start()
	t.Cleanup(b.stop)
	return b
}

// observer is an independent client that remembers what it has seen.
type observer struct {
	client paho.Client
	mu     sync.Mutex
	seen   []message
}

type message struct {
	topic, payload string
	retained       bool
	qos            byte
}

func observe(t testing.TB, url string, filters ...string) *observer {
	t.Helper()
	o := &observer{}
	opts := paho.NewClientOptions().AddBroker(strings.Replace(url, "mqtt://", "tcp://", 1)).
		SetClientID(fmt.Sprintf("observer-%d", time.Now().UnixNano())).SetProtocolVersion(4).SetAutoReconnect(false)
	o.client = paho.NewClient(opts)
	eventually(t, "the observer connects", func() bool {
		token := o.client.Connect()
		return token.WaitTimeout(patience) && token.Error() == nil
	})
	t.Cleanup(o.close)
	for _, f := range filters {
		token := o.client.Subscribe(f, 1, func(_ paho.Client, m paho.Message) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.seen = append(o.seen, message{m.Topic(), string(m.Payload()), m.Retained(), m.Qos()})
		})
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("observer: subscribe to %s: %v", f, token.Error())
		}
		if granted := token.(*paho.SubscribeToken).Result()[f]; granted != 1 {
			t.Fatalf("observer: subscribe to %s: granted %#x", f, granted)
		}
	}
	return o
}

func (o *observer) close() { o.client.Disconnect(100) }

func (o *observer) send(t testing.TB, topic string, retained bool, payload string) {
	t.Helper()
	token := o.client.Publish(topic, 1, retained, payload)
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("observer: publish to %s: %v", topic, token.Error())
	}
}

func (o *observer) all() []message {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]message(nil), o.seen...)
}

// last message of a topic.
func (o *observer) last(topic string) (message, bool) {
	all := o.all()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].topic == topic {
			return all[i], true
		}
	}
	return message{}, false
}

func (o *observer) await(t testing.TB, topic string, ok func(payload string) bool) message {
	t.Helper()
	var m message
	defer func() {
		if t.Failed() {
			for _, seen := range o.all() {
				t.Logf("seen: %s %.60q", seen.topic, seen.payload)
			}
		}
	}()
	eventually(t, "a message on "+topic, func() bool {
		var found bool
		m, found = o.last(topic)
		return found && ok(m.payload)
	})
	return m
}

func any1(string) bool { return true }

func is(want string) func(string) bool { return func(p string) bool { return p == want } }

// client starts a Client that is quick to try again.
func client(t testing.TB, opt mqtt.Options) (*mqtt.Client, func()) {
	t.Helper()
	if opt.Node == "" {
		opt.Node = "robot-1"
	}
	opt.RetryMin, opt.RetryMax = 10*time.Millisecond, 50*time.Millisecond
	if opt.Logger == nil {
		opt.Logger = testLog(t)
	}
	c, err := mqtt.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return c, run(t, c)
}

func run(t testing.TB, c *mqtt.Client) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("Run: %v", err)
				}
			case <-time.After(patience):
				t.Error("Run does not end")
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func connected(t testing.TB, c *mqtt.Client) {
	t.Helper()
	eventually(t, "the client is connected", c.Connected)
}

// owner counts what is lent out.
type owner struct{ lent, back atomic.Int64 }

func (o *owner) Release() { o.back.Add(1) }

// frame makes a frame whose content follows from its sequence.
func frame(sequence uint64, o *owner) *mqtt.Frame {
	ids := make([]int32, 256)
	for i := range ids {
		ids[i] = int32((uint64(i)*7 + sequence) % 16384)
	}
	embedding := make([]float32, 1152)
	for i := range embedding {
		embedding[i] = float32(i%17)/8 - 1 + float32(sequence%4)
	}
	f := &mqtt.Frame{
		Header: &toklipv1.Header{
			Schema: 1, Node: "robot-1", Camera: "front", BootId: "boot", Sequence: sequence,
			CaptureWallNs: time.Now().UnixNano(), Clock: "generated", Width: 640, Height: 480, Resize: "squash",
			Drops: &toklipv1.Drops{Queue: 5}, Backend: "onnxruntime", Precision: "fp32",
		},
		Rows: 16, Cols: 16, Codebook: 16384, Tokens: ids, Changed: []uint64{1, 0, 0, 1 << 63}, Embedding: embedding,
	}
	if o != nil {
		o.lent.Add(1)
		f.Owner = o
	}
	return f
}

func unmarshal[T any](t testing.TB, payload string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(payload), &v); err != nil {
		t.Fatalf("%v in %s", err, payload)
	}
	return v
}
