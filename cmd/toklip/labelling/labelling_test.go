package labelling

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/cmd/toklip/texttower"
)

// While the tower embeds, and after it failed, frames flow without labels and the condition says why; it is tried again.
func TestTowerThatFailsAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, twoLabels)
		hold := make(chan struct{})
		r.texts.behave(errTower, hold)
		stop := r.run(t)
		synctest.Wait()
		if got := r.Condition(); got != "labels: the text tower is embedding 2 texts, cameras are served without the new labels meanwhile" {
			t.Errorf("while it embeds: %q", got)
		}
		if f := r.show("left", 1, "blue"); f.labels != nil {
			t.Error("labels before they were embedded")
		}
		close(hold)
		synctest.Wait()
		if got := r.Condition(); got != "labels: "+errTower.Error() {
			t.Errorf("after it failed: %q", got)
		}
		time.Sleep(shortestPause + 2*shortestPause)
		synctest.Wait()
		if calls := r.texts.made(); calls != 3 {
			t.Errorf("%d attempts, want the first, one after %v, one after %v more", calls, shortestPause, 2*shortestPause)
		}
		r.texts.behave(nil, nil)
		time.Sleep(4 * shortestPause)
		synctest.Wait()
		if got := r.Condition(); got != "" {
			t.Errorf("in the end: %q", got)
		}
		if f := r.show("left", 2, "blue"); f.labels == nil {
			t.Error("no labels in the end")
		}
		stop()
	})
}

// A model that cannot embed texts is asked once. Sets without labels are no trouble for it.
func TestModelWithoutTower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, twoLabels+"[[camera]]\nname = \"left\"\nsource = \"test://pattern\"\n[[camera]]\nname = \"right\"\nsource = \"test://pattern\"\nlabels = []\n")
		r.opt.Texts, r.opt.NoTexts = nil, errors.Join(texttower.ErrNoTower)
		r.again()
		stop := r.run(t)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := r.Condition(); got != "labels: "+texttower.ErrNoTower.Error() {
			t.Errorf("condition %q", got)
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
		stop()
	})
}

// A reload replaces what commands have set; until the new texts are embedded the old labels serve.
func TestReload(t *testing.T) {
	r := newRig(t, twoLabels)
	r.run(t)
	r.settled()
	must[SetResult](t, r.Set, `{"labels":["green"],"camera":"left"}`)
	hold := make(chan struct{})
	r.texts.behave(nil, hold)
	cfg := configuration(t, "[labels]\nset = [\"white\"]\ntemplates = [\"{}\"]\n")
	r.Reload(cfg.Labels, cfg.Cameras)
	for !strings.Contains(r.Condition(), "embedding 1 texts") {
		<-r.news
	}
	f := r.show("left", 1, "green")
	equal(t, "labels meanwhile", f.names(), []string{"green"})
	f.labels.Release()
	close(hold)
	r.settled()
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
	for text := ""; strings.Contains(text, "green") || text == ""; time.Sleep(time.Millisecond) { // written right after
		kept, err := os.ReadFile(r.opt.StateFile)
		if err != nil {
			t.Fatal(err)
		}
		text = string(kept)
	}
}

// What commands have set outlasts a restart, and needs no tower then; what the configuration says of regions holds on.
func TestRestart(t *testing.T) {
	r := newRig(t, twoLabels)
	stop := r.run(t)
	r.settled()
	set := must[SetResult](t, r.Set, `{"labels":[{"label":"door","prompts":["red door","blue door"],"threshold":0.7,"hold":"3s"},"ball"],"camera":"right","hysteresis":0.2,"templates":["a photo of a {}","{}"]}`)
	if set.Embedded != 6 || set.Labels != 2 || !set.Kept {
		t.Errorf("labels/set says %+v", set)
	}
	before := must[map[string]any](t, r.Get, `{}`)
	stop()
	r.texts.behave(errTower, nil) // if it had to run
	r.again()
	r.run(t)
	r.settled()
	if got := r.show("right", 1, "ball"); got.hash() != set.LabelSet {
		t.Errorf("hash %q after the restart, want %q", got.hash(), set.LabelSet)
	}
	after := must[map[string]any](t, r.Get, ``)
	right := after["cameras"].(map[string]CameraLabels)["right"]
	if right.Source != FromCommand || right.Labels[0].Threshold != 0.7 || right.Labels[1].Hysteresis != 0.2 || right.Labels[0].Hold != duration(3*time.Second) || right.Labels[1].Hold != 0 {
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
	for _, text := range []string{"", "{", `{"version":2,"cameras":{}}`, `{"version":1,"cameras":{"left":[{"label":""}]}}`, `{"version":1,"cameras":{"left":null},"x":1}`} {
		if err := os.WriteFile(r.opt.StateFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.again()
		if is := r.wanted["left"]; is.source != FromConfig || len(is.set.Labels) != 2 {
			t.Errorf("%s: wanted is %+v", text, is)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file in the folder's place
		t.Fatal(err)
	}
	r.again()
	r.run(t)
	r.settled()
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
