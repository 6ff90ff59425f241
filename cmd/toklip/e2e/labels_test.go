package e2e

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/cmd/toklip/e2e/e2etest"
)

// Texts of the reference set by what these tests call them.
const (
	ball     = 0
	forklift = 8
	cubes    = 2
	cafe     = 3
)

// goldenLabels are labels of the reference set's texts, as labels/set and [[labels.label]] take them.
func goldenLabels(t *testing.T, g golden, names map[string]int) (tables, args string) {
	t.Helper()
	var list []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		text, err := json.Marshal(g.Texts[names[name]])
		if err != nil {
			t.Fatal(err)
		}
		tables += fmt.Sprintf("[[labels.label]]\nname = %q\nprompts = [%s]\n", name, text)
		list = append(list, fmt.Sprintf(`{"label":%q,"prompts":[%s]}`, name, text))
	}
	return tables, `[` + strings.Join(list, ",") + `]`
}

// TestLabelsOfAKnownPicture holds labels, regions, score and heat map of a photograph against what the embeddings of the
// photograph (by encode) and of the texts (by PyTorch, in the reference set) give.
func TestLabelsOfAKnownPicture(t *testing.T) {
	l := newLabelled(t, "coffee.png")
	g := goldenTexts(t)
	names := map[string]int{"ball": ball, "café": cafe, "cubes": cubes, "forklift": forklift}
	tables, _ := goldenLabels(t, g, names)
	l.configure(t, tables+"[labels.regions]\nmax_fps = 0\n", `
[[camera.region]]
name = "everything"
rect = [0.0, 0.0, 1.0, 1.0]
[[camera.region]]
name = "cup"
polygon = [[0.3, 0.1], [0.9, 0.1], [0.9, 0.9], [0.3, 0.9]]
`)
	l.start(t)
	embedding := l.embedding(t, "coffee.png")
	scale, bias := l.scoring(t)
	want := map[string]float64{} // cosine by label
	for name, i := range names {
		want[name] = cosine(embedding, g.Embedding[i])
	}
	check := func(what, label string, gotCosine, gotLogit, gotScore float64) {
		t.Helper()
		c := want[label]
		if math.Abs(gotCosine-c) > 1e-4 || math.Abs(gotLogit-(scale*c+bias)) > 1e-4*scale+1e-6 || math.Abs(gotScore-sigmoid(gotLogit)) > 1e-4 {
			t.Errorf("%s: %s has cosine %v, logit %v, score %v; want cosine %v, logit %v", what, label, gotCosine, gotLogit, gotScore, c, scale*c+bias)
		}
	}

	messages := l.subscribe(t, l.photo(api.KindLabelsJSON))
	m := nextLabels(t, messages)
	if len(m.Labels) != len(names) || m.Header.LabelSet == "" || m.Header.Stages.LabelNS <= 0 {
		t.Fatalf("labels are %+v", m)
	}
	for i, label := range m.Labels {
		check("labels", label.Label, label.Cosine, label.Logit, label.Score)
		if i > 0 && label.Score > m.Labels[i-1].Score {
			t.Errorf("%s comes after %s, which is worse", label.Label, m.Labels[i-1].Label)
		}
		if label.Present != (label.Score >= 0.5) || label.Present != (label.SinceNS > 0) {
			t.Errorf("%s has score %v: present %v since %d", label.Label, label.Score, label.Present, label.SinceNS)
		}
	}

	regions := l.subscribe(t, l.photo(api.KindRegionsJSON))
	m = nextLabels(t, regions)
	if len(m.Labels) != 2*len(names) {
		t.Fatalf("regions are %+v", m)
	}
	apart := 0.0
	for i, label := range m.Labels {
		if region := []string{"everything", "cup"}[i/len(names)]; label.Region != region {
			t.Errorf("label %d is of region %q, want %q", i, label.Region, region)
		}
		if label.Region == "everything" { // the attention pool over all tokens is the encoder's
			check("region everything", label.Label, label.Cosine, label.Logit, label.Score)
		} else {
			apart = max(apart, math.Abs(label.Cosine-want[label.Label]))
		}
	}
	if apart < 1e-3 {
		t.Errorf("labels of a region are at most %v from those of the frame: it is not seen by itself", apart)
	}

	var scores struct {
		Cameras map[string]struct {
			Sequence uint64 `json:"sequence"`
			AgeNS    int64  `json:"age_ns"`
			Scores   []struct {
				Text                 string
				Cosine, Logit, Score float64
			} `json:"scores"`
		} `json:"cameras"`
	}
	texts, err := json.Marshal([]string{g.Texts[ball], g.Texts[forklift]})
	if err != nil {
		t.Fatal(err)
	}
	l.must(t, "score", `{"texts":`+string(texts)+`}`, &scores)
	photo := scores.Cameras["photo"]
	if photo.Sequence < m.Header.Sequence || photo.AgeNS <= 0 || photo.AgeNS > e2etest.Patience.Nanoseconds() || len(photo.Scores) != 2 {
		t.Fatalf("score says %+v", scores)
	}
	check("score", "ball", photo.Scores[0].Cosine, photo.Scores[0].Logit, photo.Scores[0].Score)
	check("score", "forklift", photo.Scores[1].Cosine, photo.Scores[1].Logit, photo.Scores[1].Score)

	for _, radius := range []int{0, 4} {
		var heat struct {
			Grid   [2]int         `json:"grid"`
			Window map[string]int `json:"window"`
			Cosine []float64      `json:"cosine"`
			Score  []float64      `json:"score"`
		}
		l.must(t, "heatmap", fmt.Sprintf(`{"camera":"photo","label":"ball","radius":%d}`, radius), &heat)
		if heat.Grid != [2]int{4, 4} || len(heat.Cosine) != 16 || len(heat.Score) != 16 || heat.Window["width"] != 600 || heat.Window["height"] != 400 {
			t.Fatalf("heat map is %+v", heat)
		}
		least, most := slices.Min(heat.Cosine), slices.Max(heat.Cosine)
		if radius == 0 && most-least < 1e-3 {
			t.Errorf("heat map of single cells is flat: %v", heat.Cosine)
		}
		if radius == 4 && (math.Abs(least-want["ball"]) > 1e-4 || math.Abs(most-want["ball"]) > 1e-4) { // all cells see all
			t.Errorf("heat map of the whole grid for each cell is %v, want %v", heat.Cosine, want["ball"])
		}
	}

	// The same as protobuf, the birth document, metrics.
	binary := subscribe(t, l.port, true, l.photo(api.KindLabels))
	_, payload, _ := strings.Cut(binary.Line(t), " ")
	data, err := hex.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	var message toklipv1.Labels
	mustUnmarshal(t, data, &message)
	for _, label := range message.Labels {
		check("protobuf", label.Label, float64(label.Cosine), float64(label.Logit), float64(label.Score))
	}
	info := l.subscribe(t, "toklip/"+node+"/info")
	line := info.Line(t)
	for _, part := range []string{`"label_set":"` + message.Header.LabelSet + `"`, `"label_names":["ball","café","cubes","forklift"]`, `"name":"cup"`} {
		if !strings.Contains(line, part) {
			t.Errorf("info lacks %s: %s", part, line)
		}
	}
	metrics := l.subscribe(t, "toklip/"+node+"/metrics")
	e2etest.WaitFor(t, "metrics tell of labels and regions", func() bool {
		line := metrics.Line(t)
		return strings.Contains(line, `"regions":{"frames":`) && !strings.Contains(line, `"label":{"p50_ns":0,"p99_ns":0,"max_ns":0}`)
	})
}

