package labels

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/engine/preprocess"
)

// draw shows a mask, a row of cells a line.
func draw(mask []float32, cols int) string {
	var b strings.Builder
	for i, v := range mask {
		if i > 0 && i%cols == 0 {
			b.WriteByte('/')
		}
		switch v {
		case 0:
			b.WriteByte('.')
		case 1:
			b.WriteByte('#')
		default:
			fmt.Fprintf(&b, "[%v]", v)
		}
	}
	return b.String()
}

func TestMask(t *testing.T) {
	whole := Window{0, 0, 400, 400}
	polygon := func(coordinates ...float64) Region {
		r := Region{Name: "r"}
		for i := 0; i < len(coordinates); i += 2 {
			r.Polygon = append(r.Polygon, Point{coordinates[i], coordinates[i+1]})
		}
		return r
	}
	for name, c := range map[string]struct {
		region Region
		frame  Size
		window Window
		want   string
	}{
		"whole frame":              {Rect("r", 0, 0, 1, 1), Size{400, 400}, whole, "####/####/####/####"},
		"left half":                {Rect("r", 0, 0, 0.5, 1), Size{400, 400}, whole, "##../##../##../##.."},
		"half of a column":         {Rect("r", 0, 0, 0.375, 1), Size{400, 400}, whole, "##../##../##../##.."},
		"less than that":           {Rect("r", 0, 0, 0.374, 1), Size{400, 400}, whole, "#.../#.../#.../#..."},
		"half of a row":            {Rect("r", 0, 0.625, 1, 0.375), Size{400, 400}, whole, "..../..../####/####"},
		"rows are counted down":    {Rect("r", 0.75, 0, 0.25, 0.25), Size{400, 400}, whole, "...#/..../..../...."},
		"small, in one cell":       {Rect("r", 0.3, 0.55, 0.01, 0.02), Size{400, 400}, whole, "..../..../.#../...."},
		"small, across four cells": {Rect("r", 0.49, 0.24, 0.02, 0.02), Size{400, 400}, whole, ".##./.##./..../...."},
		"small, mostly in one":     {Rect("r", 0.49, 0.3, 0.1, 0.1), Size{400, 400}, whole, "..../..#./..../...."},
		"narrow":                   {Rect("r", 0, 0.6, 1, 0.001), Size{400, 400}, whole, "..../..../####/...."},
		"triangle":                 {polygon(0, 0, 1, 0, 0, 1), Size{400, 400}, whole, "####/###./##../#..."},
		"the other way round":      {polygon(0, 1, 1, 0, 0, 0), Size{400, 400}, whole, "####/###./##../#..."},
		// The crossing is in the middle: left and right are inside, above and below are not.
		"bow tie": {polygon(0, 0, 1, 1, 1, 0, 0, 1), Size{400, 400}, whole, "#..#/####/####/#..#"},
		// A frame in a frame: the outline goes round twice, so its middle is outside.
		"hole": {polygon(0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 0.25, 0.25, 0.75, 0.25, 0.75, 0.75, 0.25, 0.75, 0.25, 0.25), Size{400, 400}, whole, "####/#..#/#..#/####"},

		"squashed": {Rect("r", 0.5, 0, 0.5, 1), Size{1920, 1080}, Window{0, 0, 1920, 1080}, "..##/..##/..##/..##"},
		// The middle square of a wide frame is seen: the left quarter of the frame is next to nothing of it.
		"cropped": {Rect("r", 0, 0, 0.5, 1), Size{800, 400}, Window{200, 0, 400, 400}, "##../##../##../##.."},
		"its rim": {Rect("r", 0, 0, 0.26, 1), Size{800, 400}, Window{200, 0, 400, 400}, "#.../#.../#.../#..."},
		// Bars above and below: the frame is in the two rows in the middle.
		"padded":            {Rect("r", 0, 0, 1, 1), Size{400, 200}, Window{0, -100, 400, 400}, "..../####/####/...."},
		"padded, upper":     {Rect("r", 0, 0, 1, 0.5), Size{400, 200}, Window{0, -100, 400, 400}, "..../####/..../...."},
		"padded, in a cell": {Rect("r", 0, 0, 1, 1), Size{400, 220}, Window{0, -90, 400, 400}, "####/####/####/####"},
	} {
		mask := slices.Repeat([]float32{7}, 16)
		cells, err := c.region.Mask(mask, Grid{4, 4}, c.frame, c.window)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := draw(mask, 4); got != c.want || cells != strings.Count(c.want, "#") {
			t.Errorf("%s: %d cells, %s; want %s", name, cells, got, c.want)
		}
	}
}

