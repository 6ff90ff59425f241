package labelling

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

const twoLabels = "[labels]\nset = [\"red\", \"blue\"]\ntemplates = [\"{}\"]\nhold = \"0s\"\n"

// A frame's labels come best first, with what is present, under the hash of the set that scored it.
func TestFramesAreScored(t *testing.T) {
	r := newRig(t, twoLabels)
	before := r.show("left", 1, "blue")
	if before.labels != nil || before.hash() != "" {
		t.Errorf("before the set is in force: %v, hash %q", before.names(), before.hash())
	}
	r.run(t)
	r.settled(t)
	f := r.show("left", 2, "blue")
	equal(t, "labels", f.names(), []string{"blue", "red"})
	wanted := r.configured["left"].set.Hash()
	if f.hash() != wanted || wanted == "" {
		t.Errorf("hash %q, want %q", f.hash(), wanted)
	}
	if f.header.Stages.LabelNs <= 0 {
		t.Error("scoring took no time")
	}
	blue, red := f.label("blue"), f.label("red")
	sigmoid := func(x float64) float32 { return float32(1 / (1 + math.Exp(-x))) }
	if !near(blue.Cosine, 1) || !near(blue.Logit, 5) || !near(blue.Score, sigmoid(5)) || !blue.Present || blue.SinceNs != f.result.CaptureWall {
		t.Errorf("blue: %v", blue)
	}
	if !near(red.Cosine, 0) || !near(red.Score, sigmoid(-5)) || red.Present || red.SinceNs != 0 {
		t.Errorf("red: %v", red)
	}
	f.labels.Release()
	r.show("left", 3, "red").labels.Release()
	equal(t, "events", describeAll(r.sink.told()), []string{"blue appeared score 2", "red appeared score 3", "blue gone score 3"})
}

// Labels go when the camera does. Frames captured before that and delivered later bring nothing back.
func TestCameraThatGoes(t *testing.T) {
	r := newRig(t, twoLabels)
	r.run(t)
	r.settled(t)
	r.show("left", 1, "blue").labels.Release()
	r.Camera("left").Off(2e8)
	f := r.show("left", 2, "blue") // was under way
	if f.labels.Labels[0].Present {
		t.Error("present after the camera went")
	}
	f.labels.Release()
	equal(t, "events", describeAll(r.sink.told()), []string{"blue appeared score 1", "blue gone camera 1"})
	r.Camera("left").Off(2e8) // another reason of the same state
	r.show("left", 3, "blue").labels.Release()
	equal(t, "events", describeAll(r.sink.told()), []string{"blue appeared score 3"})
}

// A set that is set again, by a command that arrives twice or by a reload, interrupts nothing.
func TestTheSameSetAgain(t *testing.T) {
	r := newRig(t, twoLabels)
	r.run(t)
	r.settled(t)
	r.show("left", 1, "blue").labels.Release()
	r.Reload(configuration(t, twoLabels).Labels, configuration(t, twoLabels).Cameras)
	r.settled(t)
	must[SetResult](t, r.Set, `{"labels":["red","blue"],"camera":"left"}`)
	f := r.show("left", 2, "blue")
	if blue := f.label("blue"); blue.SinceNs != 1e8 {
		t.Errorf("blue: %v", blue)
	}
	f.labels.Release()
	equal(t, "events", describeAll(r.sink.told()), []string{"blue appeared score 1"})
	if got := must[map[string]any](t, r.Get, `{"camera":"left"}`)["cameras"].(map[string]CameraLabels)["left"]; got.Source != FromCommand {
		t.Errorf("labels/get says %+v", got)
	}
}

