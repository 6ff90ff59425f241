package watch

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"

	"github.com/toklip/toklip/api"
)

// viewOptions say how to draw a snapshot.
type viewOptions struct {
	Width    int // columns, at least 40 are drawn
	Height   int // lines; 0: as many as there are
	Selected int // camera, counted through all nodes
	Grid     bool
	Help     bool
	Paused   bool
}

// render draws s. It depends on nothing but its arguments. No line is wider than
// o.Width, and there are at most o.Height of them.
func (t *theme) render(s *snapshot, o viewOptions) string {
	o.Width = max(o.Width, 40)
	head := []string{t.headLine(s, o), ""}
	foot := t.footLines(s, o)
	room := 0
	if o.Height > 0 {
		room = max(1, o.Height-len(head)-len(foot))
	}
	var body []string
	switch {
	case o.Help:
		body = t.helpLines()
	case len(s.Nodes) == 0:
		body = t.emptyLines(s)
	default:
		var from, to int
		body, from, to = t.body(s, o, false)
		if room > 0 && len(body) > room {
			body, from, to = t.body(s, o, true)
		}
		if room > 0 && len(body) > room {
			// Keep the selected camera in sight; its top, if it is larger than the room.
			at := min(max(0, to-room), from)
			body = body[at:min(len(body), at+room)]
		}
	}
	if room > 0 && len(body) > room {
		body = body[:room]
	}
	for room > 0 && len(body) < room {
		body = append(body, "")
	}
	lines := append(append(head, body...), foot...)
	if o.Height > 0 && len(lines) > o.Height {
		lines = lines[:o.Height]
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight(ansi.Truncate(line, o.Width, "…"), " ")
	}
	return strings.Join(lines, "\n")
}

func (t *theme) headLine(s *snapshot, o viewOptions) string {
	link := t.good.Render("● connected")
	switch {
	case s.Link.Connected:
	case s.Link.Connects > 0:
		link = t.bad.Render("● " + s.Link.Err + ", connecting again")
	case s.Link.Err != "":
		link = t.warn.Render("● " + s.Link.Err + ", trying again")
	default:
		link = t.warn.Render("● connecting")
	}
	left := " " + t.name.Render("toklip") + "   " + s.Link.Broker + " " + link
	if o.Paused {
		left += "   " + t.warn.Render("paused")
	}
	clock := s.At.Format("15:04:05") + " "
	full := clock
	if s.Messages > 0 {
		full = fmt.Sprintf("%s msg/s · %s/s · %s", rateText(s.Rate), sizeText(s.ByteRate), clock)
	}
	if ansi.StringWidth(left)+2+ansi.StringWidth(full) > o.Width {
		full = clock
	}
	return spread2(left, t.dim.Render(full), o.Width)
}

// spread2 puts two texts at both ends of a line; the right one is left out if there is
// no room.
func spread2(left, right string, width int) string {
	gap := width - ansi.StringWidth(left) - ansi.StringWidth(right)
	if gap < 2 || strings.TrimSpace(ansi.Strip(right)) == "" {
		return left
	}
	return left + strings.Repeat(" ", gap) + right
}

func (t *theme) footLines(s *snapshot, o viewOptions) []string {
	var out []string
	if !o.Help && len(s.Others) > 0 {
		out = append(out, "", " "+t.name.Render("other messages"))
		for _, other := range s.Others {
			line := "   " + other.Topic + "  "
			if other.Reason != "" {
				line += t.warn.Render(other.Reason) + "  "
			}
			line += t.dim.Render(other.Text)
			if other.Count > 1 {
				line += t.dim.Render(fmt.Sprintf("  %s times", countText(uint64(other.Count))))
			}
			out = append(out, line)
		}
	}
	var notes []string
	note := func(n uint64, text string) {
		if n > 0 {
			notes = append(notes, countText(n)+" "+text)
		}
	}
	note(s.Broken, "could not be decoded")
	note(s.Refused, fmt.Sprintf("of nodes and cameras beyond %d and %d", mostNodes, mostCameras))
	note(s.Dropped, "dropped here, too fast")
	keys := t.dim.Render(" q quit   p pause   ⇥ camera   g grid   ? help")
	return append(out, "", spread2(keys, t.warn.Render(strings.Join(notes, " · "))+" ", o.Width))
}

func (t *theme) emptyLines(s *snapshot) []string {
	switch {
	case !s.Link.Connected:
		return []string{"   Waiting for the broker.", "", t.dim.Render("   In another terminal, `toklip run --demo` starts a node with a broker.")}
	case s.Messages > 0:
		return []string{"   Messages arrive, but none of a toklip node."}
	}
	return []string{"   Connected, but nothing is published yet.", "", t.dim.Render("   In another terminal, `toklip run --demo` starts a node.")}
}

