package e2e

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/cmd/toklip/e2e/e2etest"
)

// imagesDaemon is a daemon whose camera shows one photograph over and over, at a real broker.
const imagesDaemon = `
node = "@NODE@"
[log]
format = "json"
[model]
path = %q
verify = true
[engine]
threads = 1
keyframe_interval = "1s"
[mqtt]
broker = "mqtt://127.0.0.1:%s"
metrics_interval = "500ms"
[capture]
worker = %q
[[camera]]
name = "photo"
source = "images://%s?fps=10&loop=true"
publish = ["tokens", "embedding", "features"]
`

// photoFolder holds one photograph.
func photoFolder(t *testing.T) (folder, file string) {
	t.Helper()
	in, err := os.Open(reference(t, "images", "coffee.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	folder = t.TempDir()
	file = filepath.Join(folder, "coffee.png")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	return folder, file
}

// frameHeader is what the test reads of a JSON message's header.
type frameHeader struct {
	Schema        uint32  `json:"schema"`
	Node          string  `json:"node"`
	Camera        string  `json:"camera"`
	BootID        string  `json:"boot_id"`
	Sequence      uint64  `json:"sequence"`
	CaptureWallNS int64   `json:"capture_wall_ns"`
	CaptureMonoNS int64   `json:"capture_mono_ns"`
	PublishNS     int64   `json:"publish_ns"`
	Width         int     `json:"width"`
	Height        int     `json:"height"`
	Resize        string  `json:"resize"`
	Model         string  `json:"model"`
	Keyframe      bool    `json:"keyframe"`
	Reused        bool    `json:"reused"`
	Window        *window `json:"window"`
}

type window struct{ X, Y, Width, Height float64 }

// TestMessagesSayWhatEncodeComputes follows one photograph on its whole way (file, worker process, shared memory, pipeline, mosquitto,
// mosquitto_sub) and holds what arrives against `toklip encode` of the same file.
func TestMessagesSayWhatEncodeComputes(t *testing.T) {
	toklip, worker := programs(t)
	model := tinyModel(t, toklip)
	folder, file := photoFolder(t)
	port := e2etest.FreePort(t)
	e2etest.Mosquitto(t, port)
	client := subscribe(t, port, false, "toklip/"+node+"/camera/photo/tokens/json", "toklip/"+node+"/camera/photo/embedding/json")
	daemon := start(t, toklip, "run", "--config", configure(t, imagesDaemon, model, port, worker, folder))

	text, err := exec.Command(toklip, "encode", "--model", model, file).Output()
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Grid      [2]int    `json:"grid"`
		Tokens    []int32   `json:"tokens"`
		Embedding []float32 `json:"embedding"`
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}

	var keyframes, reused int
	embeddings := map[string]int{}
	for n := 0; n < 40; n++ {
		topic, payload, _ := strings.Cut(client.Line(t), " ")
		var got struct {
			Header    frameHeader `json:"header"`
			Grid      [2]int      `json:"grid"`
			Tokens    []int32     `json:"tokens"`
			Changed   []int       `json:"changed"`
			Embedding []float32   `json:"embedding"`
		}
		if err := json.Unmarshal([]byte(payload), &got); err != nil {
			t.Fatalf("%s: %v: %s", topic, err, payload)
		}
		h := got.Header
		if h.Schema != 1 || h.Node != node || h.Camera != "photo" || h.BootID == "" || h.Sequence == 0 || h.Model == "" ||
			h.Width != 600 || h.Height != 400 || h.Resize != "squash" || h.Window == nil || *h.Window != (window{0, 0, 600, 400}) {
			t.Fatalf("header is not of the photograph: %+v (window %+v)", h, h.Window)
		}
		if age := time.Duration(h.PublishNS - h.CaptureWallNS); age < 0 || age > e2etest.Patience || h.CaptureMonoNS <= 0 {
			t.Fatalf("capture %d, publish %d, monotonic %d: not the times of a frame just captured", h.CaptureWallNS, h.PublishNS, h.CaptureMonoNS)
		}
		if strings.HasSuffix(topic, "embedding/json") {
			cosine := cosine(got.Embedding, want.Embedding)
			if cosine < 0.99999 {
				t.Fatalf("embedding has cosine %.6f to that of encode", cosine)
			}
			embeddings[payload[strings.Index(payload, `"embedding"`):]]++
			continue
		}
		if got.Grid != want.Grid || !slices.Equal(got.Tokens, want.Tokens) {
			t.Fatalf("tokens %v %v, encode says %v %v", got.Grid, got.Tokens, want.Grid, want.Tokens)
		}
		switch {
		case h.Keyframe:
			keyframes++
			if len(got.Changed) != len(got.Tokens) {
				t.Errorf("keyframe has %d changed cells, want all %d", len(got.Changed), len(got.Tokens))
			}
		case len(got.Changed) != 0 || !h.Reused:
			t.Errorf("the same photograph again: %d changed cells, reused %v", len(got.Changed), h.Reused)
		default:
			reused++
		}
	}
	if keyframes < 2 || reused == 0 {
		t.Errorf("%d keyframes and %d reused frames in 2 s of a still picture, want several keyframes (1 s apart) and reuse between them", keyframes, reused)
	}
	if len(embeddings) != 1 {
		t.Errorf("a still picture gave %d different embeddings, want the very same one each time", len(embeddings))
	}
	if code, took := daemon.Stop(t); code != 0 || took > 5*time.Second {
		t.Errorf("ended with code %d after %v, want 0 within 5 s", code, took)
	}
}

// TestProtobufMessages decodes what the binary topics carry.
func TestProtobufMessages(t *testing.T) {
	toklip, worker := programs(t)
	model := tinyModel(t, toklip)
	folder, _ := photoFolder(t)
	port := e2etest.FreePort(t)
	e2etest.Mosquitto(t, port)
	client := subscribe(t, port, true, "toklip/"+node+"/camera/photo/tokens", "toklip/"+node+"/camera/photo/embedding", "toklip/"+node+"/camera/photo/features")
	start(t, toklip, "run", "--config", configure(t, imagesDaemon, model, port, worker, folder))

	sequences := map[string]uint64{}
	for len(sequences) < 3 {
		topic, payload, _ := strings.Cut(client.Line(t), " ")
		data, err := hex.DecodeString(payload)
		if err != nil {
			t.Fatal(err)
		}
		kind := topic[strings.LastIndexByte(topic, '/')+1:]
		var header *toklipv1.Header
		switch kind {
		case "tokens":
			var m toklipv1.Tokens
			mustUnmarshal(t, data, &m)
			ids, err := api.TokenIDs(nil, &m)
			if err != nil || len(ids) != 16 || m.Bits != 9 || len(m.Packed) != 18 {
				t.Fatalf("%d ids in %d bytes of %d bits each (%v), want 16 of 9 bits in 18 bytes", len(ids), len(m.Packed), m.Bits, err)
			}
			header = m.Header
		case "embedding":
			var m toklipv1.Embedding
			mustUnmarshal(t, data, &m)
			v, err := api.EmbeddingVector(nil, &m)
			if err != nil || len(v) != 96 || m.Dtype != toklipv1.DType_DTYPE_FP16 || m.Normalized {
				t.Fatalf("embedding of %d elements, %v, normalized %v (%v)", len(v), m.Dtype, m.Normalized, err)
			}
			header = m.Header
		case "features":
			var m toklipv1.Features
			mustUnmarshal(t, data, &m)
			v, err := api.FeatureVectors(nil, &m)
			if err != nil || len(v) != 16*96 {
				t.Fatalf("features of %d elements (%v), want 16 x 96", len(v), err)
			}
			header = m.Header
		}
		if header.GetStages().GetTokenizeNs() <= 0 || header.GetEmbeddingSpace() == "" || header.GetBackend() != "onnxruntime" || header.GetPrecision() != "fp32" {
			t.Fatalf("%s: header is incomplete: %v", kind, header)
		}
		sequences[kind] = header.Sequence
	}
}

func mustUnmarshal(t *testing.T, data []byte, m proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
}

// TestLifeOfANode watches the documents a node leaves at the broker: ready, broker gone and back, killed.
func TestLifeOfANode(t *testing.T) {
	toklip, worker := programs(t)
	model := tinyModel(t, toklip)
	folder, _ := photoFolder(t)
	port := e2etest.FreePort(t)
	broker := e2etest.Mosquitto(t, port)
	file := configure(t, imagesDaemon, model, port, worker, folder)
	daemon := start(t, toklip, "run", "--config", file)

	retained := func() map[string]string {
		out, _ := exec.Command("mosquitto_sub", "-p", port, "-F", "%t %p", "-W", "1", "--retained-only",
			"-t", "toklip/"+node+"/+", "-t", "toklip/"+node+"/camera/photo/status").Output()
		found := map[string]string{}
		for line := range strings.Lines(string(out)) {
			topic, payload, _ := strings.Cut(strings.TrimSpace(line), " ")
			found[strings.TrimPrefix(topic, "toklip/"+node+"/")] = payload
		}
		return found
	}
	ready := func() bool {
		r := retained()
		return r["availability"] == "online" && strings.Contains(r["state"], `"ready"`) &&
			strings.Contains(r["info"], `"embedding_space"`) && strings.Contains(r["camera/photo/status"], `"online"`)
	}
	e2etest.WaitFor(t, "the node is online and ready", ready)

	// A second daemon of the same name must not start.
	out, err := exec.Command(toklip, "run", "--config", file).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "node "+node+" runs already, as process "+strconv.Itoa(daemon.Process.Pid)) {
		t.Errorf("a second daemon of the node: %v, %s", err, out)
	}

	// The broker goes and comes back with an empty memory: everything retained is said again.
	broker.Stop(t)
	e2etest.Mosquitto(t, port)
	e2etest.WaitFor(t, "the node is online and ready after the broker's restart", ready)

	// The worker is killed: another one takes over, the status says how often.
	kill := exec.Command("pkill", "-KILL", "-P", strconv.Itoa(daemon.Process.Pid), "-f", "toklip-capture")
	if out, err := kill.CombinedOutput(); err != nil {
		t.Fatalf("kill the worker: %v %s", err, out)
	}
	e2etest.WaitFor(t, "the camera is online with one restart", func() bool {
		var status api.CameraStatus
		_ = json.Unmarshal([]byte(retained()["camera/photo/status"]), &status)
		return status.Status == api.CameraOnline && status.Counters.Restarts == 1
	})

	// The daemon is killed: the broker publishes its will, no worker stays.
	if err := daemon.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e2etest.WaitFor(t, "the will says offline", func() bool { return retained()["availability"] == "offline" })
	e2etest.WaitFor(t, "no worker is left", func() bool {
		return exec.Command("pgrep", "-f", "toklip-capture --node "+node).Run() != nil
	})

	// Started again and ended in order.
	daemon = start(t, toklip, "run", "--config", file)
	e2etest.WaitFor(t, "the node is back", ready)
	code, took := daemon.Stop(t)
	if code != 0 || took > 5*time.Second {
		t.Errorf("ended with code %d after %v, want 0 within 5 s", code, took)
	}
	if r := retained(); r["availability"] != "offline" || !strings.Contains(r["state"], `"stopping"`) {
		t.Errorf("after the end the broker says %q, %q", r["availability"], r["state"])
	}
}

