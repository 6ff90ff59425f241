package labelling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/mqtt"
)

// dim is the length of embeddings in these tests.
const dim = 16

// axes are words, each of a direction of its own. Words that are not there share the last one.
var axes = strings.Fields("red blue green white black a photo of box ball cone person door robot")

// direction is the embedding of a text.
func direction(text string) []float32 {
	v := make([]float32, dim)
	for word := range strings.FieldsSeq(text) {
		if i := slices.Index(axes, word); i >= 0 {
			v[i]++
		} else {
			v[dim-1]++
		}
	}
	return v
}

// texts is an embedder that knows every text.
type texts struct {
	mu        sync.Mutex
	known     map[string]bool
	computing func(int)
	fail      error
	hold      chan struct{} // if not nil, a call that has something to compute waits for it
	calls     int
}

func (e *texts) Embed(ctx context.Context, list []string) ([][]float32, error) {
	e.mu.Lock()
	e.calls++
	missing := 0
	for _, text := range list {
		if !e.known[text] {
			missing++
		}
	}
	fail, hold := e.fail, e.hold
	e.mu.Unlock()
	if missing > 0 {
		e.computing(missing)
		if hold != nil {
			select {
			case <-hold:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if fail != nil {
			return nil, fail
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	vectors := make([][]float32, len(list))
	for i, text := range list {
		e.known[text] = true
		vectors[i] = direction(text)
	}
	return vectors, nil
}

// behave says how calls end from now on that have something to compute.
func (e *texts) behave(fail error, hold chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fail, e.hold = fail, hold
}

// made is the number of calls so far.
func (e *texts) made() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls
}

// pool gives a region the sum of the features that it sees.
type pool struct {
	cells int
	err   error
}

func (p *pool) Pool(features, masks []float32, regions int) ([]float32, error) {
	if p.err != nil {
		return nil, p.err
	}
	out := make([]float32, regions*dim)
	for r := range regions {
		for i, m := range masks[r*p.cells : (r+1)*p.cells] {
			if m == 1 {
				for d := range dim {
					out[r*dim+d] += features[i*dim+d]
				}
			}
		}
	}
	return out, nil
}

func (p *pool) Close() error { return nil }

// sink keeps what is published.
type sink struct {
	mu      sync.Mutex
	events  []api.LabelEvent
	regions chan published
}

type published struct {
	header *toklipv1.Header
	labels []*toklipv1.Label
}

func (s *sink) PublishEvent(e api.LabelEvent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	return e.Check()
}

func (s *sink) PublishRegions(h *toklipv1.Header, labels []*toklipv1.Label, owner mqtt.Releaser) error {
	header := new(toklipv1.Header)
	api.CopyHeader(header, h)
	p := published{header: header}
	for _, l := range labels {
		p.labels = append(p.labels, &toklipv1.Label{Label: l.Label, Region: l.Region, Score: l.Score, Present: l.Present, SinceNs: l.SinceNs, Cosine: l.Cosine})
	}
	owner.Release()
	s.regions <- p
	return nil
}

// told are the events so far, and forgets them.
func (s *sink) told() []api.LabelEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := s.events
	s.events = nil
	return events
}

// rig is a Labelling with everything around it.
type rig struct {
	*Labelling
	texts *texts
	pool  *pool
	sink  *sink
	opt   Options

	model engine.Model
}

const (
	gridRows = 2
	gridCols = 4
)

// configuration is read from TOML; it gets cameras "left" and "right" unless it has its own.
func configuration(t testing.TB, text string) config.Config {
	t.Helper()
	if !strings.Contains(text, "[[camera]]") {
		text += "\n[[camera]]\nname = \"left\"\nsource = \"test://pattern\"\n[[camera]]\nname = \"right\"\nsource = \"test://pattern\"\n"
	}
	cfg, err := config.Parse("test.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// newRig prepares without running.
func newRig(t testing.TB, text string) *rig {
	t.Helper()
	r := &rig{
		texts: &texts{known: map[string]bool{}},
		pool:  &pool{cells: gridRows * gridCols},
		sink:  &sink{regions: make(chan published, 100)},
		model: engine.Model{Rows: gridRows, Cols: gridCols, Codebook: 16, ImageSize: 32, FeatureDim: dim, EmbeddingDim: dim, Encoder: "encoder.onnx"},
	}
	cfg := configuration(t, text)
	r.opt = Options{
		BootID: "boot", Labels: cfg.Labels, Cameras: cfg.Cameras, Scale: 10, Bias: -5,
		Texts: r.texts, OpenPool: func() (Pool, error) { return r.pool, nil },
		StateFile: filepath.Join(t.TempDir(), "state", "labels.json"), Publish: r.sink,
	}
	r.again()
	return r
}

// again makes a new Labelling of the same options, as a restart does.
func (r *rig) again() {
	r.Labelling = New(r.opt)
	r.texts.computing = r.Computing
}

// run runs it until the test ends or stop is called.
func (r *rig) run(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// settled waits until everything wanted is in force.
func (r *rig) settled(t testing.TB) {
	t.Helper()
	eventually(t, "what is wanted is in force", func() bool { return len(r.pending()) == 0 })
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// until waits until the condition is the one wanted.
func (r *rig) until(t *testing.T, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("condition %q", want), func() bool { return r.Condition() == want })
}

// frame is one frame as the pipeline delivers it.
type frame struct {
	result *engine.Result
	header *toklipv1.Header
	labels *Frame
}

// hash is what the header says of the set.
func (f frame) hash() string { return f.header.LabelSet }

// names of the labels, best first.
func (f frame) names() []string {
	var all []string
	if f.labels != nil {
		for _, l := range f.labels.Labels {
			all = append(all, l.Label)
		}
	}
	return all
}

func (f frame) label(name string) *toklipv1.Label {
	for _, l := range f.labels.Labels {
		if l.Label == name {
			return l
		}
	}
	return nil
}

// show has a camera score a frame that is as like the text as its length says. Its cells see nothing, but the last, which sees
// the text.
func (r *rig) show(camera string, sequence uint64, text string) frame {
	batch := engine.NewBatch(&r.model)
	result := batch.Add(0, &engine.Frame{
		Camera: camera, Sequence: sequence, Width: 80, Height: 40, Format: preprocess.Gray8,
		CaptureWall: int64(sequence) * 1e8, CaptureMono: int64(sequence) * 1e8,
	}, preprocess.Squash).Result
	result.BeginEncoding()
	copy(result.Embedding, direction(text))
	clear(result.Features)
	copy(result.Features[(gridRows*gridCols-1)*dim:], direction(text))
	f := frame{result: result, header: &toklipv1.Header{
		Camera: camera, Sequence: sequence, Width: 80, Height: 40, CaptureWallNs: result.CaptureWall,
		Stages: new(toklipv1.Stages), Drops: new(toklipv1.Drops), Window: &toklipv1.Window{Width: 80, Height: 40},
	}}
	f.labels = r.Camera(camera).Score(result, f.header)
	return f
}

// must carries out a command.
func must[T any](t *testing.T, command func(context.Context, json.RawMessage) (any, error), args string) T {
	t.Helper()
	got, err := command(t.Context(), json.RawMessage(args))
	if err != nil {
		t.Fatalf("%s: %v", args, err)
	}
	typed, ok := got.(T)
	if !ok {
		t.Fatalf("%s: got %T", args, got)
	}
	return typed
}

func describe(e api.LabelEvent) string {
	name := e.Label
	if e.Region != "" {
		name += "@" + e.Region
	}
	return fmt.Sprintf("%s %s %s %d", name, e.Event, e.Reason, e.Sequence)
}

func describeAll(events []api.LabelEvent) []string {
	var all []string
	for _, e := range events {
		all = append(all, describe(e))
	}
	return all
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func near(a, b float32) bool { return math.Abs(float64(a)-float64(b)) < 1e-5 }

var errTower = errors.New("the text tower was killed")
