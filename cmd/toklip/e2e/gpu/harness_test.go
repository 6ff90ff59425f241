package gpu

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/capture/capturetest"
	"github.com/toklip/toklip/cmd/toklip/e2e/e2etest"
	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/trttest"
)

// promised is how long the daemon may take to end after SIGTERM.
const promised = 5 * time.Second

// flagsVariable may hold flags of go build for the daemon, such as -race: then a race in it fails the tests.
const flagsVariable = "TOKLIP_E2E_BUILD_FLAGS"

var made struct {
	sync.Once
	dir, toklip, model, broker string
	err                        error
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(made.dir)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// programs builds toklip and a tiny model once.
func programs(t *testing.T) (toklip, model string) {
	t.Helper()
	made.Do(func() {
		made.err = func() (err error) {
			if made.dir, err = os.MkdirTemp("", "toklip-e2e-gpu-"); err != nil {
				return err
			}
			made.toklip, made.model = filepath.Join(made.dir, "toklip"), filepath.Join(made.dir, "tiny")
			if err := e2etest.Build(made.toklip, strings.Fields(os.Getenv(flagsVariable))...); err != nil {
				return err
			}
			synth := exec.Command(made.toklip, "model", "synth", "--preset", "tiny", "--no-text", "--precision", "fp32,fp16,int8", "--out", made.model)
			if out, err := synth.CombinedOutput(); err != nil {
				return fmt.Errorf("make the model: %w\n%s", err, out)
			}
			return nil
		}()
	})
	if made.err != nil {
		t.Fatal(made.err)
	}
	return made.toklip, made.model
}

// numbers tells nodes of this process apart.
var numbers atomic.Int32

// node is a daemon to be, its broker, and everything that it publishes.
type node struct {
	t            *testing.T
	name, port   string
	dir          string // for everything of this node; its cache of engines is dir/engines
	toklip       string
	env          []string
	engine, trts string // lines of the tables [engine] and [engine.tensorrt]
	source       string // of the camera
	shim         string
	seen         *recorder

	daemon *e2etest.Process
}

// newNode starts a broker and listens. The daemon comes with start.
func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, name: fmt.Sprintf("gpu-%d-%d", os.Getpid(), numbers.Add(1)), dir: t.TempDir()}
	toklip, model := programs(t)
	n.toklip = toklip
	n.env = append(os.Environ(), "TMPDIR="+n.dir, "XDG_CACHE_HOME="+n.dir, trt.AllowTestVariable+"=1", trttest.OrdersVariable+"="+filepath.Join(n.dir, "orders"))
	n.engine = fmt.Sprintf("[model]\npath = %q\n[engine]\nthreads = 1\nprecision = \"fp32\"\n", model)
	n.shim, n.source = trttest.Shim(t), "test://pattern?fps=20&width=320&height=240"
	n.trts = fmt.Sprintf("[engine.tensorrt]\nshim = %q\ncache_dir = %q\n", n.shim, filepath.Join(n.dir, "engines"))
	n.port = e2etest.FreePort(t)
	e2etest.Mosquitto(t, n.port)
	n.seen = listen(t, n.port, n.name)
	n.order()
	return n
}

// order gives orders to the implementation for tests, in place of those given before.
func (n *node) order(lines ...string) {
	n.t.Helper()
	next := filepath.Join(n.dir, "orders.next")
	if err := os.WriteFile(next, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(n.dir, "orders")); err != nil {
		n.t.Fatal(err)
	}
}

