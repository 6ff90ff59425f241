package watch

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"

	"github.com/toklip/toklip/api"
)

const (
	cardLeast  = 72 // columns that a card wants
	cardMost   = 100
	labelWidth = 14
	valueWidth = 10
	// silentAfter is when a camera that ought to send is called silent.
	silentAfter = 3 * time.Second
)

// card draws a camera in a box of width columns.
func (t *theme) card(c *cameraView, width int, selected, grid bool) []string {
	inner := width - 4
	var cells []string
	cellsWidth := 0
	if grid {
		if cells, cellsWidth = t.grid.paint(c.Grid); cellsWidth > 0 && inner-cellsWidth < 34 {
			cells, cellsWidth = nil, 0 // figures first
		}
	}
	room := inner
	if cellsWidth > 0 {
		room -= cellsWidth + 3
	}
	facts := t.facts(c, room)
	border := t.dim
	if selected {
		border = t.accent
	}
	side := border.Render("│")
	lines := []string{t.cardTop(c, width, border, selected)}
	for i := range max(len(cells), len(facts)) {
		var b strings.Builder
		b.WriteString(side + " ")
		if cellsWidth > 0 {
			if i < len(cells) {
				b.WriteString(cells[i])
			} else {
				b.WriteString(strings.Repeat(" ", cellsWidth))
			}
			b.WriteString("   ")
		}
		fact := ""
		if i < len(facts) {
			fact = facts[i]
		}
		b.WriteString(fit(fact, room))
		b.WriteString(" " + side)
		lines = append(lines, b.String())
	}
	return append(lines, border.Render("╰"+strings.Repeat("─", width-2)+"╯"))
}

func (t *theme) cardTop(c *cameraView, width int, border lipgloss.Style, selected bool) string {
	style, status := t.status(c)
	name := t.name.Render(ansi.Truncate(c.Name, width/2, "…"))
	if selected {
		name = t.accent.Bold(true).Render("▸ " + ansi.Truncate(c.Name, width/2, "…"))
	}
	right := style.Render("● " + status)
	fill := width - 8 - ansi.StringWidth(name) - ansi.StringWidth(right)
	return border.Render("╭─ ") + name + " " + border.Render(strings.Repeat("─", max(0, fill))) + " " + right + border.Render(" ─╮")
}

// status says how a camera is, and in which colour.
func (t *theme) status(c *cameraView) (lipgloss.Style, string) {
	if c.NodeOffline {
		return t.bad, "node offline"
	}
	if c.Status == nil {
		if c.Frames > 0 && c.Idle < silentAfter {
			return t.good, "receiving"
		}
		return t.dim, "no status"
	}
	switch c.Status.State {
	case api.CameraOnline:
		if c.Frames > 0 && c.Idle >= silentAfter {
			return t.warn, "online, silent"
		}
		return t.good, string(c.Status.State)
	case api.CameraDisabled:
		return t.dim, string(c.Status.State)
	case api.CameraStalled, api.CameraConnecting, api.CameraNoPicture:
		return t.warn, string(c.Status.State)
	}
	return t.warn, string(c.Status.State)
}

// facts are the lines of a card, each of at most room columns.
func (t *theme) facts(c *cameraView, room int) []string {
	var out []string
	left := room - labelWidth - valueWidth - 1 // for details
	row := func(label, value string, details ...string) {
		line := t.label.Render(pad(label, labelWidth)) + pad(value, valueWidth)
		if text := joinFitting(details, left); text != "" {
			line += " " + text
		}
		out = append(out, line)
	}
	wide := func(label, text string, style lipgloss.Style, mostLines int) {
		lines := wrap(text, max(8, room-labelWidth), mostLines)
		for i, line := range lines {
			if i > 0 {
				label = ""
			}
			out = append(out, t.label.Render(pad(label, labelWidth))+style.Render(line))
		}
	}
	if s := c.Status; s != nil && s.Reason != "" && s.State != api.CameraOnline {
		wide("why", s.Reason, t.warn, 2)
	}
	drops := dropsText(c.Drops)
	if c.Frames == 0 {
		wide("frames", "none yet", t.dim, 1)
		if drops != "" {
			wide("dropped", drops, t.plain, 1)
		}
		return out
	}

	rate, detail := "…", t.accent.Render(bars(c.History[:], left))
	if c.HasRate {
		rate = rateText(c.Rate) + " fps"
	}
	if c.Idle >= silentAfter {
		rate, detail = t.warn.Render("0 fps"), t.warn.Render("no frame for "+spanText(c.Idle))
	}
	row("rate", rate, detail)
	inside := ""
	if c.Header.Total > 0 {
		inside = "node " + spanText(c.Header.Total)
	}
	t.ageRow(row, "since capture", c.Capture, inside)
	t.ageRow(row, "since publish", c.Publish, "")
	tokens := ""
	if c.TokensBytes > 0 {
		tokens = "tokens " + sizeText(float64(c.TokensBytes))
	}
	row("traffic", sizeText(c.ByteRate)+"/s", tokens)
	changed := "–"
	if c.HasChanged {
		changed = shareText(c.Changed)
	}
	row("changed", changed, "key "+shareText(c.Keyframes), "reused "+shareText(c.Reused))
	if c.Lost > 0 {
		row("gaps", t.warn.Render(countText(c.Gaps)), t.warn.Render(countText(c.Lost)+" lost on the way"))
	} else {
		row("gaps", countText(c.Gaps))
	}
	if drops != "" {
		wide("dropped", drops, t.plain, 1)
	}
	if e := c.Embedding; e != nil {
		norm := ""
		if e.Normalized {
			norm = "normalised"
		}
		row("embedding", fmt.Sprintf("%d %s", e.Dim, e.Type), "norm "+normText(e.Norm), norm)
	}
	for _, line := range t.labelRows(c, room-labelWidth) {
		out = append(out, t.label.Render(pad(ansi.Truncate(line[0], labelWidth-1, "…"), labelWidth))+line[1])
	}
	h := &c.Header
	clock := ""
	if h.Clock != "" {
		clock = h.Clock + " clock"
	}
	row("frame", fmt.Sprintf("#%d", c.Sequence), strings.TrimSpace(fmt.Sprintf("%dx%d %s", h.Width, h.Height, h.Resize)), clock)
	if len(c.Grid.IDs) > 0 {
		out = append(out, t.label.Render(pad("ids", labelWidth))+idsThatFit(c.Grid.IDs, room-labelWidth))
	}
	return out
}