// TestWholeFrameIsAllThatIsSeen: for every geometry of a camera, the region that is the frame has all cells, but those of
// padding alone.
func TestWholeFrameIsAllThatIsSeen(t *testing.T) {
	for _, mode := range []preprocess.Mode{preprocess.Squash, preprocess.Shortest, preprocess.Longest} {
		for _, size := range []Size{{1920, 1080}, {1080, 1920}, {640, 480}, {641, 479}, {101, 80}, {256, 256}, {33, 1000}} {
			for _, grid := range []Grid{{16, 16}, {24, 24}, {8, 8}} {
				g := preprocess.Geometry{Width: size.Width, Height: size.Height, Format: preprocess.BGR8, Size: 16 * grid.Rows, Mode: mode}
				m, err := g.Mapping()
				if err != nil {
					t.Fatal(err)
				}
				// As the header's window is made.
				s := float64(m.Size)
				w := Window{m.OffsetX * m.ScaleX, m.OffsetY * m.ScaleY, s * m.ScaleX, s * m.ScaleY}
				mask := make([]float32, grid.Cells())
				if _, err := Rect("frame", 0, 0, 1, 1).Mask(mask, grid, size, w); err != nil {
					t.Errorf("%v %v %v: %v", mode, size, grid, err)
					continue
				}
				for i, v := range mask {
					r, err := m.Cell(grid.Rows, grid.Cols, i/grid.Cols, i%grid.Cols)
					if err != nil {
						t.Fatal(err)
					}
					if (v == 1) == r.Empty() {
						t.Errorf("%v %v %v: cell %d is %v in the mask, it shows %v", mode, size, grid, i, v, r)
					}
				}
				if mode != preprocess.Longest && slices.Contains(mask, 0) {
					t.Errorf("%v %v %v: not all cells: %s", mode, size, grid, draw(mask, grid.Cols))
				}
			}
		}
	}
}

// inside is the even-odd rule for one point.
func inside(polygon []Point, x, y float64) bool {
	in := false
	for i, a := range polygon {
		b := polygon[(i+1)%len(polygon)]
		if (a.Y > y) != (b.Y > y) && x < a.X+(y-a.Y)*(b.X-a.X)/(b.Y-a.Y) {
			in = !in
		}
	}
	return in
}