// TestLabelsChangeWhileFramesFlow changes the labels of a fast camera again and again. No frame is lost by it: every gap of the
// sequence is a drop that was counted, tokens and labels of a frame name the same set, and the labels are those of that set.
func TestLabelsChangeWhileFramesFlow(t *testing.T) {
	l := newLabelled(t, "coffee.png")
	l.fps = 60
	l.configure(t, `set = ["first"]`, "")
	l.start(t)
	frames := l.subscribe(t, l.photo(api.KindTokensJSON), l.photo(api.KindLabelsJSON))
	sets := map[string][]string{} // names by hash
	hash, names := l.serving(t)
	sets[hash] = names
	const changes = 40
	for i := range changes {
		labels := []string{fmt.Sprintf("label %d", i%7), "box"}
		if i%7 == 6 {
			labels = labels[:1]
		}
		text, err := json.Marshal(labels)
		if err != nil {
			t.Fatal(err)
		}
		sets[l.set(t, `{"labels":`+string(text)+`}`)] = labels
	}
	last := l.set(t, `{"labels":["last"]}`)
	sets[last] = []string{"last"}

	var before labelsMessage
	tokens, seen := 0, map[string]int{}
	expected := "" // the set of a frame whose labels are to come
	for seen[last] < 3 {
		topic, payload, _ := strings.Cut(frames.Line(t), " ")
		var m labelsMessage
		if err := json.Unmarshal([]byte(payload), &m); err != nil {
			t.Fatalf("%v: %s", err, payload)
		}
		h := m.Header
		if strings.HasSuffix(topic, "labels/json") {
			if expected == "" {
				continue // the subscription began between the two
			}
			if h.Sequence != before.Header.Sequence || h.LabelSet != expected {
				t.Errorf("labels are of frame %d and set %q, tokens before them of %d and %q", h.Sequence, h.LabelSet, before.Header.Sequence, expected)
			}
			var got []string
			for _, label := range m.Labels {
				got = append(got, label.Label)
			}
			slices.Sort(got)
			want := slices.Sorted(slices.Values(sets[h.LabelSet]))
			if !slices.Equal(got, want) {
				t.Errorf("frame %d has labels %q, set %q has %q", h.Sequence, got, h.LabelSet, want)
			}
			seen[h.LabelSet]++
			expected = ""
			continue
		}
		if tokens++; tokens > 1 {
			if expected != "" {
				t.Errorf("frame %d has no labels", before.Header.Sequence)
			}
			if gap, drops := h.Sequence-before.Header.Sequence-1, m.dropped()-before.dropped(); gap != drops {
				t.Errorf("frame %d after %d: %d are missing, drops grew by %d", h.Sequence, before.Header.Sequence, gap, drops)
			}
			if drops := h.Drops["failed"] + h.Drops["invalid"] + h.Drops["closed"] + h.Drops["broker"]; drops > 0 {
				t.Errorf("frames were lost: %v", h.Drops)
			}
		}
		before, expected = m, h.LabelSet
	}
	if tokens < changes || len(seen) < 7 {
		t.Errorf("%d frames, sets %v: too few to show anything", tokens, seen)
	}
}

