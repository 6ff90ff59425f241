package watch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

// mostLabels and mostRegions are what is kept of a message's labels and regions.
const (
	mostLabels  = 4
	mostRegions = 4
)

// labelView is a label and how well it fits.
type labelView struct {
	Label   string
	Score   float64 // 0 to 1
	Present bool
	Since   time.Duration // it has been present for so long; 0: unknown
}

// regionView is the label that fits a region of the frame best.
type regionView struct {
	Region string
	labelView
}

// labelState is the last labels of a camera.
type labelState struct {
	set     string // hash of what they belong to
	labels  []labelView
	regions []regionView

	labelsAt, regionsAt time.Time // arrival of the last message of either
}

// show makes the labels of a message those that are shown.
func (s *labelState) show(m *toklipv1.Labels, kind api.Kind, at time.Time) {
	s.follow(m.Header.LabelSet)
	if kind == api.KindRegions || kind == api.KindRegionsJSON {
		s.regions, s.regionsAt = regionViews(m), at
		return
	}
	s.labels, s.labelsAt = labelViews(m), at
}

// follow forgets labels when frames are scored against others.
func (s *labelState) follow(set string) {
	if s.set != set {
		*s = labelState{set: set}
	}
}

// aged are the labels as of a frame that came at a later time: those that are present
// still are, or there would have been a message.
func (s *labelState) aged(at time.Time) ([]labelView, []regionView) {
	labels, regions := slices.Clone(s.labels), slices.Clone(s.regions)
	for i := range labels {
		labels[i].age(max(0, at.Sub(s.labelsAt)))
	}
	for i := range regions {
		regions[i].age(max(0, at.Sub(s.regionsAt)))
	}
	return labels, regions
}

func (v *labelView) age(by time.Duration) {
	if v.Since > 0 {
		v.Since += by
	}
}

func newLabelView(l *toklipv1.Label, h *toklipv1.Header) labelView {
	v := labelView{Label: clean(l.GetLabel(), 24), Score: float64(l.GetScore()), Present: l.GetPresent()}
	if !(v.Score > 0) { // NaN too
		v.Score = 0
	}
	v.Score = min(v.Score, 1)
	if since := l.GetSinceNs(); v.Present && since > 0 && h.GetCaptureWallNs() > since {
		v.Since = time.Duration(h.GetCaptureWallNs() - since) // both by the node's clock
	}
	return v
}

// labelViews are the first labels of a message, those that are present before others.
func labelViews(m *toklipv1.Labels) []labelView {
	out := make([]labelView, 0, mostLabels)
	for _, present := range []bool{true, false} {
		for _, l := range m.Labels {
			if len(out) == mostLabels {
				return out
			}
			if l.GetPresent() == present {
				out = append(out, newLabelView(l, m.Header))
			}
		}
	}
	return out
}

// regionViews are the first regions of a message, each with the label that fits it best,
// or the best one of those that are present.
func regionViews(m *toklipv1.Labels) []regionView {
	var names []string
	var best []*toklipv1.Label
	for _, l := range m.Labels {
		i := slices.Index(names, l.GetRegion())
		switch {
		case i < 0 && len(names) == mostRegions:
		case i < 0:
			names, best = append(names, l.GetRegion()), append(best, l)
		case l.GetPresent() && !best[i].GetPresent(),
			l.GetPresent() == best[i].GetPresent() && l.GetScore() > best[i].GetScore():
			best[i] = l
		}
	}
	out := make([]regionView, len(names))
	for i, name := range names {
		out[i] = regionView{clean(name, 24), newLabelView(best[i], m.Header)}
	}
	return out
}

// presentMark stands before a label that is present.
const presentMark = "●"

func (v *labelView) text() string {
	text := fmt.Sprintf("%s %.2f", v.Label, v.Score)
	if v.Present {
		return presentMark + " " + text
	}
	return text
}

func labelsText(labels []labelView, width int) string {
	parts := make([]string, len(labels))
	for i := range labels {
		parts[i] = labels[i].text()
	}
	return clean(strings.Join(parts, " · "), width)
}

func regionsText(regions []regionView, width int) string {
	parts := make([]string, len(regions))
	for i := range regions {
		parts[i] = regions[i].Region + ": " + regions[i].text()
	}
	return clean(strings.Join(parts, " · "), width)
}

// labelLine draws a label in width columns, its name padded to so many: with a bar, and
// for how long it has been present, if there is room. Lines of one card stand in columns.
func (t *theme) labelLine(v *labelView, name, width int) string {
	const (
		mark, score, since      = 2, 5, 8
		shortestBar, longestBar = 4, 16
		barBesideSince          = 6 // at least
	)
	name = min(name, max(8, width-mark-score))
	line, style := "  ", t.plain
	if v.Present {
		line, style = t.good.Render(presentMark)+" ", t.good
	}
	line += style.Render(pad(ansi.Truncate(v.Label, name, "…"), name))
	bar, tail := width-mark-name-1-score, fmt.Sprintf(" %.2f", v.Score)
	if bar >= barBesideSince+since {
		bar -= since
		if v.Since > 0 {
			tail += "  " + t.dim.Render(spanText(v.Since))
		}
	}
	if bar = min(bar, longestBar); bar >= shortestBar {
		line += " " + style.Render(progressBar(v.Score, bar))
	}
	return line + tail
}

// labelRows are the lines of a card that tell of labels, each with what stands left of it.
func (t *theme) labelRows(c *cameraView, width int) [][2]string {
	name := 0
	for i := range c.Labels {
		name = max(name, ansi.StringWidth(c.Labels[i].Label))
	}
	for i := range c.Regions {
		name = max(name, ansi.StringWidth(c.Regions[i].Label))
	}
	var out [][2]string
	for i := range c.Labels {
		left := ""
		if i == 0 {
			left = "labels"
		}
		out = append(out, [2]string{left, t.labelLine(&c.Labels[i], name, width)})
	}
	for i := range c.Regions {
		left := "in " + c.Regions[i].Region
		if c.Regions[i].Region == "" {
			left = "in the frame"
		}
		out = append(out, [2]string{left, t.labelLine(&c.Regions[i].labelView, name, width)})
	}
	if e := c.Event; e != nil {
		style := t.plain
		if e.Appeared {
			style = t.good
		}
		text := ansi.Truncate(e.At.Format("15:04:05")+" "+e.Text, max(0, width), "…")
		out = append(out, [2]string{"last event", style.Render(text)})
	}
	return out
}

// eventView is an event of a label.
type eventView struct {
	At       time.Time // of arrival
	Appeared bool
	Text     string
}

func newEventView(e *api.LabelEvent, at time.Time) *eventView {
	return &eventView{At: at, Appeared: e.Event == api.LabelAppeared, Text: strings.Join(eventWords(e), ", ")}
}

// eventWords say what happened: "red box gone", "after 3.2 s", "peak 0.93".
func eventWords(e *api.LabelEvent) []string {
	what := clean(e.Label, 40) + " " + clean(string(e.Event), 12)
	if e.Region != "" {
		what += " in " + clean(e.Region, 24)
	}
	if e.Event == api.LabelAppeared {
		return []string{what, fmt.Sprintf("score %.2f", e.Score)}
	}
	out := []string{what, "after " + spanText(time.Duration(e.DurationNS)), fmt.Sprintf("peak %.2f", e.Peak)}
	if e.Reason != api.ReasonScore {
		out = append(out, clean(string(e.Reason), 24))
	}
	return out
}