// TestCommands asks a running node over MQTT.
func TestCommands(t *testing.T) {
	toklip, worker := programs(t)
	model := tinyModel(t, toklip)
	folder, _ := photoFolder(t)
	port := e2etest.FreePort(t)
	e2etest.Mosquitto(t, port)
	start(t, toklip, "run", "--config", configure(t, imagesDaemon, model, port, worker, folder))
	status := subscribe(t, port, false, "toklip/"+node+"/camera/photo/status")
	status.LineWith(t, `"online"`)

	replies := subscribe(t, port, false, "test/replies")
	status2 := subscribe(t, port, false, "toklip/"+node+"/availability")
	status2.LineWith(t, "online") // both subscriptions are in place once a later one is
	ask := func(verb, args string) string {
		t.Helper()
		message := `{"id":"` + verb + `","reply_to":"test/replies"`
		if args != "" {
			message += `,"args":` + args
		}
		if out, err := exec.Command("mosquitto_pub", "-p", port, "-q", "1", "-t", "toklip/"+node+"/command/"+verb, "-m", message+"}").CombinedOutput(); err != nil {
			t.Fatalf("publish: %v %s", err, out)
		}
		return replies.LineWith(t, `"id":"`+verb+`"`)
	}
	for _, tt := range []struct{ verb, args, want, status string }{
		{"ping", "", `"ok":true`, ""},
		{"cameras", "", `"photo":{"status":"online"`, ""},
		{"disable", `{"camera":"photo"}`, `"enabled":false`, `"disabled"`},
		{"enable", `{"camera":"photo"}`, `"enabled":true`, `"online"`},
		{"max-fps", `{"camera":"photo","max_fps":2}`, `"max_fps":2`, ""},
		{"max-fps", `{"camera":"photo","max_fps":-1}`, `"ok":false`, ""},
		{"enable", `{"camera":"porch"}`, `camera \"porch\" is not known: this node has photo`, ""},
		{"enable", `{"kamera":"photo"}`, `unknown field`, ""},
		{"dance", "", `verb \"dance\" is unknown`, ""},
	} {
		if got := ask(tt.verb, tt.args); !strings.Contains(got, tt.want) {
			t.Errorf("%s %s: got %s, want it to contain %s", tt.verb, tt.args, got, tt.want)
		}
		if tt.status != "" {
			status.LineWith(t, tt.status)
		}
	}
}