// TestBrokenLabelCommands sends what cannot be carried out; each is answered, and the labels stay.
func TestBrokenLabelCommands(t *testing.T) {
	t.Run("mosquitto", func(t *testing.T) { testBrokenLabelCommands(t, newLabelled(t, "coffee.png")) })
	t.Run("embedded broker", func(t *testing.T) { testBrokenLabelCommands(t, newEmbedded(t, "coffee.png")) })
}

func testBrokenLabelCommands(t *testing.T, l *labelled) {
	l.configure(t, `set = ["ball"]`, "")
	l.start(t)
	before, _ := l.serving(t)
	for _, tt := range []struct{ name, verb, args, want string }{
		{"empty label", "labels/set", `{"labels":["ball",""]}`, "label 2: the name is empty"},
		{"10 000 labels", "labels/set", `{"labels":["x"` + strings.Repeat(`,"x"`, 9999) + `]}`, "10000 labels: at most 1000 are possible"},
		{"text of 1 MB", "labels/set", `{"labels":["` + strings.Repeat("word ", 200_000) + `"]}`, "command has 1000"},
		{"text of 1 MB asked for", "score", `{"text":"` + strings.Repeat("word ", 200_000) + `"}`, "command has 1000"},
		{"long text", "score", `{"text":"` + strings.Repeat("word ", 300) + `"}`, "has 1500 bytes: at most 1000 are possible"},
		{"invalid UTF-8", "labels/set", "{\"labels\":[\"caf\xe9\"]}", "is not valid UTF-8"},
		{"unknown verb", "labels/put", `{"labels":["ball"]}`, "labels/set"},
		{"unknown camera", "labels/set", `{"labels":["ball"],"camera":"porch"}`, `camera "porch" is not known: this node has photo`},
		{"bad threshold", "labels/set", `{"labels":[{"label":"ball","threshold":7}]}`, `label "ball": threshold is 7`},
		{"bad hysteresis", "labels/set", `{"labels":[{"label":"ball","threshold":0.2,"hysteresis":0.2}]}`, `label "ball": hysteresis is 0.2`},
		{"the same label twice", "labels/set", `{"labels":["red ball","Red_Ball"]}`, "label 2: name"},
		{"misspelt", "labels/set", `{"lables":["ball"]}`, `unknown field "lables"`},
		{"no JSON", "labels/set", `{"labels":["ball"}`, "command: "},
		{"no text", "heatmap", `{"camera":"photo"}`, "give either label"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := l.ask(t, tt.verb, tt.args)
			if got.OK || !strings.Contains(got.Error, tt.want) {
				t.Errorf("got %.300s, want an error with %q", got.Error, tt.want)
			}
		})
	}
	if after, names := l.serving(t); after != before || len(names) != 1 {
		t.Errorf("set %q with %q is in force, it was %q", after, names, before)
	}
	if line := l.subscribe(t, "toklip/"+node+"/state").Line(t); !strings.Contains(line, `"ready"`) {
		t.Errorf("the node is not ready after refused commands: %s", line)
	}
}

