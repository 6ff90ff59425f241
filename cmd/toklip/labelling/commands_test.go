package labelling

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/engine/labels"
)

// What cannot be carried out is refused with the value at fault, and everything stays as it is.
func TestCommandsRefused(t *testing.T) {
	r := newRig(t, twoLabels)
	r.run(t)
	r.settled(t)
	many := strings.Repeat(`"x",`, 9999) + `"x"`
	hash := r.configured["left"].set.Hash()
	type command = func(context.Context, json.RawMessage) (any, error)
	for _, tt := range []struct {
		command    command
		args, want string
	}{
		{r.Set, ``, "args are missing: send for example {\"labels\": "},
		{r.Set, `{}`, "labels are missing: send for example "},
		{r.Set, `[]`, "args: json: cannot unmarshal array"},
		{r.Set, `{"labls":["a"]}`, `unknown field "labls"`},
		{r.Set, `{"labels":["a"],"reset":true}`, "reset goes back to the labels of the configuration"},
		{r.Set, `{"reset":true,"threshold":0.3}`, "reset goes back"},
		{r.Set, `{"labels":["a"],"camera":"porch"}`, `camera "porch" is not known: this node has left, right`},
		{r.Set, `{"labels":[""]}`, "label 1: the name is empty"},
		{r.Set, `{"labels":["a","b",""]}`, "label 3: the name is empty"},
		{r.Set, `{"labels":["a",null]}`, "label 2: null is neither a name nor an object"},
		{r.Set, `{"labels":["a",7]}`, "label 2: 7 is neither a name nor an object"},
		{r.Set, `{"labels":["a","A!"]}`, `label 2: name "A!" is the same as that of label 1, "a"`},
		{r.Set, `{"labels":[` + many + `]}`, "10000 labels: at most 1000 are possible"},
		{r.Set, `{"labels":["` + strings.Repeat("x", 200) + `"]}`, "has 200 bytes: at most 128 are possible"},
		{r.Set, `{"labels":[{"label":"a","prompts":["` + strings.Repeat("x", 2000) + `"]}]}`, "has 2000 bytes: at most 1000 are possible"},
		{r.Set, `{"labels":[{"label":"a","prompts":[""]}]}`, `label "a": prompt "" is empty`},
		{r.Set, `{"labels":[{"label":"a","treshold":0.2}]}`, `label 1: "a": json: unknown field "treshold"`},
		{r.Set, `{"labels":[{"label":"a","threshold":1.2}]}`, `label "a": threshold is 1.2`},
		{r.Set, `{"labels":["a"],"threshold":0}`, `label "a": threshold is 0`},
		{r.Set, `{"labels":["a"],"hysteresis":2}`, "hysteresis is 2"},
		{r.Set, `{"labels":[{"label":"a","threshold":0.2,"hysteresis":0.3}]}`, `label "a": hysteresis is 0.3: it must be at least 0 and less than the threshold, 0.2`},
		{r.Set, `{"labels":["a"],"hold":"2h"}`, `label "a": hold is 2h`},
		{r.Set, `{"labels":["a"],"hold":2}`, "args: json: cannot unmarshal number"},
		{r.Set, `{"labels":["a"],"hold":"soon"}`, `"soon" is not a duration`},
		{r.Set, `{"labels":["a"],"templates":["a photo"]}`, `template "a photo" has no {}`},
		{r.Set, `{"labels":["a"],"templates":[]}`, `no templates`},
		{r.Get, `{"camera":"porch"}`, `camera "porch" is not known`},
		{r.Get, `{"kamera":"left"}`, `unknown field "kamera"`},
		{r.Score, ``, "args are missing"},
		{r.Score, `{}`, "text is missing or empty"},
		{r.Score, `{"text":"a","texts":["b"]}`, "text and texts are both there"},
		{r.Score, `{"texts":[]}`, "texts has none"},
		{r.Score, `{"texts":["a","!"]}`, `label "text 2": prompt "!" is empty`},
		{r.Score, `{"text":"a","camera":"left"}`, "camera left has shown no frame yet"},
		{r.Score, `{"text":"a","templates":["x"]}`, `template "x" has no {}`},
		{r.Heatmap, `{"text":"a"}`, "camera is missing"},
		{r.Heatmap, `{"camera":"left"}`, "give either label, one of the camera's set, or text"},
		{r.Heatmap, `{"camera":"left","text":"a","label":"red"}`, "give either label"},
		{r.Heatmap, `{"camera":"left","label":"green"}`, `label "green" is not in the set of camera left`},
		{r.Heatmap, `{"camera":"left","label":"red","templates":["{}"]}`, "templates go with text"},
		{r.Heatmap, `{"camera":"left","text":"a","radius":-1}`, "radius is -1"},
		{r.Heatmap, `{"camera":"left","text":"a"}`, "camera left has shown no frame yet"},
		{r.Heatmap, `{"camera":"porch","text":"a"}`, `camera "porch" is not known`},
	} {
		got, err := tt.command(t.Context(), json.RawMessage(tt.args))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.200s: got %v, %v; want %q", tt.args, got, err, tt.want)
		}
	}
	r.texts.behave(errTower, nil)
	if _, err := r.Set(t.Context(), json.RawMessage(`{"labels":["robot"]}`)); err == nil || err.Error() != "the labels stay as they are: "+errTower.Error() {
		t.Errorf("with a tower that was killed: %v", err)
	}
	if f := r.show("left", 1, "blue"); f.hash() != hash {
		t.Errorf("set %q is in force, want %q still", f.hash(), hash)
	}
	if got := r.Condition(); got != "" {
		t.Errorf("condition %q: a refused command is no trouble of the node", got)
	}
}

