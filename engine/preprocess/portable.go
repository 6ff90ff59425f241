package preprocess

// portable is the rowMaker for machines without a kernel of their own. It does
// two multiply-adds with one 64-bit multiplication:
//
// Two pixels p0, p1 of neighbouring rows travel as p0 + p1<<32. Times k, the
// horizontal pass gets both rows at once: k*p0 + (k*p1)<<32. Times
// k1 + k0<<32, the vertical pass gets k1*p0 + (k0*p0 + k1*p1)<<32, of which the
// upper half is the sum it wants. Sums stay within 32 bits signed (255 times
// the coefficients' absolute sum), so the halves are told apart exactly even
// when the lower one is negative and borrows.
type portable struct {
	*input
	pixels []uint64   // 3 values a source column, of the row pair that goes into the horizontal pass
	ring   [][]uint64 // row pairs that go into the vertical pass, pair p in slot p % len
	made   int        // row pairs made of this frame
	y      int        // next kept row
	sums   []uint64

	// Only when the vertical pass comes first:
	pair  []uint64 // two kept rows
	lines [2][]byte
}

func newPortable(in *input) *portable {
	p := &portable{input: in}
	source, kept := 3*(in.colTo-in.colFrom), 3*len(in.across.start)
	p.pixels = make([]uint64, source)
	width := kept
	if in.verticalFirst {
		width = source
		p.pair = make([]uint64, kept)
		p.lines = [2][]byte{make([]byte, source), make([]byte, source)}
	}
	p.ring = make([][]uint64, in.down.most()/2+2)
	for i := range p.ring {
		p.ring[i] = make([]uint64, width)
	}
	p.sums = make([]uint64, width)
	return p
}

func (p *portable) begin(src []byte, stride int) {
	p.input.begin(src, stride)
	p.made, p.y = 0, 0
}

func (p *portable) next(out []byte) {
	y := p.y
	p.y++
	if !p.verticalFirst {
		p.vertical(out, y)
		return
	}
	if y%2 == 0 {
		for i := range p.lines {
			p.vertical(p.lines[i], min(y+i, len(p.down.start)-1))
		}
		b := p.lines[1][:len(p.lines[0])]
		for i, v := range p.lines[0] {
			p.pixels[i] = uint64(v) | uint64(b[i])<<32
		}
		p.horizontal(p.pair)
	}
	shift := 32 * (y % 2)
	out = out[:len(p.pair)]
	for i, v := range p.pair {
		out[i] = byte(v >> shift)
	}
}

// vertical makes row y of the vertical pass, after the row pairs it needs.
func (p *portable) vertical(out []byte, y int) {
	k := p.down.of(y)
	from := p.down.start[y] - p.rowFrom
	first, last := from/2, (from+len(k)-1)/2
	for ; p.made <= last; p.made++ {
		slot := p.ring[p.made%len(p.ring)]
		if p.verticalFirst {
			p.load(slot, p.rowFrom+2*p.made)
		} else {
			p.load(p.pixels, p.rowFrom+2*p.made)
			p.horizontal(slot)
		}
	}
	for i := range p.sums {
		p.sums[i] = half << 32
	}
	for pair := first; pair <= last; pair++ {
		// Taps 2*pair-from and the one after; those outside are 0.
		var k0, k1 int32
		if i := 2*pair - from; i >= 0 {
			k0 = k[i]
		}
		if i := 2*pair + 1 - from; i < len(k) {
			k1 = k[i]
		}
		addScaled(p.sums, p.ring[pair%len(p.ring)], uint64(k1)+uint64(k0)<<32)
	}
	out = out[:len(p.sums)]
	for i, sum := range p.sums {
		out[i] = clip(int32((sum-uint64(int32(sum)))>>32) >> precisionBits)
	}
}

// addScaled adds row*k to sums.
func addScaled(sums, row []uint64, k uint64) {
	row = row[:len(sums)]
	for i, v := range row {
		sums[i] += v * k
	}
}

// load reads source rows y and y+1.
func (p *portable) load(out []uint64, y int) {
	var at [linesAtOnce]int
	src := p.input.lines(y, 2, &at)
	a, b := src[at[0]:][:p.lineBytes()], src[at[1]:][:p.lineBytes()]
	step := p.bytes
	r, g, bl := p.rgb[0], p.rgb[1], p.rgb[2]
	for len(a) >= step && len(b) >= step && len(out) >= 3 {
		pa, pb := a[:step], b[:step]
		out[0] = uint64(pa[r]) | uint64(pb[r])<<32
		out[1] = uint64(pa[g]) | uint64(pb[g])<<32
		out[2] = uint64(pa[bl]) | uint64(pb[bl])<<32
		a, b, out = a[step:], b[step:], out[3:]
	}
}

// horizontal makes the row pair in pixels one of the kept width.
func (p *portable) horizontal(out []uint64) {
	for i, start := range p.across.start {
		// The halves' rounding; they do not disturb each other.
		const both = half | half<<32
		var r, g, b uint64 = both, both, both
		px := p.pixels[3*(start-p.colFrom):]
		for _, k := range p.across.of(i) {
			if len(px) < 3 {
				break
			}
			r += uint64(k) * px[0]
			g += uint64(k) * px[1]
			b += uint64(k) * px[2]
			px = px[3:]
		}
		o := out[3*i : 3*i+3]
		o[0], o[1], o[2] = clipPair(r), clipPair(g), clipPair(b)
	}
}

// clipPair shifts both halves of a sum down to 8 bits.
func clipPair(sum uint64) uint64 {
	low := int32(sum)
	high := int32((sum - uint64(low)) >> 32)
	return uint64(clip(low>>precisionBits)) | uint64(clip(high>>precisionBits))<<32
}