// TestLabelsOutlastARestart has a command change labels, ends the node, spoils its text tower and starts it again: the
// labels are those of the command, and the tower was not needed.
func TestLabelsOutlastARestart(t *testing.T) {
	l := newLabelled(t, "coffee.png")
	l.configure(t, `set = ["ball"]`, "")
	l.start(t)
	l.serving(t) // a command does not wait for the configuration's texts, and would have the ball embedded itself
	var set struct {
		LabelSet string `json:"label_set"`
		Embedded int    `json:"embedded"`
		Kept     bool   `json:"kept"`
	}
	l.must(t, "labels/set", `{"labels":[{"label":"door","prompts":["an open door","a closed door"]},"ball"],"threshold":0.7}`, &set)
	if set.Embedded != 2 || !set.Kept {
		t.Errorf("labels/set says %+v, want 2 texts embedded (ball is known) and kept", set)
	}
	if code, took := l.daemon.Stop(t); code != 0 || took > promised {
		t.Errorf("ended with code %d after %v", code, took)
	}
	spoil(t, l.model+"/text.onnx")
	l.start(t)
	if hash, names := l.serving(t); hash != set.LabelSet || len(names) != 2 {
		t.Errorf("after the restart set %q with %q is in force, want %q", hash, names, set.LabelSet)
	}
	var got struct {
		Cameras map[string]struct {
			LabelSet string `json:"label_set"`
			Source   string `json:"source"`
			Labels   []struct {
				Label     string
				Prompts   []string
				Threshold float64
			} `json:"labels"`
		} `json:"cameras"`
	}
	l.must(t, "labels/get", ``, &got)
	if photo := got.Cameras["photo"]; photo.Source != "command" || photo.LabelSet != set.LabelSet || photo.Labels[0].Label != "door" || len(photo.Labels[0].Prompts) != 2 || photo.Labels[1].Threshold != 0.7 {
		t.Errorf("labels/get says %+v", got)
	}
	// Back to the configuration, whose text is known too; a new one needs the tower.
	l.must(t, "labels/set", `{"reset":true}`, nil)
	if _, names := l.serving(t); !slices.Equal(names, []string{"ball"}) {
		t.Errorf("after a reset the labels are %q", names)
	}
	if r := l.ask(t, "labels/set", `{"labels":["something new"]}`); r.OK || !strings.Contains(r.Error, "the labels stay as they are: ") {
		t.Errorf("without the tower: %+v", r)
	}
	if _, names := l.serving(t); !slices.Equal(names, []string{"ball"}) {
		t.Errorf("after a failure the labels are %q", names)
	}
}