// TestDemo runs what the README shows first, and reads one message with an independent client.
func TestDemo(t *testing.T) {
	toklip, worker := programs(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if filepath.Dir(toklip) != filepath.Dir(worker) {
		t.Fatal("the demo finds its worker beside itself only")
	}
	port := e2etest.FreePort(t)
	demo := start(t, toklip, "run", "--demo", "--listen", "127.0.0.1:"+port)
	demo.LineWith(t, "was trained on such rooms")
	demo.LineWith(t, "demo/clip")
	demo.LineWith(t, "tokens")
	client := subscribe(t, port, false, "toklip/demo/camera/clip/tokens/json")
	if line := client.Line(t); !strings.Contains(line, `"grid":[8,8]`) || !strings.Contains(line, `"width":640`) {
		t.Errorf("not a message of the demo: %s", line)
	}
	if code, took := demo.Stop(t); code != 0 || took > 5*time.Second {
		t.Errorf("ended with code %d after %v, want 0 within 5 s", code, took)
	}
}

// TestFailuresAtStart are refused with a sentence and an exit code, and leave the name free.
func TestFailuresAtStart(t *testing.T) {
	toklip, worker := programs(t)
	folder, _ := photoFolder(t)
	for _, tt := range []struct {
		name, file, want string
		code             int
	}{
		{"no model", configure(t, imagesDaemon, "/nonexistent/model", e2etest.FreePort(t), worker, folder), "/nonexistent/model", 1},
		{"no worker", configure(t, imagesDaemon, tinyModel(t, toklip), e2etest.FreePort(t), "/nonexistent/worker", folder), "/nonexistent/worker", 1},
		{"bad configuration", configure(t, "node = \"A\"\n"), "toklip.toml:1: node", 3},
		{"no camera", configure(t, "node = \"a\"\n"), "no camera", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := exec.Command(toklip, "run", "--config", tt.file).CombinedOutput()
			exit, ok := err.(*exec.ExitError)
			if !ok || exit.ExitCode() != tt.code || !strings.Contains(string(out), tt.want) {
				t.Errorf("got %v, want code %d and %q in: %s", err, tt.code, tt.want, out)
			}
		})
	}
}

func cosine(a, b []float32) float64 {
	if len(a) != len(b) {
		return 0
	}
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}
