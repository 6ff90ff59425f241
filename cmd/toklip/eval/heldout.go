package eval

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// HeldOut is the truth of rendered frames that a demo model was not trained on: what is to be seen in each.
type HeldOut struct {
	Size      int              `json:"size"`       // edge of the frames, pixels
	MinPixels int              `json:"min_pixels"` // an object of fewer is neither there nor not
	Classes   []string         `json:"classes"`
	Colours   []string         `json:"colours"`
	Templates []string         `json:"templates"` // of the labels' prompts
	Frames    []HeldOutFrame   `json:"frames"`
	Captions  []HeldOutCaption `json:"captions"`
}

// HeldOutFrame is one picture.
type HeldOutFrame struct {
	File    string          `json:"file"`    // beside the truth
	Objects []HeldOutObject `json:"objects"` // every one that has a pixel
}

// HeldOutObject is something to be seen.
type HeldOutObject struct {
	Class  string `json:"class"`
	Colour string `json:"colour"`
	Pixels int    `json:"pixels"` // that it covers
}

// HeldOutCaption is a text and the frames that it is true of.
type HeldOutCaption struct {
	Text   string `json:"text"`
	TrueOf []int  `json:"true_of"` // in HeldOut.Frames; at least one
}

// maxHeldOutBytes bounds a truth file: some 100 000 frames.
const maxHeldOutBytes = 64 << 20

// ReadHeldOut reads a truth file and checks that all of it fits together.
func ReadHeldOut(r io.Reader) (*HeldOut, error) {
	text, err := readText(r, maxHeldOutBytes)
	if err != nil {
		return nil, err
	}
	var h HeldOut
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, located(text, 0, err)
	}
	if err := h.validate(); err != nil {
		return nil, err
	}
	return &h, nil
}

func (h *HeldOut) validate() error {
	switch {
	case h.Size < 1:
		return fmt.Errorf("size is %d", h.Size)
	case h.MinPixels < 1 || h.MinPixels > h.Size*h.Size:
		return fmt.Errorf("min_pixels is %d of a frame's %d", h.MinPixels, h.Size*h.Size)
	case len(h.Classes) == 0 || len(h.Templates) == 0:
		return errors.New("classes and templates must be named")
	case len(h.Frames) == 0:
		return errors.New("no frames in it")
	}
	for _, list := range []struct {
		name  string
		words []string
	}{{"classes", h.Classes}, {"colours", h.Colours}} {
		for i, word := range list.words {
			if strings.TrimSpace(word) == "" || slices.Contains(list.words[:i], word) {
				return fmt.Errorf("%s[%d]: %q is empty or stands twice", list.name, i, clip(word))
			}
		}
	}
	for i, template := range h.Templates {
		if !strings.Contains(template, Slot) {
			return fmt.Errorf("templates[%d]: %q has no %s", i, clip(template), Slot)
		}
	}
	files := map[string]bool{}
	for i, frame := range h.Frames {
		// A truth file names its neighbours and nothing else.
		if frame.File == "" || frame.File == "." || frame.File == ".." || strings.ContainsAny(frame.File, "/\\\x00") || files[frame.File] {
			return fmt.Errorf("frames[%d].file: %q is no name of a file of its own beside the truth", i, clip(frame.File))
		}
		files[frame.File] = true
		for k, o := range frame.Objects {
			switch {
			case !slices.Contains(h.Classes, o.Class):
				return fmt.Errorf("frames[%d].objects[%d]: class %q is none of classes", i, k, clip(o.Class))
			case !slices.Contains(h.Colours, o.Colour):
				return fmt.Errorf("frames[%d].objects[%d]: colour %q is none of colours", i, k, clip(o.Colour))
			case o.Pixels < 1 || o.Pixels > h.Size*h.Size:
				return fmt.Errorf("frames[%d].objects[%d]: %d pixels of %d", i, k, o.Pixels, h.Size*h.Size)
			}
		}
	}
	for i, caption := range h.Captions {
		if strings.TrimSpace(caption.Text) == "" || len(caption.TrueOf) == 0 {
			return fmt.Errorf("captions[%d]: a text and the frames it is true of are needed", i)
		}
		for _, frame := range caption.TrueOf {
			if frame < 0 || frame >= len(h.Frames) {
				return fmt.Errorf("captions[%d] (%s): frame %d of %d", i, clip(caption.Text), frame, len(h.Frames))
			}
		}
	}
	return nil
}

// HeldOutLabel is something a model is asked about: a class, or a class in a colour.
type HeldOutLabel struct{ Class, Colour string }

// String is the label's name.
func (l HeldOutLabel) String() string {
	if l.Colour == "" {
		return l.Class
	}
	return l.Colour + " " + l.Class
}

// Labels are the classes, then every class in every colour.
func (h *HeldOut) Labels() []HeldOutLabel {
	var all []HeldOutLabel
	for _, class := range h.Classes {
		all = append(all, HeldOutLabel{Class: class})
	}
	for _, colour := range h.Colours {
		for _, class := range h.Classes {
			all = append(all, HeldOutLabel{class, colour})
		}
	}
	return all
}

// Present says whether the label is to be seen: an object of it covers MinPixels. It is not judged, and ok is false, where
// all that there is of it is smaller.
func (h *HeldOut) Present(frame int, label HeldOutLabel) (present, ok bool) {
	sliver := false
	for _, o := range h.Frames[frame].Objects {
		if o.Class != label.Class || label.Colour != "" && o.Colour != label.Colour {
			continue
		}
		if o.Pixels >= h.MinPixels {
			return true, true
		}
		sliver = true
	}
	return false, !sliver
}
