package watch

import (
	"strings"

	"github.com/lucasb-eyer/go-colorful"
	"github.com/muesli/termenv"
)

// mostGridCells is the most that a side of the drawn grid has; larger grids are thinned.
const mostGridCells = 32

const (
	paletteSize = 64
	heatLevels  = 3
	resetColour = "\x1b[0m"
	upperHalf   = "▀"
)

// gridPainter draws grids as half blocks, two rows of cells to a line, so that cells are
// about square. A cell's colour follows from its token id alone: the same id has the same
// colour in every camera and every run. Cells that changed flash towards white.
//
// Without colours only changes are drawn: "▀", "▄" and "█" for changed cells, "·" where
// both cells are unchanged.
type gridPainter struct {
	colours bool
	// Escape sequences by colour and heat.
	fg, bg [paletteSize][heatLevels]string
}

func newGridPainter(profile termenv.Profile) gridPainter {
	var p gridPainter
	if profile == termenv.Ascii {
		return p
	}
	p.colours = true
	white := colorful.Color{R: 1, G: 1, B: 1}
	glow := [heatLevels]float64{0, 0.4, 0.85}
	for i := range paletteSize {
		// 16 hues at 4 strengths, none bright: a grid is a quiet texture, from which the
		// flash stands out.
		hue := float64(i%16) * 360 / 16
		strength := float64(i / 16)
		base := colorful.Hcl(hue, 0.16+0.05*strength, 0.27+0.09*strength).Clamped()
		for heat := range heatLevels {
			c := profile.Color(base.BlendRgb(white, glow[heat]).Clamped().Hex())
			p.fg[i][heat] = "\x1b[" + c.Sequence(false) + "m"
			p.bg[i][heat] = "\x1b[" + c.Sequence(true) + "m"
		}
	}
	return p
}

// colourOf spreads ids over the palette. Neighbouring ids of a codebook mean nothing to
// each other, and must not look alike.
func colourOf(id int32) int {
	return int(uint32(id) * 2654435761 >> 26) // Knuth's multiplicative hash, top 6 bits
}

// paint returns the lines of g, each of the returned width, or nothing if g has no cells
// to draw.
func (p *gridPainter) paint(g gridView) (lines []string, width int) {
	if g.TooLarge || g.Rows < 1 || g.Cols < 1 || len(g.IDs) != g.Rows*g.Cols {
		return nil, 0
	}
	step := (max(g.Rows, g.Cols) + mostGridCells - 1) / mostGridCells
	rows, cols := (g.Rows+step-1)/step, (g.Cols+step-1)/step
	for row := 0; row < rows; row += 2 {
		var b strings.Builder
		lastFG, lastBG := "", ""
		for col := range cols {
			upper, upperHeat := g.block(row, col, step)
			lower, lowerHeat := g.block(row+1, col, step)
			if !p.colours {
				b.WriteString(changeMark(upperHeat > 0, lowerHeat > 0))
				continue
			}
			if fg := p.fg[colourOf(upper)][upperHeat]; fg != lastFG {
				b.WriteString(fg)
				lastFG = fg
			}
			bg := "\x1b[49m"
			if lower >= 0 {
				bg = p.bg[colourOf(lower)][lowerHeat]
			}
			if bg != lastBG {
				b.WriteString(bg)
				lastBG = bg
			}
			b.WriteString(upperHalf)
		}
		if p.colours {
			b.WriteString(resetColour)
		}
		lines = append(lines, b.String())
	}
	return lines, cols
}

// block is the id of the first cell of a block of step x step cells and the heat of its
// hottest; the id is -1 below the grid.
func (g *gridView) block(row, col, step int) (id int32, heat uint8) {
	if row*step >= g.Rows {
		return -1, 0
	}
	id = g.IDs[row*step*g.Cols+col*step]
	if len(g.Heat) != len(g.IDs) {
		return id, 0
	}
	for r := row * step; r < min((row+1)*step, g.Rows); r++ {
		for c := col * step; c < min((col+1)*step, g.Cols); c++ {
			heat = max(heat, min(g.Heat[r*g.Cols+c], heatLevels-1))
		}
	}
	return id, heat
}

func changeMark(upper, lower bool) string {
	switch {
	case upper && lower:
		return "█"
	case upper:
		return "▀"
	case lower:
		return "▄"
	}
	return "·"
}
