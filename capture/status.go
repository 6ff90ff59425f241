package capture

import "time"

// State is what a camera is doing.
type State string

// The states of a camera; the words are those of the status topic.
const (
	// Connecting: a worker is being started, is opening the source, or the
	// back-off before the next attempt runs.
	Connecting State = "connecting"
	// NoPicture: the source is open and has not given a picture yet.
	NoPicture State = "no-picture"
	// Online: frames arrive.
	Online State = "online"
	// Stalled: frames arrived and no longer do; the worker will be restarted if
	// that lasts.
	Stalled State = "stalled"
	// Disabled: switched off by SetEnabled, ended, or stopped.
	Disabled State = "disabled"
)

// Status is a snapshot of a camera. Its JSON form is fit for the status topic.
type Status struct {
	Name   string    `json:"name"`
	State  State     `json:"state"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	// Source is the URI with its password removed.
	Source string `json:"source"`
	// Ended is true once a source without loop has given its last frame.
	Ended bool `json:"ended"`

	// Frames were handed out by Next; Captured were read from the source.
	Frames   uint64 `json:"frames"`
	Captured uint64 `json:"captured"`
	Drops    Drops  `json:"drops"`
	// Restarts counts workers started because the one before failed.
	Restarts uint64 `json:"restarts"`

	// Width, Height (pixels), FPS, Format and Clock describe the open source; zero
	// before the first opening. FPS is what the source says of itself, 0 if nothing.
	Width  int     `json:"width"`
	Height int     `json:"height"`
	FPS    float64 `json:"fps"`
	Format string  `json:"format"`
	Clock  string  `json:"clock"`
	// PID is the worker's process id, 0 while none runs.
	PID int `json:"pid"`
}