// spoil overwrites a file with as many zeros: it is there, and cannot be used.
func spoil(t *testing.T, file string) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, info.Size()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestReload changes the configuration file of a running node.
func TestReload(t *testing.T) {
	l := newLabelled(t, "coffee.png")
	l.configure(t, `set = ["ball"]`, "")
	l.start(t)
	hangup := func() {
		t.Helper()
		if err := l.daemon.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	logged := func(text string) {
		t.Helper()
		e2etest.WaitFor(t, "the log says "+text, func() bool { return strings.Contains(l.daemon.Out.String(), text) })
	}
	robot := l.set(t, `{"labels":["robot"]}`)

	l.configure(t, `set = ["ball", ""]`, "")
	hangup()
	logged("configuration cannot be used; everything stays as it is")
	before, _, _ := strings.Cut(labelsDaemon, "%s\n[[camera]]") // where the labels stand
	logged(fmt.Sprintf("toklip.toml:%d: labels.set: label 2: the name is empty", strings.Count(before, "\n")+1))
	if hash, _ := l.serving(t); hash != robot {
		t.Errorf("after a broken file set %q is in force, want %q", hash, robot)
	}

	l.fps = 20
	l.configure(t, `set = ["door", "ramp"]`, "max_fps = 9\nlabels = [\"ramp\", \"cone\", \"box\"]\n[[camera.region]]\nname = \"left\"\nrect = [0.0, 0.0, 0.5, 1.0]\n")
	regions := l.subscribe(t, l.photo(api.KindRegionsJSON))
	hangup()
	logged("needs a restart")
	logged("[camera photo.source camera photo.max_fps]")
	l.await(t, "labels/get", ``, `"source":"config"`)
	e2etest.WaitFor(t, "the new labels serve", func() bool {
		_, names := l.serving(t)
		slices.Sort(names)
		return slices.Equal(names, []string{"box", "cone", "ramp"})
	})
	if m := nextLabels(t, regions); len(m.Labels) != 3 || m.Labels[0].Region != "left" {
		t.Errorf("regions after a reload: %+v", m)
	}
	if text, err := os.ReadFile(l.state); err != nil || strings.Contains(string(text), "robot") {
		t.Errorf("what a command had set is still kept: %s %v", text, err)
	}
}

// TestModelWithoutTextTower has labels for a model that cannot read them: frames flow, and the state says what to do.
func TestModelWithoutTextTower(t *testing.T) {
	l := newLabelled(t, "coffee.png")
	if out, err := exec.Command(l.toklip, "model", "synth", "--preset", "tiny", "--no-text", "--overwrite", "--out", l.model).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.configure(t, `set = ["ball"]`, "")
	l.start(t)
	state := l.subscribe(t, "toklip/"+node+"/state")
	line := state.LineWith(t, `"degraded"`)
	if !strings.Contains(line, "text tower") || !strings.Contains(line, "checkpoint") {
		t.Errorf("the state does not say what is missing: %s", line)
	}
	tokens := l.subscribe(t, l.photo(api.KindTokensJSON))
	if line := tokens.Line(t); !strings.Contains(line, `"sequence":`) || strings.Contains(line, `"label_set":"`) && !strings.Contains(line, `"label_set":""`) {
		t.Errorf("tokens: %s", line)
	}
	for verb, args := range map[string]string{"labels/set": `{"labels":["ball"]}`, "score": `{"text":"ball"}`, "heatmap": `{"camera":"photo","text":"ball"}`} {
		if r := l.ask(t, verb, args); r.OK || !strings.Contains(r.Error, "text tower") {
			t.Errorf("%s: %+v", verb, r)
		}
	}
	l.must(t, "labels/set", `{"labels":[]}`, nil)
	state.LineWith(t, `"ready"`)
}

// TestTextTowerIsKilled kills the process that embeds texts while a command waits for it: the command is answered, the old
// labels serve all the time, and the next command works.
func TestTextTowerIsKilled(t *testing.T) {
	l := newLabelled(t, "coffee.png")
	l.configure(t, "set = [\"ball\"]\ntext_idle = \"0s\"", "")
	l.start(t)
	before, _ := l.serving(t)
	// 10 000 texts keep the process busy until it is found.
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf(`"thing %d"`, i))
	}
	frames := l.subscribe(t, l.photo(api.KindLabelsJSON))
	l.send(t, "labels/set", `{"labels":[`+strings.Join(many, ",")+`],"templates":["{}","a {}","b {}","c {}","d {}","e {}","f {}","g {}","h {}","i {}"]}`)
	tower := func() string {
		out, _ := exec.Command("pgrep", "-P", pid(l.daemon), "-f", "text --model").Output()
		return strings.TrimSpace(string(out))
	}
	signal := func(name string) {
		t.Helper()
		if out, err := exec.Command("kill", "-"+name, tower()).CombinedOutput(); err != nil {
			t.Fatalf("the text tower's process is gone: %v %s", err, out)
		}
	}
	e2etest.WaitFor(t, "the text tower's process runs", func() bool { return tower() != "" })
	signal("STOP")
	for range 5 { // of a daemon that waits
		if m := nextLabels(t, frames); m.Header.LabelSet != before {
			t.Errorf("frame %d was scored by set %q, want %q", m.Header.Sequence, m.Header.LabelSet, before)
		}
	}
	signal("KILL")
	if r := l.answer(t); r.OK || !strings.Contains(r.Error, "the labels stay as they are: ") || !strings.Contains(r.Error, "killed") {
		t.Errorf("the command was answered with %+v", r)
	}
	if hash, _ := l.serving(t); hash != before {
		t.Errorf("set %q is in force, want %q", hash, before)
	}
	l.set(t, `{"labels":["something new"]}`)
	if _, names := l.serving(t); !slices.Equal(names, []string{"something new"}) {
		t.Errorf("labels are %q", names)
	}
	e2etest.WaitFor(t, "the text tower's process ends", func() bool { return tower() == "" })
}

