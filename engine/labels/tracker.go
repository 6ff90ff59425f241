package labels

import (
	"fmt"
	"math"
	"time"
)

// Moment is when a frame was captured.
type Moment struct {
	Wall     int64  // ns since 1970 UTC; 0: unknown
	Mono     int64  // ns of a clock that is never set; 0: unknown
	Sequence uint64 // of the frame
}

func (m Moment) known() bool { return m.Wall != 0 || m.Mono != 0 }

// Reason says why a label appeared or went.
type Reason string

const (
	ReasonScore    Reason = "score"          // it did
	ReasonLabels   Reason = "labels-changed" // went: the camera has another set now, without it or with other settings
	ReasonCamera   Reason = "camera"         // went: the camera is off
	ReasonStopping Reason = "stopping"       // went: the program ends
)

// Event is a label that appeared or went. One label's events alternate, beginning with an appearance.
type Event struct {
	Label    int    // index in the set
	Appeared bool   // else it went
	At       Moment // of the frame that decided
	Since    Moment // when it appeared
	Score    float32
	Peak     float32       // the best score since it appeared
	Duration time.Duration // from Since to At, never negative; 0 when it appeared
	Reason   Reason
}

// Tracker follows which labels of one camera, or of one region of it, are present. One goroutine at a time may use it.
//
// A label appears with the first frame whose score reaches its threshold. It goes with the first frame at which its score
// has been below threshold - hysteresis for at least hold, in every frame of that time; a single frame that is not below
// begins the wait anew.
//
// Time is what passed between captures, by their monotonic time, or by the wall clock where a frame has no other. A step
// backwards counts as no time, so that a clock that is set back delays nothing by more than one frame.
type Tracker struct {
	set    *Compiled
	states []presence
	events []Event

	last Moment // of the newest frame whose time is known
}

// presence is the state of one label.
type presence struct {
	present bool
	fading  bool // the score is below what keeps it present
	since   Moment
	score   float32
	peak    float32

	// Time that passed since it appeared, and since it began to fade. They are sums of what passed from frame to frame and
	// no differences of two clock readings, which a clock that was set between them would spoil.
	presentFor, fadingFor time.Duration
}

// pass lets time pass for a label.
func (p *presence) pass(d time.Duration) {
	p.presentFor += min(d, math.MaxInt64-p.presentFor)
	p.fadingFor += min(d, math.MaxInt64-p.fadingFor)
}

// NewTracker follows the labels of c, none of which is present yet.
func NewTracker(c *Compiled) *Tracker {
	return &Tracker{set: c, states: make([]presence, c.Len()), events: make([]Event, 0, c.Len())}
}

// Update takes the scores of one frame, in the set's order, and returns what they changed, in the set's order too. The
// events are valid until the next call of Update or Finish. A broken score changes nothing, as if its frame had not been.
func (t *Tracker) Update(scores []Score, at Moment) []Event {
	if len(scores) != len(t.states) {
		panic(fmt.Sprintf("labels: tracker of %d labels updated with %d scores", len(t.states), len(scores)))
	}
	passed := t.advance(at)
	t.events = t.events[:0]
	for i := range scores {
		s, p, l := scores[i].Score, &t.states[i], &t.set.limits[i]
		p.pass(passed)
		if scores[i].Broken || s != s {
			continue
		}
		p.score = s
		if !p.present {
			if s >= l.reach {
				t.appear(i, at)
			}
			continue
		}
		p.peak = max(p.peak, s)
		if s >= l.keep {
			p.fading = false
			continue
		}
		if !p.fading {
			p.fading, p.fadingFor = true, 0
		}
		if p.fadingFor >= l.hold {
			t.leave(i, at, ReasonScore)
		}
	}
	return t.events
}

// advance takes the time of a frame and returns what passed since the one before, at least 0.
func (t *Tracker) advance(at Moment) time.Duration {
	if !at.known() {
		return 0
	}
	var passed int64
	if at.Mono != 0 && t.last.Mono != 0 {
		passed = at.Mono - t.last.Mono
	} else if at.Wall != 0 && t.last.Wall != 0 {
		passed = at.Wall - t.last.Wall
	}
	t.last = at
	return time.Duration(max(passed, 0))
}

func (t *Tracker) appear(i int, at Moment) {
	p := &t.states[i]
	p.present, p.fading = true, false
	p.since, p.presentFor, p.peak = at, 0, p.score
	t.events = append(t.events, Event{Label: i, Appeared: true, At: at, Since: at, Score: p.score, Peak: p.peak, Reason: ReasonScore})
}

func (t *Tracker) leave(i int, at Moment, reason Reason) {
	p := &t.states[i]
	p.present, p.fading = false, false
	t.events = append(t.events, Event{
		Label: i, At: at, Since: p.since, Score: p.score, Peak: p.peak, Duration: p.presentFor, Reason: reason,
	})
}

// Present reports whether label i is present, and since when: the wall-clock time of the frame it appeared in, ns since 1970.
func (t *Tracker) Present(i int) (since int64, ok bool) {
	if p := &t.states[i]; p.present {
		return p.since.Wall, true
	}
	return 0, false
}

// Finish makes every label that is present go, for a reason other than its score; the events are those of Update. The
// tracker can be used on, nothing is present then. An unknown moment stands for that of the last Update.
func (t *Tracker) Finish(at Moment, reason Reason) []Event {
	passed := t.advance(at)
	if !at.known() {
		at = t.last
	}
	t.events = t.events[:0]
	for i := range t.states {
		t.states[i].pass(passed)
		if t.states[i].present {
			t.leave(i, at, reason)
		}
	}
	return t.events
}

// Replace is a tracker for another set, for the same model, that goes on from this one: labels that are in both sets with
// the same texts and settings stay as they are, those present since they appeared and with their peak. All others that are
// present go; the events of that are those of Finish, at the moment of the last Update. Nothing is present for t then.
func (t *Tracker) Replace(c *Compiled, reason Reason) (next *Tracker, gone []Event) {
	next = NewTracker(c)
	next.last = t.last
	places := make(map[string]int, len(t.states))
	for i := range t.states {
		places[t.set.Name(i)] = i
	}
	for i := range next.states {
		from, ok := places[c.Name(i)]
		if !ok || !c.labels[i].equal(&t.set.labels[from]) {
			continue
		}
		next.states[i], t.states[from] = t.states[from], presence{}
	}
	return next, t.Finish(Moment{}, reason)
}