// A command that is given up, because the node ends, changes nothing.
func TestCommandGivenUp(t *testing.T) {
	r := newRig(t, twoLabels)
	r.run(t)
	r.settled(t)
	r.texts.behave(nil, make(chan struct{}))
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 2)
	for range 2 { // one embeds, the other waits for its turn
		go func() {
			_, err := r.Set(ctx, json.RawMessage(`{"labels":["robot"]}`))
			failed <- err
		}()
	}
	cancel()
	for range 2 {
		if err := <-failed; err == nil {
			t.Error("it was carried out")
		}
	}
	if f := r.show("left", 1, "blue"); f.hash() != r.configured["left"].set.Hash() {
		t.Error("it was carried out in part")
	}
}

// Names in a command have the settings of the configuration's labels; what the command says for all comes between.
func TestSettingsOfACommand(t *testing.T) {
	r := newRig(t, "[labels]\ntemplates = [\"{}\"]\n[[labels.label]]\nname = \"person\"\nprompts = [\"red person\"]\nthreshold = 0.3\n")
	r.run(t)
	r.settled(t)
	got := must[SetResult](t, r.Set, `{"labels":["person","box",{"label":"cone","hold":"2s"}],"threshold":0.6,"hold":"5s"}`)
	if got.Embedded != 2 { // "red person" is known
		t.Errorf("%+v", got)
	}
	set := r.wanted["left"].set
	second := time.Second
	want := labels.Set{Labels: []labels.Label{
		{Name: "person", Prompts: []string{"red person"}, Templates: []string{"{}"}, Threshold: 0.3, Hysteresis: 0.1, Hold: 5 * second},
		{Name: "box", Templates: []string{"{}"}, Threshold: 0.6, Hysteresis: 0.1, Hold: 5 * second},
		{Name: "cone", Templates: []string{"{}"}, Threshold: 0.6, Hysteresis: 0.1, Hold: 2 * second},
	}}
	if fmt.Sprint(set) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", set, want)
	}
}