// Another set, or another region, interrupts only what it changes.
func TestWhatASetKeepsStaysPresent(t *testing.T) {
	r := newRig(t, regionsConfig)
	r.run(t)
	r.settled(t)
	r.show("left", 1, "blue red").labels.Release()
	<-r.sink.regions
	r.sink.told() // both appeared, in the frame and in the corner
	old := r.configured["left"].set.Hash()
	must[SetResult](t, r.Set, `{"camera":"left","labels":["green",{"label":"red","threshold":0.6},"blue"]}`)
	gone := r.sink.told()
	equal(t, "gone", describeAll(gone), []string{"red gone labels-changed 1", "red@corner gone labels-changed 1"})
	if gone[0].LabelSet != old {
		t.Errorf("the label that went was of set %q, event says %q", old, gone[0].LabelSet)
	}
	f := r.show("left", 2, "blue red")
	if blue := f.label("blue"); !blue.Present || blue.SinceNs != 1e8 {
		t.Errorf("blue: %v", blue)
	}
	f.labels.Release()
	for _, l := range (<-r.sink.regions).labels {
		if l.Region == "corner" && l.Label == "blue" && (!l.Present || l.SinceNs != 1e8) {
			t.Errorf("blue in the corner: %v", l)
		}
	}
	equal(t, "then", describeAll(r.sink.told()), []string{"red appeared score 2", "red@corner appeared score 2"})

	// The corner becomes another region, the top another name, and the frame's labels go on.
	cfg := configuration(t, strings.NewReplacer("[0.75, 0.5, 0.25, 0.5]", "[0.5, 0.5, 0.5, 0.5]", `"top"`, `"all"`).Replace(regionsConfig))
	r.Reload(cfg.Labels, cfg.Cameras)
	r.settled(t)
	equal(t, "after the reload", describeAll(r.sink.told()), // red has its own threshold no more
		[]string{"red gone labels-changed 2", "red@corner gone labels-changed 2", "blue@corner gone labels-changed 2"})
	f = r.show("left", 3, "blue red")
	if blue := f.label("blue"); !blue.Present || blue.SinceNs != 1e8 {
		t.Errorf("blue: %v", blue)
	}
	f.labels.Release()
}

// At the end of the node everything present goes, and frames that still come are not scored.
func TestClose(t *testing.T) {
	r := newRig(t, twoLabels)
	stop := r.run(t)
	r.settled(t)
	r.show("left", 1, "blue").labels.Release()
	stop()
	e := r.sink.told()
	equal(t, "events", describeAll(e), []string{"blue appeared score 1", "blue gone stopping 1"})
	if e[1].BootID != "boot" || e[1].LabelSet != r.configured["left"].set.Hash() || e[1].SinceNS != 1e8 || !near(e[1].Peak, e[0].Score) {
		t.Errorf("event is %+v", e[1])
	}
	if f := r.show("left", 2, "blue"); f.labels != nil {
		t.Error("scored after the end")
	}
}

// With publish = "change" labels are due when one appears or goes, when a score has moved since they were due last, with
// keyframes and with a new set.
func TestDue(t *testing.T) {
	r := newRig(t, "[labels]\npublish = \"change\"\nmin_change = 0.1\nset = [\"red\"]\ntemplates = [\"{}\"]\nhold = \"0s\"\n")
	r.run(t)
	r.settled(t)
	due := func(sequence uint64, text string) bool {
		f := r.show("left", sequence, text)
		defer f.labels.Release()
		return f.labels.Due
	}
	for i, step := range []struct {
		text string
		due  bool
	}{
		{"blue", true}, // the first
		{"blue", false},
		{"red", true}, // appears
		{"red", false},
		{"red red red blue", false},    // 0.95 of it: hardly less
		{"red blue", true},             // 0.71 of it: moved
		{"red blue", false},            //
		{"red red red red blue", true}, // 0.97: moved
		{"green", true},                // gone
		{"green", false},               //
		{"green green red", true},      // 0.45: moved, if not present
		{"green", true},                // and back
	} {
		if got := due(uint64(i+1), step.text); got != step.due {
			t.Errorf("frame %d, %q: due %v, want %v", i+1, step.text, got, step.due)
		}
	}
	must[SetResult](t, r.Set, `{"labels":["blue"],"camera":"left"}`)
	if !due(100, "green") || due(101, "green") {
		t.Error("a new set is not told, or is told twice")
	}
	r.Reload(configuration(t, "[labels]\npublish = \"every\"\nset = [\"blue\"]\ntemplates = [\"{}\"]\nhold = \"0s\"\n").Labels, nil)
	r.Reload(configuration(t, twoLabels).Labels, configuration(t, twoLabels).Cameras)
	r.settled(t)
	if !due(102, "green") || !due(103, "green") {
		t.Error("published on change only, after a reload to every")
	}
}

