package labelling

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/capture/capturetest"
	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/texttower"
)

// While the tower embeds, and after it failed, frames flow without labels and the condition says why; it is tried again.
func TestTowerThatFailsAtFirst(t *testing.T) {
	r := newRig(t, twoLabels)
	hold := make(chan struct{})
	r.texts.behave(errTower, hold)
	r.shortestPause = time.Millisecond
	r.run(t)
	r.until(t, "labels: the text tower is embedding 2 texts, cameras are served without the new labels meanwhile")
	if f := r.show("left", 1, "blue"); f.labels != nil {
		t.Error("labels before they were embedded")
	}
	close(hold)
	r.until(t, "labels: "+errTower.Error())
	eventually(t, "it is tried again", func() bool { return r.texts.made() >= 4 })
	r.texts.behave(nil, nil)
	r.until(t, "")
	if f := r.show("left", 2, "blue"); f.labels == nil {
		t.Error("no labels in the end")
	}
}

// A model that cannot embed texts is not asked again. Sets without labels are no trouble for it.
func TestModelWithoutTower(t *testing.T) {
	r := newRig(t, twoLabels+"[[camera]]\nname = \"left\"\nsource = \"test://pattern\"\n[[camera]]\nname = \"right\"\nsource = \"test://pattern\"\nlabels = []\n")
	log := new(capturetest.Output)
	r.opt.Texts, r.opt.NoTexts, r.opt.Logger = nil, texttower.ErrNoTower, slog.New(slog.NewTextHandler(log, nil))
	r.again()
	r.shortestPause = time.Millisecond
	r.run(t)
	r.until(t, "labels: "+texttower.ErrNoTower.Error())
	time.Sleep(20 * time.Millisecond)
	if n := strings.Count(log.String(), "labels are not in use"); n != 1 {
		t.Errorf("tried %d times, once is enough:\n%s", n, log)
	}
	if _, err := r.Set(t.Context(), []byte(`{"labels":["red"]}`)); !errors.Is(err, texttower.ErrNoTower) {
		t.Errorf("labels/set: %v", err)
	}
	if _, err := r.Score(t.Context(), []byte(`{"text":"red"}`)); !errors.Is(err, texttower.ErrNoTower) {
		t.Errorf("score: %v", err)
	}
	got := must[SetResult](t, r.Set, `{"labels":[]}`)
	if got.LabelSet != "" || got.Labels != 0 || r.Condition() != "" {
		t.Errorf("no labels: %+v, condition %q", got, r.Condition())
	}
}

// A camera whose texts are known does not go without labels because another's cannot be embedded.
func TestOneCameraCannot(t *testing.T) {
	r := newRig(t, twoLabels+"[[camera]]\nname = \"left\"\nsource = \"test://pattern\"\n[[camera]]\nname = \"right\"\nsource = \"test://pattern\"\nlabels = [\"robot\"]\n")
	r.texts.known["red"], r.texts.known["blue"] = true, true
	r.texts.behave(errTower, nil)
	r.shortestPause = time.Millisecond
	r.run(t)
	r.until(t, "labels: "+errTower.Error())
	equal(t, "left has", r.show("left", 1, "blue").names(), []string{"blue", "red"})
	right := must[map[string]any](t, r.Get, `{"camera":"right"}`)["cameras"].(map[string]CameraLabels)["right"]
	if right.LabelSet != "" || right.Pending == nil || *right.Pending != r.configured["right"].set.Hash() {
		t.Errorf("right has %+v", right)
	}
	r.texts.behave(nil, nil)
	r.until(t, "")
	equal(t, "right has", r.show("right", 1, "robot").names(), []string{"robot"})
}

// A reload replaces what commands have set; until the new texts are embedded the old labels serve.
func TestReload(t *testing.T) {
	r := newRig(t, twoLabels)
	r.run(t)
	r.settled(t)
	must[SetResult](t, r.Set, `{"labels":["green"],"camera":"left"}`)
	hold := make(chan struct{})
	r.texts.behave(nil, hold)
	cfg := configuration(t, "[labels]\nset = [\"white\"]\ntemplates = [\"{}\"]\n")
	r.Reload(cfg.Labels, cfg.Cameras)
	eventually(t, "the new text is being embedded", func() bool { return strings.Contains(r.Condition(), "embedding 1 texts") })
	f := r.show("left", 1, "green")
	equal(t, "labels meanwhile", f.names(), []string{"green"})
	f.labels.Release()
	close(hold)
	r.settled(t)
	f = r.show("left", 2, "white")
	equal(t, "labels afterwards", f.names(), []string{"white"})
	f.labels.Release()
	equal(t, "events", describeAll(r.sink.told()), []string{"green appeared score 1", "green gone labels-changed 1", "white appeared score 2"})
	var info api.Info
	info.Cameras = []api.CameraInfo{{Name: "left"}, {Name: "right"}}
	r.Describe(&info)
	if info.LabelSet == "" || info.LabelSet != f.hash() || info.Cameras[1].LabelSet != f.hash() {
		t.Errorf("info: %+v", info)
	}
	equal(t, "names in info", info.Cameras[0].LabelNames, []string{"white"})
	eventually(t, "what the command set is forgotten", func() bool {
		kept, err := os.ReadFile(r.opt.StateFile)
		return err == nil && !strings.Contains(string(kept), "green")
	})
}

