package api

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// EventKind is what became of a label.
type EventKind string

// What may become of a label.
const (
	LabelAppeared EventKind = "appeared"
	LabelGone     EventKind = "gone"
)

// EventReason is why a label appeared or went.
type EventReason string

// Reasons. All but the first are of labels that went without having been seen to.
const (
	ReasonScore         EventReason = "score"          // it rose to the threshold, or stayed below threshold less hysteresis for the hold time
	ReasonLabelsChanged EventReason = "labels-changed" // another set, without the label or with other settings of it, or other regions took over
	ReasonCamera        EventReason = "camera"         // the camera gives no more frames
	ReasonStopping      EventReason = "stopping"       // the node ends
)

// LabelEvent says that a label appeared or went, published when it does, with QoS 1 and
// not retained. It may arrive twice: boot_id, sequence, label, region and event of a camera
// identify it.
type LabelEvent struct {
	BootID     string      `json:"boot_id"`
	Camera     string      `json:"camera"`   // as in the topic
	Sequence   uint64      `json:"sequence"` // of the frame that decided it; of the last one for other reasons than score
	Label      string      `json:"label"`
	Region     string      `json:"region"` // name; empty: the whole frame
	Event      EventKind   `json:"event"`
	Reason     EventReason `json:"reason"`
	LabelSet   string      `json:"label_set"`   // short hash of the set in force; a label may outlast it, if the next has the same one
	AtNS       int64       `json:"at_ns"`       // capture time of the frame, ns since 1970 UTC
	SinceNS    int64       `json:"since_ns"`    // when the label appeared, same clock; equals at_ns when it just did
	DurationNS int64       `json:"duration_ns"` // it was present, by the monotonic clock; 0 when it just appeared
	Score      float32     `json:"score"`       // 0 to 1: now
	Peak       float32     `json:"peak"`        // 0 to 1: greatest since it appeared
}

// Check reports what makes an event unfit to be published or acted upon.
func (e *LabelEvent) Check() error {
	if err := ValidName(e.Camera); err != nil {
		return fmt.Errorf("event: camera: %w", err)
	}
	switch {
	case e.Label == "":
		return errors.New("event: label is empty")
	case !utf8.ValidString(e.Label):
		return fmt.Errorf("event: label %.64q is not valid UTF-8", e.Label)
	case !utf8.ValidString(e.Region):
		return fmt.Errorf("event: region %.64q is not valid UTF-8", e.Region)
	case e.Event != LabelAppeared && e.Event != LabelGone:
		return fmt.Errorf("event: %.64q is unknown: %q and %q are known", e.Event, LabelAppeared, LabelGone)
	case e.Reason == "":
		return errors.New("event: reason is empty")
	case e.DurationNS < 0:
		return fmt.Errorf("event: duration of %d ns is negative", e.DurationNS)
	}
	for _, s := range []struct {
		name  string
		value float32
	}{{"score", e.Score}, {"peak", e.Peak}} {
		if v := float64(s.value); math.IsNaN(v) || v < 0 || v > 1 {
			return fmt.Errorf("event: %s is %v: 0 to 1 is possible", s.name, v)
		}
	}
	return nil
}

// ParseLabelEvent reads an event. Reasons that this version does not know are let
// through.
func ParseLabelEvent(data []byte) (*LabelEvent, error) {
	e := new(LabelEvent)
	if err := decodeJSON(data, e); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if err := e.Check(); err != nil {
		return nil, err
	}
	return e, nil
}