// configuration writes the node's file.
func (n *node) configuration() string {
	n.t.Helper()
	text := fmt.Sprintf("node = %q\n", n.name) + n.engine + n.trts + fmt.Sprintf(`[mqtt]
broker = "mqtt://127.0.0.1:%s"
metrics_interval = "500ms"
[capture]
worker = %q
[[camera]]
name = "bars"
source = %q
`, n.port, capturetest.Worker(n.t), n.source)
	path := filepath.Join(n.dir, "toklip.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// start starts the daemon; what was seen of an earlier one is forgotten.
func (n *node) start() {
	n.t.Helper()
	n.seen.forget()
	n.daemon = e2etest.Start(n.t, n.env, n.toklip, "run", "--config", n.configuration())
}

// stop ends the daemon, which must be in time and in order.
func (n *node) stop() {
	n.t.Helper()
	if code, took := n.daemon.Stop(n.t); code != 0 || took > promised {
		n.t.Errorf("ended with code %d after %v, want 0 within %v", code, took, promised)
	}
}

// command runs a command of toklip in the node's environment.
func (n *node) command(args ...string) (string, error) {
	cmd := exec.Command(n.toklip, args...)
	cmd.Env = n.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// state waits until the state topic says so.
func (n *node) state(what string, ok func(api.State) bool) api.State {
	n.t.Helper()
	var last api.State
	n.wait(what, func() bool {
		for _, s := range n.seen.states() {
			last = s
			if ok(s) {
				return true
			}
		}
		return false
	})
	return last
}

// comesTo waits until a state comes after now, or is the newest one.
func (n *node) comesTo(state api.NodeState, reason string) api.State {
	n.t.Helper()
	var last api.State
	n.wait(fmt.Sprintf("state %s with %q", state, reason), func() bool {
		states := n.seen.states()
		if len(states) == 0 {
			return false
		}
		last = states[len(states)-1]
		return last.State == state && strings.Contains(last.Reason, reason)
	})
	return last
}

// degraded waits for a state with that reason, which may have passed already.
func (n *node) degraded(reason string) api.State {
	n.t.Helper()
	return n.state("degraded: "+reason, func(s api.State) bool {
		return s.State == api.StateDegraded && strings.Contains(s.Reason, reason)
	})
}

// served waits for so many more frames of a backend.
func (n *node) served(backend string, count int) {
	n.t.Helper()
	before := n.seen.count(backend)
	n.wait(fmt.Sprintf("%d frames of %s", count, backend), func() bool { return n.seen.count(backend) >= before+count })
}

// logged waits for text in the daemon's log.
func (n *node) logged(text string) {
	n.t.Helper()
	n.wait("the log says "+text, func() bool { return strings.Contains(n.daemon.Out.String(), text) })
}

// info is the newest birth document.
func (n *node) info() api.Info {
	n.t.Helper()
	var info api.Info
	if err := json.Unmarshal(n.seen.last("info"), &info); err != nil {
		n.t.Fatalf("info: %v", err)
	}
	return info
}

// wait polls until a condition holds, and gives up early when the daemon ended.
func (n *node) wait(what string, ok func() bool) {
	n.t.Helper()
	for end := time.Now().Add(e2etest.Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
		select {
		case <-n.daemon.Ended:
			n.t.Fatalf("the daemon ended (%v) before: %s", n.daemon.Err, what)
		default:
		}
	}
	_ = n.daemon.Process.Signal(syscall.SIGQUIT) // where is it?
	<-n.daemon.Ended
	n.t.Fatalf("waited %v in vain: %s; states: %+v", e2etest.Patience, what, n.seen.states())
}

// builder is the building process's id, 0 if there is none.
func (n *node) builder() int {
	out, _ := exec.Command("pgrep", "-P", fmt.Sprint(n.daemon.Process.Pid), "-f", "engine build").Output() // fails if there is none
	pid := 0
	_, _ = fmt.Sscan(string(out), &pid)
	return pid
}

// frame is what is kept of a token message.
type frame struct {
	Header struct {
		Sequence uint64            `json:"sequence"`
		Backend  string            `json:"backend"`
		Keyframe bool              `json:"keyframe"`
		Reused   bool              `json:"reused"`
		BootID   string            `json:"boot_id"`
		Drops    map[string]uint64 `json:"drops"`
	} `json:"header"`
	Tokens []int32 `json:"tokens"`
}

// recorder keeps what a node publishes.
type recorder struct {
	mu     sync.Mutex
	all    []api.State
	newest map[string][]byte
	frames []frame
	bad    error
}

// listen subscribes to everything of a node, with a client that shares no code with it.
func listen(t *testing.T, port, name string) *recorder {
	t.Helper()
	r := &recorder{newest: map[string][]byte{}}
	prefix := "toklip/" + name + "/"
	client := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://127.0.0.1:" + port).SetClientID("test-" + name).SetProtocolVersion(4).SetAutoReconnect(false))
	for _, wait := range []func() paho.Token{
		client.Connect,
		func() paho.Token {
			return client.Subscribe(prefix+"#", 1, func(_ paho.Client, m paho.Message) { r.take(strings.TrimPrefix(m.Topic(), prefix), m.Payload()) })
		},
	} {
		if token := wait(); !token.WaitTimeout(e2etest.Patience) || token.Error() != nil {
			t.Fatalf("mosquitto: %v", token.Error())
		}
	}
	t.Cleanup(func() { client.Disconnect(100) })
	return r
}

func (r *recorder) take(topic string, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.newest[topic] = bytes.Clone(payload)
	var err error
	switch topic {
	case "state":
		var s api.State
		err = json.Unmarshal(payload, &s)
		r.all = append(r.all, s)
	case "camera/bars/tokens/json":
		var f frame
		err = json.Unmarshal(payload, &f)
		r.frames = append(r.frames, f)
	}
	if err != nil && r.bad == nil {
		r.bad = fmt.Errorf("%s: %w: %s", topic, err, payload)
	}
}

func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all, r.frames = nil, nil
	clear(r.newest)
}

func (r *recorder) states() []api.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func (r *recorder) last(topic string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newest[topic]
}

// count is the number of frames of a backend.
func (r *recorder) count(backend string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, f := range r.frames {
		if f.Header.Backend == backend {
			n++
		}
	}
	return n
}

// accounted checks that every frame is there or counted as dropped: gaps in the sequence are the growth of drops. It returns
// the frames, and what was dropped between the first and the last of them, by cause.
func (r *recorder) accounted(t *testing.T) (frames []frame, drops map[string]uint64) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bad != nil {
		t.Error(r.bad)
	}
	sum := func(f frame) (n uint64) {
		for _, count := range f.Header.Drops {
			n += count
		}
		return n
	}
	for i := 1; i < len(r.frames); i++ {
		before, f := r.frames[i-1], r.frames[i]
		if gap, grown := f.Header.Sequence-before.Header.Sequence-1, sum(f)-sum(before); gap != grown {
			t.Errorf("frame %d (%s) after %d (%s): %d are missing, drops grew by %d: %v after %v", f.Header.Sequence, f.Header.Backend,
				before.Header.Sequence, before.Header.Backend, gap, grown, f.Header.Drops, before.Header.Drops)
		}
		if f.Header.Backend != before.Header.Backend && (!f.Header.Keyframe || f.Header.Reused) {
			t.Errorf("frame %d, the first of %s: keyframe %v, reused %v", f.Header.Sequence, f.Header.Backend, f.Header.Keyframe, f.Header.Reused)
		}
	}
	if len(r.frames) == 0 {
		t.Fatal("no frames came")
	}
	drops = map[string]uint64{}
	for cause, n := range r.frames[len(r.frames)-1].Header.Drops {
		if grown := n - r.frames[0].Header.Drops[cause]; grown > 0 {
			drops[cause] = grown
		}
	}
	return slices.Clone(r.frames), drops
}