func (t *theme) helpLines() []string {
	rows := [][2]string{
		{"q, Esc, Ctrl-C", "quit"},
		{"p, Space", "pause: the view stands still, counting goes on"},
		{"Tab, arrows", "select a camera; if room is short, only it is shown in full"},
		{"g", "grid of tokens on or off"},
		{"?", "this help"},
		{},
		{"rate", fmt.Sprintf("frames a second over %.0f s; bars: the last half minute", rateWindow.Seconds())},
		{"since capture", "age of a frame when its message was here: median and p99"},
		{"node", "how much of that the last frame spent in the daemon"},
		{"since publish", "from sending until here: broker and network"},
		{"clocks differ", "sender's and this machine's disagree: synchronise them"},
		{"changed", "cells with another token than before; they flash"},
		{"key", "share of keyframes, computed without regard to the last"},
		{"reused", "share of frames without a new token: embedding is the last"},
		{"gaps", "numbers missing in the sequence of frames"},
		{"lost on the way", "gaps that no drop counted by the node explains"},
		{"dropped", "what the node dropped since it started, by cause"},
		{"labels", "the best scores, 0 to 1; ● present, and for how long"},
		{"in …", "the best label in that region of the frame"},
	}
	out := make([]string, 0, len(rows))
	for _, r := range rows {
		line := ""
		if r[0] != "" {
			line = "   " + t.accent.Render(pad(r[0], 18)) + r[1]
		}
		out = append(out, line)
	}
	return out
}

// body draws nodes and cameras. Compact, only the selected camera has a card. It returns
// where the selected camera is.
func (t *theme) body(s *snapshot, o viewOptions, compact bool) (lines []string, from, to int) {
	width := o.Width - 2
	columns := 1
	if !compact {
		columns = max(1, (width+1)/(cardLeast+1))
	}
	cardWidth := min((width-columns+1)/columns, cardMost)
	index := 0
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if i > 0 {
			lines = append(lines, "")
		}
		lines = append(lines, t.nodeLines(n, s.At, o.Width)...)
		for at := 0; at < len(n.Cameras); {
			if compact && index != o.Selected {
				lines = append(lines, " "+t.row(&n.Cameras[at], width, false))
				at++
				index++
				continue
			}
			var cards [][]string
			for range min(columns, len(n.Cameras)-at) {
				if index == o.Selected {
					from = len(lines)
				}
				cards = append(cards, t.card(&n.Cameras[at], cardWidth, index == o.Selected, o.Grid))
				at++
				index++
			}
			block := beside(cards, cardWidth)
			for _, line := range block {
				lines = append(lines, " "+line)
			}
			if o.Selected < index && o.Selected >= index-len(cards) {
				to = len(lines)
			}
		}
	}
	return lines, from, to
}

// beside puts cards side by side, filling up the shorter ones.
func beside(cards [][]string, width int) []string {
	tallest := 0
	for _, c := range cards {
		tallest = max(tallest, len(c))
	}
	out := make([]string, tallest)
	for i := range out {
		var b strings.Builder
		for k, c := range cards {
			if k > 0 {
				b.WriteByte(' ')
			}
			if i < len(c) {
				b.WriteString(c[i])
			} else {
				b.WriteString(strings.Repeat(" ", width))
			}
		}
		out[i] = b.String()
	}
	return out
}

func (t *theme) nodeLines(n *nodeView, now time.Time, width int) []string {
	style, words := t.nodeState(n)
	left := " " + style.Render("●") + " " + t.name.Render(n.Name) + "  " + style.Render(words)
	if n.Info != nil {
		left += "   " + n.Info.text()
	}
	right := ""
	if p := n.Process; p != nil {
		right = fmt.Sprintf("up %s · cpu %.2f · %s ", spanText(p.Uptime), p.CPU, sizeText(float64(p.RSS+p.Workers)))
	} else if n.Info != nil && n.Available != api.Offline {
		if up, ok := sinceNS(n.Info.Started, now); ok && up > 0 {
			right = "up " + spanText(up) + " "
		}
	}
	out := []string{spread2(left, t.dim.Render(right), width)}
	if st := n.State; st != nil && n.Available != api.Offline {
		if st.Step != "" {
			line := "   " + progressBar(st.Done, 24) + " " + lead(shareText(st.Done), 5) + "  " + st.Step
			if st.Left > 0 {
				line += " · about " + spanText(st.Left) + " left"
			}
			out = append(out, t.accent.Render(line))
		}
		if st.Reason != "" {
			out = append(out, "   "+style.Render(st.Reason))
		}
	}
	if n.Restarts > 0 {
		times := "once"
		if n.Restarts > 1 {
			times = fmt.Sprintf("%d times", n.Restarts)
		}
		out = append(out, "   "+t.warn.Render("started again "+times+" while watched"))
	}
	return out
}

func (t *theme) nodeState(n *nodeView) (lipgloss.Style, string) {
	switch {
	case n.Available == api.Offline:
		return t.bad, "offline"
	case n.State == nil && n.Available == api.Online:
		return t.good, "online"
	case n.State == nil:
		return t.dim, "availability unknown"
	}
	switch api.NodeState(n.State.State) {
	case api.StateReady:
		return t.good, n.State.State
	case api.StateDegraded:
		return t.warn, n.State.State
	}
	return t.accent, n.State.State
}

func progressBar(done float64, width int) string {
	full := min(width, max(0, int(done*float64(width)+0.5)))
	return strings.Repeat("━", full) + strings.Repeat("╌", width-full)
}