// TestMaskOfRandomPolygons compares with points on a fine raster, for outlines that mostly cross themselves.
func TestMaskOfRandomPolygons(t *testing.T) {
	const fine, tolerance = 32, 0.06
	r := rand.New(rand.NewPCG(13, 14))
	grid := Grid{6, 5}
	size, window := Size{1000, 600}, Window{150, -60, 700, 720}
	decided := 0
	for range 100 {
		region := Region{Name: "r"}
		for range 3 + r.IntN(6) {
			region.Polygon = append(region.Polygon, Point{r.Float64(), r.Float64()})
		}
		shares := make([]float64, grid.Cells())
		most := 0.0
		for i := range shares {
			in, shown := 0, 0
			for k := range fine * fine {
				x := window.X + window.Width*(float64(i%grid.Cols)+(float64(k%fine)+0.5)/fine)/float64(grid.Cols)
				y := window.Y + window.Height*(float64(i/grid.Cols)+(float64(k/fine)+0.5)/fine)/float64(grid.Rows)
				if x < 0 || y < 0 || x > float64(size.Width) || y > float64(size.Height) {
					continue
				}
				shown++
				if inside(region.Polygon, x/float64(size.Width), y/float64(size.Height)) {
					in++
				}
			}
			shares[i] = float64(in) / float64(max(shown, 1))
			most = max(most, shares[i])
		}
		mask := make([]float32, grid.Cells())
		cells, err := region.Mask(mask, grid, size, window)
		if err != nil {
			if most > tolerance {
				t.Errorf("%v: %v, but a cell is inside by %v", region, err, most)
			}
			continue
		}
		if n := strings.Count(draw(mask, grid.Cols), "#"); n != cells || n == 0 {
			t.Errorf("%v: %d cells, %s", region, cells, draw(mask, grid.Cols))
		}
		least := 0.5
		switch {
		case most < 0.5-tolerance:
			least = most / 2
		case most < 0.5+tolerance:
			continue // either rule may hold
		}
		for i, share := range shares {
			if math.Abs(share-least) > tolerance {
				decided++
				if (mask[i] == 1) != (share > least) {
					t.Errorf("%v: cell %d is %v in the mask and inside by %v of %v", region, i, mask[i], share, least)
				}
			}
		}
	}
	if decided < 1000 {
		t.Errorf("only %d cells were compared", decided)
	}
}

// TestCoverIsTheArea: what cells have in common with an outline without crossings is its area, by the shoelace formula.
func TestCoverIsTheArea(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	for range 100 {
		// Corners at growing angles about a centre do not cross.
		n := 3 + r.IntN(10)
		o := make(outline, n)
		for i := range o {
			angle := 2 * math.Pi * (float64(i) + r.Float64()) / float64(n)
			radius := 1 + 3*r.Float64()
			o[i] = Point{5 + radius*math.Cos(angle), 5 + radius*math.Sin(angle)}
		}
		area := 0.0
		for i, a := range o {
			b := o[(i+1)%n]
			area += (a.X*b.Y - b.X*a.Y) / 2
		}
		cells := make([]float64, 100)
		o.cover(cells, Grid{10, 10})
		sum := 0.0
		for i, v := range cells {
			if v < 0 || v > 1+1e-9 {
				t.Fatalf("cell %d is covered by %v", i, v)
			}
			sum += v
		}
		if math.Abs(sum-math.Abs(area)) > 0.01*math.Abs(area) {
			t.Errorf("%v: covers %v, its area is %v", o, sum, area)
		}
	}
}

