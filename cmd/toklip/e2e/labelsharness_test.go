package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/cmd/toklip/e2e/e2etest"
)

// labelsDaemon is a daemon whose camera shows the photographs of a folder, over and over, with labels.
const labelsDaemon = `
node = "@NODE@"
[log]
format = "json"
[model]
path = %q
[engine]
threads = 1
keyframe_interval = "1s"
[mqtt]
broker = %q
listen = "127.0.0.1:%s"
metrics_interval = "500ms"
[capture]
worker = %q
[labels]
state_file = %q
cache_dir = %q
templates = ["{}"]
hold = "0s"
%s
[[camera]]
name = "photo"
source = "images://%s?fps=%d&loop=true"
%s
`

// labelled is a running daemon with labels, at mosquitto, and how to talk to it.
type labelled struct {
	toklip, worker, model, port string
	broker                      string // as configured
	folder                      string // of the camera's photographs
	state, cache                string
	fps                         int

	config  string // file
	daemon  *e2etest.Process
	replies *e2etest.Process
	asked   int
}

// newLabelled prepares one for the tiny model with its text tower, at mosquitto, which runs.
func newLabelled(t *testing.T, photos ...string) *labelled {
	t.Helper()
	l := prepareLabelled(t, photos...)
	l.broker = "mqtt://127.0.0.1:" + l.port
	e2etest.Mosquitto(t, l.port)
	l.prepareBroker(t)
	return l
}

// newEmbedded prepares one with the broker inside.
func newEmbedded(t *testing.T, photos ...string) *labelled {
	t.Helper()
	l := prepareLabelled(t, photos...)
	l.broker = "embedded"
	return l
}

