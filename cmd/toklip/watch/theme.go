package watch

import (
	"io"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// theme holds the styles of the view. Text keeps to the terminal's own colours, so that
// it is readable on any background; only the grid brings colours along.
type theme struct {
	plain, name, dim, good, warn, bad, accent, label lipgloss.Style

	grid gridPainter
}

// newTheme makes a theme for a terminal of that many colours. It asks the terminal
// nothing.
func newTheme(profile termenv.Profile) theme {
	r := lipgloss.NewRenderer(io.Discard, termenv.WithProfile(profile))
	r.SetColorProfile(profile)
	r.SetHasDarkBackground(true) // no adaptive colour is used; this keeps it from asking
	color := func(ansi string) lipgloss.Style { return r.NewStyle().Foreground(lipgloss.Color(ansi)) }
	return theme{
		plain:  r.NewStyle(),
		name:   r.NewStyle().Bold(true),
		dim:    r.NewStyle().Faint(true),
		label:  r.NewStyle().Faint(true),
		good:   color("2"),
		warn:   color("3"),
		bad:    color("1"),
		accent: color("6"),
		grid:   newGridPainter(profile),
	}
}