// TestLabelEvents shows two photographs in turn, of which one has a label.
func TestLabelEvents(t *testing.T) {
	l := newLabelled(t, "astronaut.png", "coffee.png")
	l.fps = 4
	g := goldenTexts(t)
	scale, bias := l.scoring(t)
	// The text that tells the two apart best, with a threshold between.
	label, here, there := "", 0.0, 0.0
	first, second := l.embedding(t, "astronaut.png"), l.embedding(t, "coffee.png")
	for i, text := range g.Texts {
		a, b := sigmoid(scale*cosine(first, g.Embedding[i])+bias), sigmoid(scale*cosine(second, g.Embedding[i])+bias)
		if math.Abs(a-b) > math.Abs(here-there) && text != "" && len(text) < 100 {
			label, here, there = text, a, b
		}
	}
	if math.Abs(here-there) < 0.01 {
		t.Fatalf("no text tells the photographs apart: %q has %v and %v", label, here, there)
	}
	prompt, err := json.Marshal(label)
	if err != nil {
		t.Fatal(err)
	}
	l.configure(t, fmt.Sprintf("publish = \"change\"\nmin_change = 1.0\n[[labels.label]]\nname = \"seen\"\nprompts = [%s]\nthreshold = %v\nhysteresis = 0.0\n", prompt, (here+there)/2), "")
	events := l.subscribe(t, l.photo(api.KindEvent))
	labels := l.subscribe(t, l.photo(api.KindLabelsJSON))
	l.start(t)
	next := func() api.LabelEvent {
		t.Helper()
		_, payload, _ := strings.Cut(events.Line(t), " ")
		e, err := api.ParseLabelEvent([]byte(payload))
		if err != nil {
			t.Fatalf("%v: %s", err, payload)
		}
		return *e
	}
	appeared, gone := next(), next()
	best, worst := max(here, there), min(here, there)
	if appeared.Event != api.LabelAppeared || appeared.Label != "seen" || appeared.Reason != api.ReasonScore || appeared.AtNS != appeared.SinceNS || appeared.LabelSet == "" ||
		math.Abs(float64(appeared.Score)-best) > 1e-3 {
		t.Errorf("appeared: %+v, want score %v", appeared, best)
	}
	if gone.Event != api.LabelGone || gone.Reason != api.ReasonScore || gone.SinceNS != appeared.SinceNS || gone.Sequence <= appeared.Sequence || gone.BootID != appeared.BootID ||
		math.Abs(float64(gone.Peak)-best) > 1e-3 || math.Abs(float64(gone.Score)-worst) > 1e-3 {
		t.Errorf("gone: %+v, want score %v, peak %v", gone, worst, best)
	}
	if took := time.Duration(gone.DurationNS); took < 100*time.Millisecond || math.Abs(float64(gone.AtNS-gone.SinceNS-gone.DurationNS)) > 50e6 {
		t.Errorf("it was there for %v, from %d to %d", took, gone.SinceNS, gone.AtNS)
	}
	// Labels are published when it comes and goes, although scores hardly move by min_change.
	a, b := nextLabels(t, labels), nextLabels(t, labels)
	if a.Labels[0].Present == b.Labels[0].Present && !a.Header.Keyframe && !b.Header.Keyframe {
		t.Errorf("labels on change: %+v, %+v", a, b)
	}
	// Camera off: what is there goes. Node off: the same.
	for e := next(); e.Event != api.LabelAppeared; e = next() {
	}
	l.must(t, "disable", `{"camera":"photo"}`, nil)
	for e := next(); ; e = next() { // the command took its time
		if e.Reason == api.ReasonCamera {
			if e.Event != api.LabelGone {
				t.Errorf("camera off: %+v", e)
			}
			break
		}
		if e.Event == api.LabelGone { // switched off while it was not there
			l.must(t, "enable", `{"camera":"photo"}`, nil)
			for e = next(); e.Event != api.LabelAppeared; e = next() {
			}
			l.must(t, "disable", `{"camera":"photo"}`, nil)
		}
	}
	l.must(t, "enable", `{"camera":"photo"}`, nil)
	l.must(t, "labels/set", `{"labels":[{"label":"seen","prompts":[`+string(prompt)+`],"threshold":`+fmt.Sprint(worst/2)+`,"hysteresis":0}]}`, nil)
	for e := next(); e.Event != api.LabelAppeared || e.LabelSet == appeared.LabelSet; e = next() {
	}
	if code, _ := l.daemon.Stop(t); code != 0 {
		t.Errorf("ended with code %d", code)
	}
	if e := next(); e.Event != api.LabelGone || e.Reason != api.ReasonStopping || e.SinceNS <= 0 || e.Peak < e.Score {
		t.Errorf("at the end: %+v", e)
	}
}