func TestRegionValidate(t *testing.T) {
	corner := func(i int, p Point) Region {
		r := Rect("door", 0.1, 0.1, 0.5, 0.5)
		r.Polygon[i] = p
		return r
	}
	for name, c := range map[string]struct {
		region Region
		want   string // empty: valid
	}{
		"good":              {Rect("door", 0.1, 0.1, 0.5, 0.5), ""},
		"to the edge":       {Rect("door", 0.7, 0.1, 0.3, 0.9), ""},
		"crosses itself":    {Region{"x", []Point{{0, 0}, {1, 1}, {1, 0}, {0, 1}}}, ""},
		"no name":           {Rect("", 0, 0, 1, 1), "region: the name is empty"},
		"name not UTF-8":    {Rect("\xff", 0, 0, 1, 1), `region: name "\xff" is not valid UTF-8`},
		"beyond":            {Rect("door", 0.7, 0.1, 0.5, 0.5), `region "door": corner 2 is (1.2, 0.1): both must be between 0 and 1`},
		"negative":          {corner(3, Point{0.2, -0.1}), "corner 4 is (0.2, -0.1)"},
		"NaN":               {corner(0, Point{math.NaN(), 0}), "corner 1 is (NaN, 0)"},
		"infinite":          {corner(0, Point{0, math.Inf(1)}), "corner 1 is (0, +Inf)"},
		"two corners":       {Region{"door", []Point{{0, 0}, {1, 1}}}, "2 corners: 3 to 64 are possible"},
		"too many":          {Region{"door", make([]Point, 65)}, "65 corners"},
		"negative width":    {Rect("door", 0.5, 0.5, -0.2, 0.2), "enclose nothing"},
		"NaN width":         {Rect("door", 0.5, 0.5, math.NaN(), 0.2), "corner 2 is (NaN, 0.5)"},
		"no height":         {Rect("door", 0.5, 0.5, 0.2, 0), "enclose nothing"},
		"on a line":         {Region{"door", []Point{{0, 0}, {0.5, 0.5}, {1, 1}}}, "its corners [(0, 0) (0.5, 0.5) (1, 1)] enclose nothing"},
		"there and back":    {Region{"door", []Point{{0, 0}, {0.5, 0.3}, {1, 1}, {0.5, 0.3}}}, "enclose nothing"},
		"twice round":       {Region{"door", []Point{{0, 0}, {1, 0.3}, {0.2, 1}, {0, 0}, {1, 0.3}, {0.2, 1}}}, "and so on enclose nothing"},
		"all in one corner": {Region{"door", make([]Point, 5)}, "enclose nothing"},
	} {
		err := c.region.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func TestMaskRefuses(t *testing.T) {
	good := Rect("door", 0, 0, 0.2, 1)
	for name, c := range map[string]struct {
		region Region
		n      int
		grid   Grid
		frame  Size
		window Window
		want   string
	}{
		"not seen":       {good, 16, Grid{4, 4}, Size{800, 400}, Window{200, 0, 400, 400}, `region "door" lies outside the part of the frame that the network sees: its corners are [(0, 0) (0.2, 0) (0.2, 1) (0, 1)], seen is 400x400 at (200, 0) of 800x400 pixels`},
		"only touched":   {Rect("door", 0, 0, 0.25, 1), 16, Grid{4, 4}, Size{800, 400}, Window{200, 0, 400, 400}, "lies outside"},
		"bad region":     {Rect("door", 2, 0, 1, 1), 16, Grid{4, 4}, Size{400, 400}, Window{0, 0, 400, 400}, "corner 1"},
		"short mask":     {good, 15, Grid{4, 4}, Size{400, 400}, Window{0, 0, 400, 400}, `mask of region "door": 15 numbers for a grid of 4x4`},
		"no rows":        {good, 0, Grid{0, 4}, Size{400, 400}, Window{0, 0, 400, 400}, "grid of 0x4"},
		"negative grid":  {good, 16, Grid{-4, -4}, Size{400, 400}, Window{0, 0, 400, 400}, "grid of -4x-4"},
		"no frame":       {good, 16, Grid{4, 4}, Size{0, 400}, Window{0, 0, 400, 400}, "frame of 0x400 pixels"},
		"no window":      {good, 16, Grid{4, 4}, Size{400, 400}, Window{}, "window of 0x0 at (0, 0) pixels"},
		"NaN window":     {good, 16, Grid{4, 4}, Size{400, 400}, Window{math.NaN(), 0, 400, 400}, "does not fit"},
		"absurd window":  {good, 16, Grid{4, 4}, Size{400, 400}, Window{0, 0, 1e-300, 400}, "does not fit"},
		"window is gone": {good, 16, Grid{4, 4}, Size{400, 400}, Window{5000, 0, 400, 400}, "lies outside"},
	} {
		mask := slices.Repeat([]float32{7}, c.n)
		cells, err := c.region.Mask(mask, c.grid, c.frame, c.window)
		if err == nil || cells != 0 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d cells, %v; want %q", name, cells, err, c.want)
		}
		if slices.Max(append(mask, 0)) != 0 {
			t.Errorf("%s: the mask is %v after an error", name, mask)
		}
	}
}

// TestTouchingIsNotSeeing: a region that ends where the window begins is outside, wherever rounding puts its edge.
func TestTouchingIsNotSeeing(t *testing.T) {
	mask := make([]float32, 16)
	for sevenths := 1.0; sevenths < 7; sevenths++ {
		for width := 300; width < 1000; width += 7 {
			frame, window := Size{width, 400}, Window{float64(width) / 7 * sevenths, 0, 90, 400}
			if cells, err := Rect("door", 0, 0, sevenths/7, 1).Mask(mask, Grid{4, 4}, frame, window); err == nil {
				t.Errorf("%v of %v: %d cells, %s", window, frame, cells, draw(mask, 4))
			}
		}
	}
}

func TestNeighbourhood(t *testing.T) {
	for _, c := range []struct {
		rows, cols, cell, radius int
		want                     string
	}{
		{3, 4, 5, 0, "..../.#../...."},
		{3, 4, 5, -1, "..../.#../...."},
		{3, 4, 0, 1, "##../##../...."},
		{3, 4, 11, 1, "..../..##/..##"},
		{3, 4, 6, 1, ".###/.###/.###"},
		{3, 4, 4, 2, "###./###./###."},
		{3, 4, 7, math.MaxInt, "####/####/####"},
		{1, 1, 0, 0, "#"},
	} {
		mask := slices.Repeat([]float32{7}, c.rows*c.cols)
		Neighbourhood(mask, c.rows, c.cols, c.cell, c.radius)
		if got := draw(mask, c.cols); got != c.want {
			t.Errorf("cell %d of %dx%d, radius %d: %s, want %s", c.cell, c.rows, c.cols, c.radius, got, c.want)
		}
	}
	for _, c := range [][4]int{{3, 4, 12, 1}, {3, 4, -1, 1}, {4, 4, 0, 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v: no panic", c)
				}
			}()
			Neighbourhood(make([]float32, 12), c[0], c[1], c[2], c[3])
		}()
	}
}