func (t *theme) ageRow(row func(label, value string, details ...string), label string, s spread, more string) {
	switch {
	case s.N == 0:
		row(label, "–", more)
	case s.ClocksDiffer:
		row(label, t.warn.Render(spanText(s.P50)), t.warn.Render("clocks differ"), more)
	default:
		row(label, spanText(s.P50), "p99 "+spanText(s.P99), more)
	}
}

// normText writes the length of a vector.
func normText(norm float64) string {
	if norm < 1000 {
		return fmt.Sprintf("%.3f", norm)
	}
	return fmt.Sprintf("%.4g", norm)
}

// joinFitting joins details as long as they fit; the first is cut if it must be. A
// detail left out is quieter than one cut short.
func joinFitting(details []string, width int) string {
	out := ""
	for _, d := range details {
		switch {
		case d == "":
		case out == "":
			out = ansi.Truncate(d, max(0, width), "…")
		case ansi.StringWidth(out)+3+ansi.StringWidth(d) <= width:
			out += " · " + d
		}
	}
	return out
}

// wrap breaks a text at blanks into lines of width columns, the last of most lines being
// cut.
func wrap(text string, width, most int) []string {
	lines := strings.SplitN(ansi.Wordwrap(text, width, ""), "\n", most)
	for i, line := range lines {
		lines[i] = ansi.Truncate(strings.ReplaceAll(line, "\n", " "), width, "…")
	}
	return lines
}

// row draws a camera in one line.
func (t *theme) row(c *cameraView, width int, selected bool) string {
	mark, name := "  ", t.name.Render(pad(ansi.Truncate(c.Name, 20, "…"), 20))
	if selected {
		mark, name = t.accent.Render("▸ "), t.accent.Render(pad(ansi.Truncate(c.Name, 20, "…"), 20))
	}
	style, status := t.status(c)
	line := mark + name + " " + style.Render(pad("● "+status, 16))
	if c.Frames > 0 {
		rate := "…"
		if c.HasRate {
			rate = rateText(c.Rate) + " fps"
		}
		age := "–"
		if c.Capture.N > 0 {
			age = spanText(c.Capture.P50)
			if c.Capture.ClocksDiffer {
				age = "clocks?"
			}
		}
		line += " " + lead(rate, 8) + "  " + lead(age, 8) + "  " + lead(sizeText(c.ByteRate)+"/s", 10)
		if left := width - ansi.StringWidth(line) - 3; left >= 10 {
			line += "  " + t.accent.Render(bars(c.History[:], min(left, historySeconds)))
		}
	} else if c.Status != nil && c.Status.Reason != "" {
		line += " " + t.dim.Render(c.Status.Reason)
	}
	return fit(line, width)
}

// bars draws counts by second, the newest at the right end. The second that is not over
// yet would always look like a fall; it is left out.
func bars(counts []uint16, width int) string {
	levels := []rune(" ▁▂▃▄▅▆▇█")
	counts = counts[:len(counts)-1]
	if width < len(counts) {
		counts = counts[len(counts)-max(0, width):]
	}
	var most uint16
	for _, n := range counts {
		most = max(most, n)
	}
	out := make([]rune, len(counts))
	for i, n := range counts {
		level := 0
		if n > 0 {
			level = max(1, int(n)*(len(levels)-1)/int(most))
		}
		out[i] = levels[level]
	}
	return string(out)
}

// idsThatFit writes ids as long as they fit in width columns.
func idsThatFit(ids []int32, width int) string {
	var b strings.Builder
	for i, id := range ids {
		text := fmt.Sprint(id)
		if b.Len()+1+len(text)+2 > width {
			b.WriteString(" …")
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(text)
	}
	return b.String()
}

// pad fills a text up to width columns; styles in it do not count.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-ansi.StringWidth(s)))
}

// lead fills a text with blanks in front.
func lead(s string, width int) string {
	return strings.Repeat(" ", max(0, width-ansi.StringWidth(s))) + s
}

// fit makes a text exactly width columns wide.
func fit(s string, width int) string { return pad(ansi.Truncate(s, width, "…"), width) }
