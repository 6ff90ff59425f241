package watch

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// clean makes untrusted text fit for a terminal: what is not printable (control
// characters, escapes, direction marks, broken UTF-8) becomes '·', white space a blank.
// It is cut to width columns, the last one then being '…'.
func clean(s string, width int) string {
	if width < 1 {
		return ""
	}
	// A column takes at most a few bytes; the rest of a huge text is not even looked at.
	const most = 16
	if len(s) > width*most {
		s = s[:width*most]
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == ' ' || unicode.IsSpace(r):
			b.WriteByte(' ')
		case r == utf8.RuneError || !unicode.IsPrint(r):
			b.WriteRune('·')
		default:
			b.WriteRune(r)
		}
	}
	return ansi.Truncate(b.String(), width, "…")
}

// hexSummary shows the first bytes of a payload: "12 bytes  08 01 12 …  |..A.|".
func hexSummary(payload []byte, most int) string {
	if len(payload) == 0 {
		return "empty"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s ", sizeText(float64(len(payload))))
	head := payload[:min(len(payload), most)]
	for _, c := range head {
		fmt.Fprintf(&b, " %02x", c)
	}
	if len(payload) > most {
		b.WriteString(" …")
	}
	b.WriteString("  |")
	for _, c := range head {
		if c < ' ' || c > '~' {
			c = '.'
		}
		b.WriteByte(c)
	}
	b.WriteByte('|')
	return b.String()
}

// sizeText writes a number of bytes.
func sizeText(n float64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%.0f B", n)
	case n < 999.5e3:
		return fmt.Sprintf("%.3g kB", n/1e3)
	case n < 999.5e6:
		return fmt.Sprintf("%.3g MB", n/1e6)
	}
	return fmt.Sprintf("%.4g GB", n/1e9)
}

// countText writes a count in at most 6 characters or so: 9999, 12.3k, 4.56M.
func countText(n uint64) string {
	switch f := float64(n); {
	case n < 10_000:
		return fmt.Sprint(n)
	case f < 999.5e3:
		return fmt.Sprintf("%.3gk", f/1e3)
	case f < 999.5e6:
		return fmt.Sprintf("%.3gM", f/1e6)
	default:
		return fmt.Sprintf("%.3gG", f/1e9)
	}
}

// spanText writes a duration as people say it: 0.4 ms, 38 ms, 1.25 s, 3 min, 2 h 05 min.
func spanText(d time.Duration) string {
	if d < 0 {
		if d == math.MinInt64 {
			d++
		}
		return "-" + spanText(-d)
	}
	ms := float64(d) / 1e6
	switch {
	case ms < 9.95:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 999.5:
		return fmt.Sprintf("%.0f ms", ms)
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
	days := d.Hours() / 24
	if days > 9999 {
		return ">9999 days"
	}
	return fmt.Sprintf("%.0f days", days)
}

// shareText writes a share of 0 to 1 as percent; a share that is not 0 never reads 0 %.
func shareText(f float64) string {
	switch {
	case !(f > 0):
		return "0 %"
	case f < 0.01:
		return "<1 %"
	}
	return fmt.Sprintf("%.0f %%", f*100)
}

// rateText writes frames a second.
func rateText(f float64) string {
	if f > 0 && f < 9.95 {
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

// sinceNS is the time from a Unix time in ns until now; false for times that no clock
// would show.
func sinceNS(ns int64, now time.Time) (time.Duration, bool) {
	if ns <= 0 {
		return 0, false
	}
	return now.Sub(time.Unix(0, ns)), true
}