// FuzzMask: eight bytes a coordinate, after the geometry.
func FuzzMask(f *testing.F) {
	seed := func(values ...float64) []byte {
		var b []byte
		for _, v := range values {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
		return b
	}
	f.Add(4, 4, 400, 400, 0.0, 0.0, 400.0, 400.0, seed(0, 0, 1, 0, 1, 1, 0, 1))
	f.Add(16, 16, 1920, 1080, 420.0, -0.5, 1080.0, 1080.25, seed(0.1, 0.2, 0.9, 0.8, 0.9, 0.2, 0.1, 0.8))
	f.Add(1, 1, 1, 1, 1e300, 5e-324, 1e-300, 1e300, seed(0, 5e-324, 1, 1, 0.5, math.NaN()))
	f.Add(24, 24, 640, 480, 0.0, -80.0, 640.0, 640.0, seed(0.3, 0.3, 0.3000015, 0.3, 0.3, 0.3000015))
	f.Fuzz(func(t *testing.T, rows, cols, width, height int, x, y, w, h float64, data []byte) {
		if rows < 0 || cols < 0 || rows > 64 || cols > 64 {
			return
		}
		region := Region{Name: "r"}
		for ; len(data) >= 16 && len(region.Polygon) < 70; data = data[16:] {
			region.Polygon = append(region.Polygon, Point{
				math.Float64frombits(binary.LittleEndian.Uint64(data)), math.Float64frombits(binary.LittleEndian.Uint64(data[8:])),
			})
		}
		mask := make([]float32, rows*cols)
		cells, err := region.Mask(mask, Grid{rows, cols}, Size{width, height}, Window{x, y, w, h})
		ones := strings.Count(draw(mask, max(cols, 1)), "#")
		zeros := strings.Count(draw(mask, max(cols, 1)), ".")
		if ones != cells || ones+zeros != len(mask) || (err == nil) != (cells > 0) {
			t.Fatalf("%d cells of %s, %v", cells, draw(mask, max(cols, 1)), err)
		}
	})
}
