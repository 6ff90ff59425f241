package watch

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/muesli/termenv"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

// labelEvent is an event as a node sends it, but for what it calls the label.
const labelEvent = `{"boot_id":"b1","camera":"front","sequence":41,"label":"box\u001b[2J","region":"hall","event":"gone","reason":"stopping",` +
	`"label_set":"l1","at_ns":5,"since_ns":4,"duration_ns":2500000000,"score":0.25,"peak":0.75}`

// Labels that are present come before others, however many there are; their time goes on
// with the frames.
func TestLabels(t *testing.T) {
	st, s := newState("toklip"), newSender(t, "n", "c", 4)
	captured := start.Add(-time.Hour) // the node's clock is its own
	frame := func(seq uint64, at time.Duration, set string) *toklipv1.Header {
		h := s.header(seq, captured.Add(at), captured.Add(at))
		h.LabelSet = set
		put(st, s.topic(api.KindTokens), s.tokens(h, s.change()), start.Add(at))
		return h
	}
	h := frame(1, 0, "a")
	var labels []*toklipv1.Label
	for i := range 1000 {
		labels = append(labels, &toklipv1.Label{Label: fmt.Sprint("label ", i), Score: 1 - float32(i)/1000})
	}
	labels[0].Score, labels[1].Score = float32(math.Inf(1)), float32(math.NaN())
	labels[700].Present, labels[700].SinceNs = true, captured.Add(-3*time.Second).UnixNano()
	labels[900].Present = true // since when is not said
	put(st, s.topic(api.KindLabels), s.marshal(&toklipv1.Labels{Header: h, Labels: labels}), start)
	frame(2, 2*time.Second, "a")
	v := only(t, st, start.Add(2*time.Second))
	want := []labelView{
		{Label: "label 700", Score: 0.3, Present: true, Since: 5 * time.Second}, {Label: "label 900", Score: 0.1, Present: true},
		{Label: "label 0", Score: 1}, {Label: "label 1", Score: 0},
	}
	if !slices.EqualFunc(v.Labels, want, func(a, b labelView) bool {
		same := math.Abs(a.Score-b.Score) < 1e-6
		a.Score = b.Score
		return same && a == b
	}) {
		t.Errorf("labels are %+v\nwant %+v", v.Labels, want)
	}
	if text := labelsText(v.Labels, 80); text != "● label 700 0.30 · ● label 900 0.10 · label 0 1.00 · label 1 0.00" {
		t.Errorf("labels read %q", text)
	}

	put(st, s.topic(api.KindRegionsJSON), []byte(`{"header":{"schema":1,"boot_id":"b1","sequence":2,"label_set":"a"},"labels":[
		{"label":"cup","score":0.6,"region":"door"},{"label":"box","score":0.5,"present":true,"region":"door"},{"label":"man","score":0.1},
		{"label":"cup","score":0.2,"region":"hall"},{"label":"box","score":0.3,"region":"hall"}]}`), start.Add(2*time.Second))
	v = only(t, st, start.Add(2*time.Second))
	if text := regionsText(v.Regions, 80); text != "door: ● box 0.50 · : man 0.10 · hall: box 0.30" {
		t.Errorf("regions read %q", text)
	}
	if v.Frames != 2 || len(v.Labels) != 4 || v.Labels[0].Since != 5*time.Second {
		t.Errorf("after regions: %d frames, labels %+v", v.Frames, v.Labels)
	}

	// Other labels: what is known of the old ones is of no use.
	frame(3, 3*time.Second, "b")
	if v := only(t, st, start.Add(3*time.Second)); len(v.Labels) != 0 || len(v.Regions) != 0 {
		t.Errorf("with other labels: %+v, %+v", v.Labels, v.Regions)
	}
	put(st, s.topic(api.KindRegionsJSON), []byte(`{"header":{"schema":1,"boot_id":"b1","sequence":2,"label_set":"a"},"labels":[{"label":"cup","score":0.6,"region":"door"}]}`), start.Add(3*time.Second))
	if v := only(t, st, start.Add(3*time.Second)); len(v.Regions) != 0 {
		t.Errorf("regions of the old labels that come late are shown: %+v", v.Regions)
	}
}

func TestEvents(t *testing.T) {
	st, s := newState("toklip"), newSender(t, "n", "c", 4)
	put(st, s.topic(api.KindTokens), s.tokens(s.header(1, start, start), s.change()), start)
	for _, c := range []struct {
		change   func(e *api.LabelEvent)
		want     string
		appeared bool
	}{
		{func(e *api.LabelEvent) { e.Event, e.DurationNS = api.LabelAppeared, 0 }, "red box appeared, score 0.25", true},
		{func(*api.LabelEvent) {}, "red box gone, after 3.2 s, peak 0.75", false},
		{func(e *api.LabelEvent) { e.Region, e.Reason = "door\x1b", "later" }, "red box gone in door·, after 3.2 s, peak 0.75, later", false},
	} {
		e := api.LabelEvent{BootID: "b1", Camera: "c", Label: "red box", Event: api.LabelGone, Reason: api.ReasonScore, DurationNS: 3_200_000_000, Score: 0.25, Peak: 0.75}
		c.change(&e)
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		put(st, s.topic(api.KindEvent), text, start.Add(time.Second))
		v := only(t, st, start.Add(time.Second))
		if v.Event == nil || v.Event.Text != c.want || v.Event.Appeared != c.appeared {
			t.Errorf("event is %+v, want %q", v.Event, c.want)
		}
		if v.Frames != 1 {
			t.Errorf("an event counts as a frame: %d", v.Frames)
		}
	}
	put(st, s.topic(api.KindEvent), []byte(`{"boot_id":"b2","camera":"c","label":"x","event":"gone","reason":"score"}`), start)
	if n := st.snapshot(start).Nodes[0]; n.Restarts != 1 {
		t.Errorf("an event of another run: %d restarts", n.Restarts)
	}
	put(st, s.topic(api.KindEvent), []byte(`{"camera":"c"}`), start)
	if st.broken != 1 {
		t.Errorf("%d broken messages", st.broken)
	}
}

// Whatever the width, a label has its name, or the beginning of it, and its score.
func TestLabelLine(t *testing.T) {
	theme := newTheme(termenv.Ascii)
	v := labelView{Label: "a person at a door", Score: 0.25, Present: true, Since: 90 * time.Second}
	for width := 10; width < 90; width++ {
		line := theme.labelLine(&v, 18, width)
		if n := ansi.StringWidth(line); n > max(width, 15) || !strings.HasPrefix(line, "● a p") || !strings.Contains(line, " 0.25") {
			t.Errorf("%d columns: %q has %d", width, line, n)
		}
	}
	for width, want := range map[int]string{
		60: "● a person at a door ━━━━╌╌╌╌╌╌╌╌╌╌╌╌ 0.25  90 s",
		42: "● a person at a door ━━╌╌╌╌╌╌ 0.25  90 s",
		39: "● a person at a door ━━━╌╌╌╌╌╌╌╌╌╌ 0.25",
		30: "● a person at a door ━╌╌╌ 0.25",
		28: "● a person at a door 0.25",
	} {
		if line := theme.labelLine(&v, 18, width); line != want {
			t.Errorf("%d columns: %q, want %q", width, line, want)
		}
	}
}
