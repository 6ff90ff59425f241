package labels

import "time"

// Moment is when a frame was captured.
type Moment struct {
	Wall     int64  // ns since 1970 UTC; 0: unknown
	Mono     int64  // ns of a clock that is never set; 0: unknown
	Sequence uint64 // of the frame
}

// Reason says why a label appeared or went.
type Reason string

const (
	ReasonScore    Reason = "score"
	ReasonLabels   Reason = "labels-changed"
	ReasonCamera   Reason = "camera"
	ReasonStopping Reason = "stopping"
)

// Event is a label that appeared or went.
type Event struct {
	Label    int  // index in the set
	Appeared bool // else it went
	At       Moment
	Since    Moment        // when it appeared
	Score    float32       // the newest
	Peak     float32       // the best since it appeared
	Duration time.Duration // from Since to At, never negative; 0 when it appeared
	Reason   Reason
}

// Tracker follows which labels of one camera, or of one region of it, are present. One goroutine at a time may use it.
type Tracker struct {
	set *Compiled
}

// NewTracker follows the labels of c, none of which is present yet.
func NewTracker(c *Compiled) *Tracker { return &Tracker{set: c} }

// Update takes the scores of one frame, in the set's order, and returns what they changed, in the set's order too. The
// events are valid until the next call of Update or Finish.
func (t *Tracker) Update(scores []Score, at Moment) []Event { panic("labels: not there yet") }

// Present reports whether label i is present, and since when (Wall of the frame it appeared in).
func (t *Tracker) Present(i int) (since int64, ok bool) { panic("labels: not there yet") }

// Finish makes every label that is present go, for a reason other than its score. The tracker can be used on; nothing is
// present then. An unknown moment stands for that of the last Update.
func (t *Tracker) Finish(at Moment, reason Reason) []Event { panic("labels: not there yet") }
