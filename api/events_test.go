package api_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/toklip/toklip/api"
)

func labelEvent() api.LabelEvent {
	return api.LabelEvent{
		BootID: "b0071d", Camera: "front", Sequence: 1<<53 + 1, Label: `a "red" box`, Region: "door", Event: api.LabelGone,
		Reason: api.ReasonScore, LabelSet: "l1", AtNS: 1_790_000_000_123_456_789, SinceNS: 1_789_999_999_123_456_789,
		DurationNS: 1_000_000_000, Score: 0.25, Peak: 0.875,
	}
}

func TestLabelEvent(t *testing.T) {
	e := labelEvent()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"boot_id":"b0071d","camera":"front","sequence":9007199254740993,"label":"a \"red\" box","region":"door","event":"gone","reason":"score",` +
		`"label_set":"l1","at_ns":1790000000123456789,"since_ns":1789999999123456789,"duration_ns":1000000000,"score":0.25,"peak":0.875}`
	if string(text) != want {
		t.Errorf("event is written as %s\nwant %s", text, want)
	}
	back, err := api.ParseLabelEvent(text)
	if err != nil || *back != e {
		t.Errorf("event comes back as %+v, %v", back, err)
	}
	// A newer node may know more.
	if _, err := api.ParseLabelEvent([]byte(strings.Replace(want, `"reason":"score"`, `"reason":"asked","more":1`, 1))); err != nil {
		t.Error(err)
	}
}

func TestLabelEventRefused(t *testing.T) {
	nan := float32(math.NaN())
	for want, change := range map[string]func(*api.LabelEvent){
		`name "Front"`:               func(e *api.LabelEvent) { e.Camera = "Front" },
		"label is empty":             func(e *api.LabelEvent) { e.Label = "" },
		`label "\xff" is not valid`:  func(e *api.LabelEvent) { e.Label = "\xff" },
		`region "\xff" is not valid`: func(e *api.LabelEvent) { e.Region = "\xff" },
		`"seen" is unknown`:          func(e *api.LabelEvent) { e.Event = "seen" },
		"reason is empty":            func(e *api.LabelEvent) { e.Reason = "" },
		"duration of -1 ns":          func(e *api.LabelEvent) { e.DurationNS = -1 },
		"score is NaN":               func(e *api.LabelEvent) { e.Score = nan },
		"peak is 1.5":                func(e *api.LabelEvent) { e.Peak = 1.5 },
	} {
		e := labelEvent()
		change(&e)
		if err := e.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	for in, want := range map[string]string{``: "ends too early", `[]`: "object is wanted", `null`: "name is empty", `{"at_ns":"x"}`: `"at_ns"`, `{}{}`: "more text"} {
		if _, err := api.ParseLabelEvent([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", in, err, want)
		}
	}
}

func FuzzLabelEvent(f *testing.F) {
	seed, err := json.Marshal(labelEvent())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"camera":"c","label":"\ud800","event":"appeared","reason":"x","score":1e-300}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := api.ParseLabelEvent(data)
		if err != nil {
			if e != nil {
				t.Error("an event beside an error")
			}
			return
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatalf("read event cannot be written: %v", err)
		}
		if back, err := api.ParseLabelEvent(text); err != nil || *back != *e {
			t.Fatalf("event changed on the way: %+v, %v", back, err)
		}
	})
}