// Sets change while frames flow: every frame is scored, by the set that its header names, and messages on loan stay as they
// are until they are given back.
func TestSetsChangeBetweenFrames(t *testing.T) {
	r := newRig(t, twoLabels)
	r.run(t)
	r.settled(t)
	sets := map[string][]string{}
	var mu sync.Mutex
	note := func(hash string, labels []string) {
		mu.Lock()
		sets[hash] = labels
		mu.Unlock()
	}
	note(r.configured["left"].set.Hash(), []string{"blue", "red"})
	var ended atomic.Bool
	lent := make(chan frame, 3)
	var group errgroup.Group
	last, hashes := uint64(0), map[string]int{}
	group.Go(func() error { // publishing gives back late
		for f := range lent {
			time.Sleep(10 * time.Microsecond)
			mu.Lock()
			want := sets[f.hash()]
			mu.Unlock()
			if len(want) != len(f.labels.Labels) || want[0] != f.labels.Labels[0].Label {
				t.Errorf("frame %d: %v of set %q, want %v", f.header.Sequence, f.names(), f.hash(), want)
			}
			if f.header.Sequence != last+1 {
				t.Errorf("frame %d after %d", f.header.Sequence, last)
			}
			last = f.header.Sequence
			hashes[f.hash()]++
			f.labels.Release()
			f.result.Release()
		}
		return nil
	})
	group.Go(func() error { // the pipeline
		defer close(lent)
		for n := uint64(1); !ended.Load(); n++ {
			f := r.show("left", n, "blue")
			if f.labels == nil {
				return fmt.Errorf("frame %d was not scored", n)
			}
			lent <- f
		}
		return nil
	})
	group.Go(func() error { // commands
		defer ended.Store(true)
		for i := range 60 {
			labels, list := `{"labels":["blue","red"]}`, []string{"blue", "red"}
			if i%2 == 0 {
				labels, list = `{"labels":["green","blue","white"]}`, []string{"blue", "green", "white"}
			}
			a, err := parseSet([]byte(labels))
			if err != nil {
				return err
			}
			set, err := a.set(r.opt.Labels)
			if err != nil {
				return err
			}
			note(set.Hash(), list)
			if _, err := r.Set(t.Context(), []byte(labels)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(hashes) < 2 || last < 100 {
		t.Errorf("%d frames by sets %v: too few to show anything", last, hashes)
	}
}

// A frame costs no allocation, once as many messages as are lent at a time are there.
func TestNothingIsAllocatedPerFrame(t *testing.T) {
	r := newRig(t, "[labels]\ntemplates = [\"{}\"]\nset = [\"red\", \"blue\", \"green\", \"white\"]\n")
	r.run(t)
	r.settled(t)
	f := r.show("left", 1, "blue green")
	f.labels.Release()
	camera := r.Camera("left")
	if n := testing.AllocsPerRun(1000, func() {
		f.result.Sequence++
		f.result.CaptureMono += 1e8
		scored := camera.Score(f.result, f.header)
		scored.Release()
	}); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func BenchmarkScore(b *testing.B) {
	r := newRig(b, "[labels]\ntemplates = [\"{}\"]\nset = [\"red\", \"blue\", \"green\", \"white\", \"black\", \"grey\", \"pink\", \"brown\", \"cyan\", \"orange\"]\n")
	r.run(b)
	r.settled(b)
	f := r.show("left", 1, "blue green")
	f.labels.Release()
	camera := r.Camera("left")
	b.ReportAllocs()
	for b.Loop() {
		f.result.CaptureMono += 1e8
		camera.Score(f.result, f.header).Release()
	}
}
