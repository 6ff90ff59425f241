package labels

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// tracked is a tracker of labels that appear at 0.5, fade below 0.4 and go after a hold of their own each.
func tracked(tb testing.TB, holds ...time.Duration) *Tracker {
	tb.Helper()
	set, embeddings := new(Set), make(map[string][]float32)
	for i, hold := range holds {
		l := Named("label " + string(rune('a'+i)))
		l.Hold, l.Templates = hold, []string{"{}"}
		set.Labels = append(set.Labels, l)
		embeddings[l.Name] = []float32{1}
	}
	c, err := Compile(set, embeddings, 100, -10)
	if err != nil {
		tb.Fatal(err)
	}
	return NewTracker(c)
}

// broken is a score of a broken embedding, as a step of a test writes it.
const broken = -1

func score(v float32) []Score {
	if v == broken {
		return []Score{{Logit: -10, Broken: true}}
	}
	return []Score{{Score: v}}
}

// epoch is the wall-clock time at which the monotonic clock of tests is 0.
const epoch = 1_750_000_000_000_000_000

func moment(at time.Duration) Moment {
	return Moment{Wall: epoch + int64(at), Mono: int64(time.Hour + at), Sequence: uint64(at / time.Millisecond)}
}

// TestPresence runs single labels through frames 100 ms apart.
func TestPresence(t *testing.T) {
	type event struct {
		frame    int
		appeared bool
	}
	in := func(i int) event { return event{i, true} }
	out := func(i int) event { return event{i, false} }
	for name, c := range map[string]struct {
		hold   time.Duration
		scores []float32
		want   []event
	}{
		"never":                      {0, []float32{0, 0.3, 0.499, 0.499}, nil},
		"at the threshold":           {0, []float32{0.1, 0.5}, []event{in(1)}},
		"kept at the lower limit":    {0, []float32{0.5, 0.4, 0.45}, []event{in(0)}},
		"gone at once":               {0, []float32{0.5, 0.399, 0.45, 0.5}, []event{in(0), out(1), in(3)}},
		"held":                       {300 * time.Millisecond, []float32{0.9, 0, 0, 0, 0}, []event{in(0), out(4)}},
		"held, and back":             {300 * time.Millisecond, []float32{0.9, 0, 0, 0, 0.4, 0, 0, 0, 0}, []event{in(0), out(8)}},
		"flickers about the limit":   {0, []float32{0.49, 0.51, 0.49, 0.51, 0.41, 0.51, 0.49}, []event{in(1)}},
		"flickers through the hold":  {200 * time.Millisecond, []float32{0.9, 0, 0, 0.9, 0, 0, 0.9, 0, 0, 0}, []event{in(0), out(9)}},
		"comes again after it went":  {100 * time.Millisecond, []float32{0.9, 0, 0, 0.45, 0.9}, []event{in(0), out(2), in(4)}},
		"broken frames say nothing":  {100 * time.Millisecond, []float32{broken, 0.9, broken, broken, 0.9, broken}, []event{in(1)}},
		"broken frames pass in time": {200 * time.Millisecond, []float32{0.9, 0, broken, broken, 0}, []event{in(0), out(4)}},
		"NaN says nothing":           {0, []float32{0.9, float32(math.NaN()), 0.9, 0}, []event{in(0), out(3)}},
	} {
		tr := tracked(t, c.hold)
		var got []event
		for i, v := range c.scores {
			for _, e := range tr.Update(score(v), moment(time.Duration(i)*100*time.Millisecond)) {
				got = append(got, event{i, e.Appeared})
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: events %v, want %v", name, got, c.want)
		}
	}
}

func TestEventsTellAll(t *testing.T) {
	tr := tracked(t, time.Second)
	if _, ok := tr.Present(0); ok {
		t.Error("present before the first frame")
	}
	tr.Update(score(0.2), moment(0))
	events := slices.Clone(tr.Update(score(0.6), moment(time.Second)))
	appeared := moment(time.Second)
	if want := []Event{{Appeared: true, At: appeared, Since: appeared, Score: 0.6, Peak: 0.6, Reason: ReasonScore}}; !slices.Equal(events, want) {
		t.Errorf("it appeared: %+v, want %+v", events, want)
	}
	if since, ok := tr.Present(0); !ok || since != epoch+int64(time.Second) {
		t.Errorf("present is %v since %d", ok, since)
	}
	tr.Update(score(0.8), moment(2*time.Second))
	tr.Update(score(0.1), moment(3*time.Second))
	if _, ok := tr.Present(0); !ok {
		t.Error("absent during the hold")
	}
	events = slices.Clone(tr.Update(score(0.2), moment(4500*time.Millisecond)))
	if want := []Event{{At: moment(4500 * time.Millisecond), Since: appeared, Score: 0.2, Peak: 0.8, Duration: 3500 * time.Millisecond, Reason: ReasonScore}}; !slices.Equal(events, want) {
		t.Errorf("it went: %+v, want %+v", events, want)
	}
	if since, ok := tr.Present(0); ok || since != 0 {
		t.Errorf("after it went, present is %v since %d", ok, since)
	}
	// The peak of the time before is forgotten.
	tr.Update(score(0.7), moment(5*time.Second))
	if e := tr.Finish(moment(6*time.Second), ReasonStopping); len(e) != 1 || e[0].Peak != 0.7 || e[0].Duration != time.Second {
		t.Errorf("the second time: %+v", e)
	}
}

func TestFinish(t *testing.T) {
	tr := tracked(t, 0, 0, 0)
	tr.Update([]Score{{Score: 0.9}, {Score: 0.1}, {Score: 0.7}}, moment(time.Second))
	events := tr.Finish(moment(3*time.Second), ReasonLabels)
	want := []Event{
		{Label: 0, At: moment(3 * time.Second), Since: moment(time.Second), Score: 0.9, Peak: 0.9, Duration: 2 * time.Second, Reason: ReasonLabels},
		{Label: 2, At: moment(3 * time.Second), Since: moment(time.Second), Score: 0.7, Peak: 0.7, Duration: 2 * time.Second, Reason: ReasonLabels},
	}
	if !slices.Equal(events, want) {
		t.Errorf("events %+v, want %+v", events, want)
	}
	if e := tr.Finish(moment(4*time.Second), ReasonLabels); len(e) != 0 {
		t.Errorf("finished again: %+v", e)
	}
	if e := tr.Update([]Score{{Score: 0.9}, {}, {}}, moment(5*time.Second)); len(e) != 1 || !e[0].Appeared || e[0].Label != 0 {
		t.Errorf("used on: %+v", e)
	}
	if e := tr.Finish(Moment{}, ReasonCamera); len(e) != 1 || e[0].At != moment(5*time.Second) || e[0].Duration != 0 || e[0].Reason != ReasonCamera {
		t.Errorf("finished at an unknown moment: %+v", e)
	}
}

// relabelled is a set of labels whose templates leave their prompts alone, changed one by one.
func relabelled(tb testing.TB, change func(*Label), names ...string) *Compiled {
	tb.Helper()
	set, embeddings := new(Set), make(map[string][]float32)
	for _, name := range names {
		l := Named(name)
		l.Templates = []string{"{}"}
		change(&l)
		for _, text := range l.Texts() {
			embeddings[text] = []float32{1}
		}
		set.Labels = append(set.Labels, l)
	}
	c, err := Compile(set, embeddings, 100, -10)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// Labels that another set keeps as they are stay present, wherever they stand in it, and go on to fade if they do.
func TestReplace(t *testing.T) {
	same := func(*Label) {}
	tr := NewTracker(relabelled(t, same, "a", "b", "c", "d"))
	tr.Update([]Score{{Score: 0.9}, {Score: 0.8}, {Score: 0.7}, {}}, moment(0))
	tr.Update([]Score{{Score: 0.6}, {Score: 0.6}, {}, {}}, moment(time.Second)) // c fades
	next, gone := tr.Replace(relabelled(t, func(l *Label) { l.Prompts = nil }, "d", "c", "new", "b"), ReasonLabels)
	want := []Event{{Label: 0, At: moment(time.Second), Since: moment(0), Score: 0.6, Peak: 0.9, Duration: time.Second, Reason: ReasonLabels}}
	if !slices.Equal(gone, want) {
		t.Errorf("gone: %+v, want %+v", gone, want)
	}
	for i, want := range []bool{false, true, false, true} {
		if since, ok := next.Present(i); ok != want || ok && since != epoch {
			t.Errorf("label %d: present %v since %d", i, ok, since)
		}
	}
	if e := tr.Finish(moment(2*time.Second), ReasonStopping); len(e) != 0 {
		t.Errorf("the tracker before still has %+v", e)
	}
	events := next.Update([]Score{{Score: 0.5}, {}, {}, {Score: 0.6}}, moment(2*time.Second))
	want = []Event{
		{Label: 0, Appeared: true, At: moment(2 * time.Second), Since: moment(2 * time.Second), Score: 0.5, Peak: 0.5, Reason: ReasonScore},
		{Label: 1, At: moment(2 * time.Second), Since: moment(0), Peak: 0.7, Duration: 2 * time.Second, Reason: ReasonScore},
	}
	if !slices.Equal(events, want) {
		t.Errorf("then: %+v, want %+v", events, want)
	}
	if e := next.Finish(Moment{}, ReasonStopping); len(e) != 2 || e[1].Label != 3 || e[1].Peak != 0.8 || e[1].Duration != 2*time.Second {
		t.Errorf("in the end: %+v", e)
	}
}

// A label with another text or setting is another label.
func TestReplaceByAnotherLabel(t *testing.T) {
	for what, change := range map[string]func(*Label){
		"prompts":    func(l *Label) { l.Prompts = append(l.Prompts, "other") },
		"templates":  func(l *Label) { l.Templates = []string{"{}", "{}"} },
		"threshold":  func(l *Label) { l.Threshold = 0.6 },
		"hysteresis": func(l *Label) { l.Hysteresis = 0.2 },
		"hold":       func(l *Label) { l.Hold++ },
		"name":       func(l *Label) { l.Name = "A" },
	} {
		tr := NewTracker(relabelled(t, func(*Label) {}, "a"))
		tr.Update(score(0.9), moment(0))
		next, gone := tr.Replace(relabelled(t, change, "a"), ReasonLabels)
		if _, ok := next.Present(0); ok || len(gone) != 1 {
			t.Errorf("%s: present %v, gone %+v", what, ok, gone)
		}
	}
}

// TestLimitsAreAsNarrowAsScores: 0.7 as an fp32 is less than as an fp64.
func TestLimitsAreAsNarrowAsScores(t *testing.T) {
	l := Named("a")
	l.Threshold, l.Hysteresis, l.Templates = 0.7, 0, []string{"{}"}
	c, err := Compile(&Set{Labels: []Label{l}}, map[string][]float32{"a": {1}}, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if e := NewTracker(c).Update(score(0.7), moment(0)); len(e) != 1 {
		t.Error("a score of 0.7 does not reach 0.7")
	}
}

// TestClocks: a label with a hold of 1 s fades while clocks do all they can. Frames come every 100 ms.
func TestClocks(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(frame int, m *Moment)
		want int // the frame with which it goes; it fades from frame 10
	}{
		"both run":                        {func(int, *Moment) {}, 20},
		"wall clock set back an hour":     {func(i int, m *Moment) { m.Wall -= hours(i >= 15) }, 20},
		"wall clock set forward an hour":  {func(i int, m *Moment) { m.Wall += hours(i >= 15) }, 20},
		"no monotonic time":               {func(_ int, m *Moment) { m.Mono = 0 }, 20},
		"that, and set back an hour":      {func(i int, m *Moment) { m.Mono = 0; m.Wall -= hours(i >= 15) }, 21},
		"that, and set back when it came": {func(i int, m *Moment) { m.Mono = 0; m.Wall -= hours(i >= 1) }, 20},
		"monotonic time set back":         {func(i int, m *Moment) { m.Mono -= hours(i >= 15) }, 21},
		"monotonic time comes late":       {func(i int, m *Moment) { m.Mono *= int64(min(i/15, 1)) }, 20},
		"monotonic time now and then":     {func(i int, m *Moment) { m.Mono *= int64(i % 2) }, 20},
		// It fades from a frame of unknown time, which is taken for that of the one before.
		"every other frame without any": {func(i int, m *Moment) { m.Mono *= int64(i % 2); m.Wall *= int64(i % 2) }, 19},
	} {
		tr := tracked(t, time.Second)
		for i := range 30 {
			m := moment(time.Duration(i) * 100 * time.Millisecond)
			c.edit(i, &m)
			v := float32(0.9)
			if i >= 10 {
				v = 0.1
			}
			for _, e := range tr.Update(score(v), m) {
				if e.Appeared != (i == 0) && i != 1 || !e.Appeared && i != c.want {
					t.Errorf("%s: frame %d: %+v, want it to go with frame %d", name, i, e, c.want)
				}
				if !e.Appeared && (e.Duration < 1700*time.Millisecond || e.Duration > 2100*time.Millisecond) {
					t.Errorf("%s: duration %v", name, e.Duration)
				}
			}
		}
		if _, ok := tr.Present(0); ok {
			t.Errorf("%s: never went", name)
		}
	}
}

func hours(set bool) int64 {
	if set {
		return int64(time.Hour)
	}
	return 0
}

// history is what a tracker was told of one label and what it said: checks over all of it, slowly and with nothing
// remembered, hold the tracker to its rules.
type history struct {
	hold   time.Duration
	at     []time.Duration // sum of the steps forward, frame by frame
	scores []float32       // NaN: broken
	events []Event
}

// present decides from the whole history whether the label is present after the last frame.
func (h *history) present() (present bool, since int, peak float32) {
	for i := 0; i < len(h.scores); i++ {
		s := h.scores[i]
		if s != s {
			continue
		}
		if !present {
			if s >= 0.5 {
				present, since, peak = true, i, s
			}
			continue
		}
		peak = max(peak, s)
		if !(s < float32(0.4)) {
			continue
		}
		// How long has every frame back to some first one been below?
		first := i
		for k := i - 1; k > since && !(h.scores[k] >= float32(0.4)); k-- {
			if h.scores[k] == h.scores[k] {
				first = k
			}
		}
		if h.at[i]-h.at[first] >= h.hold {
			present = false
		}
	}
	return present, since, peak
}

// step is one frame of a random run.
type step struct {
	score  float32 // broken: as the constant says
	passed time.Duration
	mono   bool // has a monotonic time
}

// checkRun runs three labels, of which two hold, through the steps and compares with history.
func checkRun(t *testing.T, steps []step) {
	t.Helper()
	holds := []time.Duration{0, 250 * time.Millisecond, time.Second}
	tr := tracked(t, holds...)
	histories := make([]history, len(holds))
	wall, forward := time.Duration(0), time.Duration(0)
	for n, s := range steps {
		wall += s.passed
		if n > 0 {
			forward += max(s.passed, 0)
		}
		m := moment(wall)
		m.Sequence = uint64(n)
		if !s.mono {
			m.Mono = 0
		}
		events := tr.Update(slices.Repeat(score(s.score), len(holds)), m)
		for k := 1; k < len(events); k++ {
			if events[k].Label <= events[k-1].Label {
				t.Fatalf("frame %d: events out of order: %+v", n, events)
			}
		}
		for i := range histories {
			h := &histories[i]
			h.hold = holds[i]
			v := s.score
			if v == broken {
				v = float32(math.NaN())
			}
			h.at, h.scores = append(h.at, forward), append(h.scores, v)
			was := len(h.events) > 0 && h.events[len(h.events)-1].Appeared
			present, since, peak := h.present()
			at := slices.IndexFunc(events, func(e Event) bool { return e.Label == i })
			if (at >= 0) != (present != was) {
				t.Fatalf("frame %d, label %d: present %v after %v, events %+v", n, i, present, was, events)
			}
			if _, ok := tr.Present(i); ok != present {
				t.Fatalf("frame %d, label %d: present %v, want %v", n, i, ok, present)
			}
			if at < 0 {
				continue
			}
			e := events[at]
			if e.Appeared != present || e.At != m || e.Score != v || e.Reason != ReasonScore || e.Duration < 0 {
				t.Fatalf("frame %d, label %d: %+v", n, i, e)
			}
			if present && (e.Since != m || e.Peak != v || e.Duration != 0) {
				t.Fatalf("frame %d, label %d appeared: %+v", n, i, e)
			}
			if !present {
				if e.Since.Sequence != h.events[len(h.events)-1].At.Sequence || e.Duration != h.at[n]-h.at[since] || e.Peak != peak {
					t.Fatalf("frame %d, label %d went: %+v; want since frame %d, peak %v", n, i, e, since, peak)
				}
			}
			h.events = append(h.events, e)
		}
	}
}

// TestRandomRuns walks scores and clocks at random.
func TestRandomRuns(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 200 {
		var steps []step
		v, mono := 0.5, r.IntN(4) > 0
		for range 300 {
			v = min(max(v+0.1*r.NormFloat64(), 0), 1)
			s := step{float32(v), time.Duration(r.IntN(100)) * time.Millisecond, mono}
			switch r.IntN(40) {
			case 0:
				s.score = broken
			case 1:
				s.passed = -time.Duration(r.IntN(int(time.Hour)))
			case 2:
				s.passed = time.Duration(r.IntN(int(5 * time.Second)))
			case 3:
				mono = !mono
				s.mono = mono
			}
			steps = append(steps, s)
		}
		checkRun(t, steps)
	}
}

// FuzzTracker: three bytes a frame.
func FuzzTracker(f *testing.F) {
	f.Add([]byte{200, 10, 0, 10, 10, 0, 10, 100, 0, 200, 10, 1, 255, 10, 2, 10, 10, 3})
	f.Add([]byte{128, 0, 0, 127, 255, 2, 0, 255, 0, 102, 1, 0, 101, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var steps []step
		for ; len(data) >= 3 && len(steps) < 300; data = data[3:] {
			s := step{float32(data[0]) / 254, time.Duration(data[1]) * 10 * time.Millisecond, data[2]&1 == 0}
			if data[0] == 255 {
				s.score = broken
			}
			if data[2]&2 != 0 {
				s.passed *= -100
			}
			steps = append(steps, s)
		}
		checkRun(t, steps)
	})
}

// TestExtremeMoments: no time, however absurd, makes a duration negative.
func TestExtremeMoments(t *testing.T) {
	times := []int64{math.MinInt64, -1, 0, 1, math.MaxInt64}
	r := rand.New(rand.NewPCG(11, 12))
	tr := tracked(t, time.Second)
	went := 0
	for range 20_000 {
		m := Moment{times[r.IntN(len(times))], times[r.IntN(len(times))], r.Uint64()}
		for _, e := range tr.Update(score(r.Float32()), m) {
			if e.Duration < 0 {
				t.Fatalf("%+v", e)
			}
			if !e.Appeared {
				went++
			}
		}
	}
	if went == 0 {
		t.Error("it never went")
	}
}