func prepareLabelled(t *testing.T, photos ...string) *labelled {
	t.Helper()
	l := &labelled{port: e2etest.FreePort(t), folder: t.TempDir(), state: filepath.Join(t.TempDir(), "labels.json"), cache: t.TempDir(), fps: 10}
	l.toklip, l.worker = programs(t)
	l.model = filepath.Join(t.TempDir(), "tiny")
	out, err := exec.Command(l.toklip, "model", "synth", "--preset", "tiny", "--tokenizer", reference(t, "golden", "tiny_tokenizer.model"), "--out", l.model).CombinedOutput()
	if err != nil {
		t.Fatalf("make the model: %v\n%s", err, out)
	}
	for _, photo := range photos {
		content, err := os.ReadFile(reference(t, "images", photo))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(l.folder, photo), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// configure writes the configuration: labels is what stands in [labels] and after it, camera what stands in the camera's table
// and after it.
func (l *labelled) configure(t *testing.T, labels, camera string) {
	t.Helper()
	file := configure(t, labelsDaemon, l.model, l.broker, l.port, l.worker, l.state, l.cache, labels, l.folder, l.fps, camera)
	if l.config == "" {
		l.config = file
		return
	}
	if err := os.Rename(file, l.config); err != nil {
		t.Fatal(err)
	}
}

// start starts the daemon and waits until its camera is online.
func (l *labelled) start(t *testing.T) {
	t.Helper()
	l.daemon = start(t, l.toklip, "run", "--config", l.config)
	if l.broker == "embedded" {
		e2etest.WaitFor(t, "the broker inside listens", func() bool {
			return exec.Command("mosquitto_pub", "-p", l.port, "-t", "test/there", "-m", "x").Run() == nil
		})
		l.prepareBroker(t)
	}
	if l.replies == nil {
		l.replies = l.subscribe(t, "test/replies")
	}
	status := l.subscribe(t, l.photo(api.KindStatus))
	for line := ""; !strings.Contains(line, `"online"`); {
		select {
		case line = <-status.Lines():
		case <-l.daemon.Ended:
			t.Fatalf("the daemon has ended:\n%s", l.daemon.Out)
		case <-time.After(e2etest.Patience):
			t.Fatalf("the camera does not come online:\n%s", l.daemon.Out)
		}
	}
}

// first is a topic with a retained message, which comes as soon as a subscription is there.
const first = "test/first"

func (l *labelled) prepareBroker(t *testing.T) {
	t.Helper()
	l.publish(t, first, "-r", "-m", "here")
}

// subscribe subscribes to topics and waits until that is in force.
func (l *labelled) subscribe(t *testing.T, topics ...string) *e2etest.Process {
	t.Helper()
	s := subscribe(t, l.port, false, append([]string{first}, topics...)...)
	if line := s.Line(t); line != first+" here" {
		t.Fatalf("the first line is %s", line)
	}
	return s
}

// photo is a topic of the camera.
func (l *labelled) photo(kind api.Kind) string {
	return "toklip/" + node + "/camera/photo/" + string(kind)
}

func (l *labelled) publish(t *testing.T, topic string, how ...string) {
	t.Helper()
	if out, err := exec.Command("mosquitto_pub", append([]string{"-p", l.port, "-q", "1", "-t", topic}, how...)...).CombinedOutput(); err != nil {
		t.Fatalf("publish on %s: %v %s", topic, err, out)
	}
}

// reply is what the node says to a command.
type reply struct {
	ID     string          `json:"id"`
	OK     bool            `json:"ok"`
	Error  string          `json:"error"`
	Result json.RawMessage `json:"result"`
}

// ask sends a command with its arguments and waits for the reply.
func (l *labelled) ask(t *testing.T, verb, args string) reply {
	t.Helper()
	l.send(t, verb, args)
	return l.answer(t)
}

// send sends a command; answer waits for its reply.
func (l *labelled) send(t *testing.T, verb, args string) {
	t.Helper()
	l.asked++
	message := fmt.Sprintf(`{"id":"%d","reply_to":"test/replies"`, l.asked)
	if args != "" {
		message += `,"args":` + args
	}
	file := filepath.Join(t.TempDir(), "command.json")
	if err := os.WriteFile(file, []byte(message+"}"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.publish(t, "toklip/"+node+"/command/"+verb, "-f", file)
}

func (l *labelled) answer(t *testing.T) reply {
	t.Helper()
	_, payload, _ := strings.Cut(l.replies.LineWith(t, fmt.Sprintf(`"id":"%d"`, l.asked)), " ")
	var r reply
	if err := json.Unmarshal([]byte(payload), &r); err != nil {
		t.Fatalf("%v: %s", err, payload)
	}
	return r
}

// await asks until the answer holds a text.
func (l *labelled) await(t *testing.T, verb, args, want string) {
	t.Helper()
	e2etest.WaitFor(t, verb+" says "+want, func() bool { return strings.Contains(string(l.ask(t, verb, args).Result), want) })
}

// must asks and reads the result of a command that has to succeed.
func (l *labelled) must(t *testing.T, verb, args string, into any) {
	t.Helper()
	r := l.ask(t, verb, args)
	if !r.OK {
		t.Fatalf("%s %.200s: %s", verb, args, r.Error)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(r.Result, into); err != nil {
		t.Fatalf("%s: %v: %s", verb, err, r.Result)
	}
}

// set sets labels and gives the hash of the set.
func (l *labelled) set(t *testing.T, args string) string {
	t.Helper()
	var result struct {
		LabelSet string `json:"label_set"`
	}
	l.must(t, "labels/set", args, &result)
	return result.LabelSet
}

// serving is the hash of the set that scores frames, and how many labels a message of it has.
func (l *labelled) serving(t *testing.T) (hash string, names []string) {
	t.Helper()
	m := nextLabels(t, l.subscribe(t, l.photo(api.KindLabelsJSON)))
	for _, label := range m.Labels {
		names = append(names, label.Label)
	}
	return m.Header.LabelSet, names
}

// labelsMessage is what the tests read of a message with labels.
type labelsMessage struct {
	Header struct {
		Sequence      uint64 `json:"sequence"`
		LabelSet      string `json:"label_set"`
		CaptureWallNS int64  `json:"capture_wall_ns"`
		Keyframe      bool   `json:"keyframe"`
		Stages        struct {
			LabelNS int64 `json:"label_ns"`
		} `json:"stages"`
		Drops map[string]uint64 `json:"drops"`
	} `json:"header"`
	Labels []struct {
		Label   string  `json:"label"`
		Cosine  float64 `json:"cosine"`
		Logit   float64 `json:"logit"`
		Score   float64 `json:"score"`
		Present bool    `json:"present"`
		SinceNS int64   `json:"since_ns"`
		Region  string  `json:"region"`
	} `json:"labels"`
}

// dropped is the number of all frames that were lost before this one.
func (m *labelsMessage) dropped() (n uint64) {
	for _, count := range m.Header.Drops {
		n += count
	}
	return n
}

func nextLabels(t *testing.T, s *e2etest.Process) labelsMessage {
	t.Helper()
	_, payload, _ := strings.Cut(s.Line(t), " ")
	var m labelsMessage
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		t.Fatalf("%v: %s", err, payload)
	}
	return m
}

// golden are texts with the embeddings that PyTorch computed of them.
type golden struct {
	Texts     []string    `json:"texts"`
	Embedding [][]float32 `json:"text_embedding"`
}

func goldenTexts(t *testing.T) golden {
	t.Helper()
	text, err := os.ReadFile(reference(t, "golden", "tiny_labels.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// embedding is what encode says of a file.
func (l *labelled) embedding(t *testing.T, photo string) []float32 {
	t.Helper()
	out, err := exec.Command(l.toklip, "encode", "--model", l.model, filepath.Join(l.folder, photo)).Output()
	if err != nil {
		t.Fatal(err)
	}
	var line struct {
		Embedding []float32 `json:"embedding"`
	}
	if err := json.Unmarshal(out, &line); err != nil {
		t.Fatal(err)
	}
	return line.Embedding
}

// scoring is how the model makes a score of a cosine.
func (l *labelled) scoring(t *testing.T) (scale, bias float64) {
	t.Helper()
	out, err := exec.Command(l.toklip, "model", "info", "--json", l.model).Output()
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Text struct {
			Scale *float64 `json:"logit_scale"`
			Bias  *float64 `json:"logit_bias"`
		} `json:"text"`
	}
	if err := json.Unmarshal(out, &info); err != nil || info.Text.Scale == nil || info.Text.Bias == nil {
		t.Fatalf("%v: %s", err, out)
	}
	return math.Exp(*info.Text.Scale), *info.Text.Bias
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