// What commands have set outlasts a restart, and needs no tower then; what the configuration says of regions holds on.
func TestRestart(t *testing.T) {
	r := newRig(t, twoLabels)
	stop := r.run(t)
	r.settled(t)
	set := must[SetResult](t, r.Set, `{"labels":[{"label":"door","prompts":["red door","blue door"],"threshold":0.7,"hold":"3s"},"ball"],"camera":"right","hysteresis":0.2,"templates":["a photo of a {}","{}"]}`)
	if set.Embedded != 6 || set.Labels != 2 || !set.Kept {
		t.Errorf("labels/set says %+v", set)
	}
	before := must[map[string]any](t, r.Get, `{}`)
	stop()
	r.texts.behave(errTower, nil) // if it had to run
	r.again()
	r.run(t)
	r.settled(t)
	if got := r.show("right", 1, "ball"); got.hash() != set.LabelSet {
		t.Errorf("hash %q after the restart, want %q", got.hash(), set.LabelSet)
	}
	after := must[map[string]any](t, r.Get, ``)
	right := after["cameras"].(map[string]CameraLabels)["right"]
	if right.Source != FromCommand || right.Labels[0].Threshold != 0.7 || right.Labels[1].Hysteresis != 0.2 || right.Labels[0].Hold != config.Duration(3*time.Second) || right.Labels[1].Hold != 0 {
		t.Errorf("right has %+v", right)
	}
	if b := before["cameras"].(map[string]CameraLabels); b["left"].Source != FromConfig || b["left"].LabelSet != after["cameras"].(map[string]CameraLabels)["left"].LabelSet {
		t.Errorf("left had %+v", b["left"])
	}
	got := must[SetResult](t, r.Set, `{"reset":true}`)
	if got.LabelSet != r.configured["right"].set.Hash() || got.Labels != 2 {
		t.Errorf("reset says %+v", got)
	}
	text, err := os.ReadFile(r.opt.StateFile)
	if err != nil || strings.Contains(string(text), "door") {
		t.Errorf("state after a reset: %s %v", text, err)
	}
}

// A state file that cannot be used is none; one that cannot be written is told until it can.
func TestStateFileFaults(t *testing.T) {
	r := newRig(t, twoLabels)
	dir := filepath.Dir(r.opt.StateFile)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", `{"version":2,"cameras":{}}`, `{"version":1,"cameras":{"left":[{"label":""}]}}`, `{"version":1,"cameras":{"left":null},"x":1}`, `{"version":1,"cameras":{}} {}`, `{"version":1,"cameras":{}}]`} {
		if err := os.WriteFile(r.opt.StateFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.again()
		if is := r.wanted["left"]; is.source != FromConfig || len(is.set.Labels) != 2 {
			t.Errorf("%s: wanted is %+v", text, is)
		}
	}
	leftover := filepath.Join(dir, ".labels.json-123")
	if err := os.WriteFile(leftover, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.again()
	if _, err := os.Stat(leftover); err == nil {
		t.Error("what a crash left is there still")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file in the folder's place
		t.Fatal(err)
	}
	r.again()
	r.run(t)
	r.settled(t)
	if got := must[SetResult](t, r.Set, `{"labels":["green"]}`); got.Kept {
		t.Error("kept in a file that cannot be")
	}
	if got := r.Condition(); !strings.HasPrefix(got, "labels will not outlast a restart: keep labels: ") || !strings.Contains(got, "labels.state_file") {
		t.Errorf("condition %q", got)
	}
	equal(t, "labels", r.show("left", 1, "green").names(), []string{"green"})
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if got := must[SetResult](t, r.Set, `{"labels":["green"]}`); !got.Kept || r.Condition() != "" {
		t.Errorf("not kept: %+v, condition %q", got, r.Condition())
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"cameras":{"left":[{"label":"door","prompts":["an open door"],"templates":["{}"],"threshold":0.5,"hysteresis":0.1,"hold":"1s"}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		sets, err := parseState(text)
		if err != nil {
			if sets != nil {
				t.Error("sets came with the error")
			}
			return
		}
		for camera, set := range sets {
			if err := set.Validate(); err != nil {
				t.Errorf("camera %q: %v", camera, err)
			}
			again := setOf(valuesOf(&set))
			if again.Hash() != set.Hash() {
				t.Errorf("camera %q: another set when written and read", camera)
			}
		}
	})
}