// score answers for the newest frame of each camera that has shown one.
func TestScoreOfNewestFrames(t *testing.T) {
	r := newRig(t, "")
	r.run(t)
	r.settled(t)
	for n := range uint64(3) {
		if f := r.show("left", n+1, []string{"red", "blue", "red box"}[n]); f.labels != nil {
			t.Error("labels without a set")
		}
	}
	got := must[map[string]any](t, r.Score, `{"texts":["red box","blue","red"]}`)["cameras"].(map[string]CameraScores)
	left, ok := got["left"]
	if !ok || len(got) != 1 || left.Sequence != 3 || left.CaptureWallNS != 3e8 || left.AgeNS <= 0 || len(left.Scores) != 3 {
		t.Fatalf("got %+v", got)
	}
	for i, cosine := range []float32{1, 0, 0.70710677} {
		if s := left.Scores[i]; !near(s.Cosine, cosine) || !near(s.Logit, 10*cosine-5) {
			t.Errorf("%s: %+v, want cosine %v", s.Text, s, cosine)
		}
	}
	one := must[map[string]any](t, r.Score, `{"text":"blue","camera":"left","templates":["red {}","{}"]}`)["cameras"].(map[string]CameraScores)
	if c := one["left"].Scores[0].Cosine; c <= 0 || c >= 0.7 { // the mean of "red blue" and "blue" has some red in it
		t.Errorf("with templates: cosine %v", c)
	}
}

func FuzzArgs(f *testing.F) {
	f.Add([]byte(setExample))
	f.Add([]byte(`{"labels":[],"hold":"1s","hysteresis":0.2,"camera":"x"}`))
	f.Add([]byte(`{"text":"a","camera":"b","radius":3,"templates":["{}"]}`))
	defaults := config.Default().Labels
	f.Fuzz(func(t *testing.T, args []byte) {
		if a, err := parseSet(args); err == nil && !a.Reset {
			if set, err := a.set(defaults); err == nil {
				if err := set.Validate(); err != nil {
					t.Error(err)
				}
			}
		}
		if a, err := parseScore(args); err == nil {
			if len(a.Texts) == 0 {
				t.Error("no texts")
			}
			_, _ = queries(a.Texts, a.Templates)
		}
		if a, err := parseHeatmap(args); err == nil && (*a.Radius < 0 || a.Camera == "") {
			t.Errorf("accepted %+v", a)
		}
	})
}

// A command whose texts are still embedded when the configuration is read again gives way to it, at once.
func TestReloadDuringACommand(t *testing.T) {
	r := newRig(t, twoLabels)
	r.run(t)
	r.settled(t)
	hold := make(chan struct{})
	defer close(hold)
	r.texts.behave(nil, hold)
	before := r.texts.made()
	failed := make(chan error, 1)
	go func() {
		_, err := r.Set(t.Context(), json.RawMessage(`{"labels":["robot"]}`))
		failed <- err
	}()
	eventually(t, "the command asks the tower", func() bool { return r.texts.made() > before })
	r.texts.behave(nil, nil)
	cfg := configuration(t, "[labels]\nset = [\"white\"]\ntemplates = [\"{}\"]\n")
	r.Reload(cfg.Labels, cfg.Cameras)
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "the configuration was read again") {
		t.Errorf("the command ended with %v", err)
	}
	r.settled(t)
	equal(t, "labels", r.show("left", 1, "white").names(), []string{"white"})
}

// A command does not wait for the texts of a configuration: those of the cameras that it leaves alone come after it.
func TestCommandWhileTheConfigurationIsEmbedded(t *testing.T) {
	r := newRig(t, twoLabels)
	hold := make(chan struct{})
	defer close(hold)
	r.texts.behave(nil, hold)
	r.run(t)
	eventually(t, "the tower is asked", func() bool { return r.texts.made() > 0 })
	r.texts.behave(nil, nil)
	if _, err := r.Set(t.Context(), json.RawMessage(`{"labels":[""]}`)); err == nil || r.Condition() == "" {
		t.Error("a command that is refused interrupts")
	}
	must[SetResult](t, r.Set, `{"camera":"left","labels":["green"]}`)
	equal(t, "labels", r.show("left", 1, "green").names(), []string{"green"})
	r.settled(t)
	equal(t, "labels of the other", r.show("right", 1, "red").names(), []string{"red", "blue"})
	if got := r.Condition(); got != "" {
		t.Errorf("condition %q", got)
	}
}
