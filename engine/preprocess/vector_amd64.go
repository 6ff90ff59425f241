package preprocess

// vector is the rowMaker over the kernels. Rows go through in bands of 8 (or
// blocks of 4, when the vertical pass comes first), so that what one pass
// writes is still in the cache when the next one reads it.
type vector struct {
	*input
	kernel kernel
	y      int // next kept row

	tile    []byte
	shuffle [32]byte
	edge    [linesAtOnce * 32]byte // the ends of 8 rows, with room to read beyond
	edgeAt  [linesAtOnce]int
	spans   []tapSpan
	coefs   []byte // of the horizontal pass

	ring       []byte // blocks of 4 rows; block b lies in slot b % slots
	blockBytes int
	slots      int
	made       int       // blocks made of this frame
	rows       []rowTaps // of the vertical pass
	rowCoefs   []byte    //
	at         []int32   // the blocks of the row at hand
	chunks     int       // of 24 columns a row of the vertical pass

	// Only when the vertical pass comes first: 8 rows between the passes, what the
	// horizontal one makes of them, and coefficients that pick one row of a block.
	between     []byte
	betweenAt   [linesAtOnce]int
	last        [2][]byte
	pick        [4][]byte
	betweenStep int
}

// rowTaps are the blocks under one output row, and where its coefficients begin.
type rowTaps struct{ first, groups, coefs int }

const (
	groupBytes = 96 // of a tile, 4 pixels; and of a block, 24 columns
	chunkCols  = 24
)

func newVector(k kernel, in *input) *vector {
	v := &vector{input: in, kernel: k}
	kept := len(in.across.start)
	if in.geometry.Format.yuv() {
		in.vectors = newYUVVectors(in.geometry.Format)
	}

	v.tile = make([]byte, (in.colTo-in.colFrom+3)/4*groupBytes)
	for i := range v.shuffle {
		v.shuffle[i] = 0x80
	}
	for half := range 2 {
		for c, offset := range in.rgb {
			for px := range 4 {
				v.shuffle[16*half+4*c+px] = byte(px*in.bytes + offset)
			}
		}
	}
	for i := range v.edgeAt {
		v.edgeAt[i] = 32 * i
	}
	for i, start := range in.across.start {
		from := start - in.colFrom
		var groups int
		v.coefs, groups = k.appendCoefs(v.coefs, from%4, in.across.of(i))
		v.spans = append(v.spans, tapSpan{offset: int32(from / 4 * groupBytes), groups: int32(groups)})
	}

	columns := 3 * kept
	if in.verticalFirst {
		columns = in.lineBytes()
	}
	v.chunks = (columns + chunkCols - 1) / chunkCols
	// Room for whole vectors of either pass, and what they write beyond.
	v.blockBytes = roundUp(max(v.chunks*groupBytes, roundUp(columns, 32)*4)+rowSlack, 64)
	most := 0
	for y, start := range in.down.start {
		from := start - in.rowFrom
		row := rowTaps{first: from / 4, coefs: len(v.rowCoefs)}
		v.rowCoefs, row.groups = k.appendCoefs(v.rowCoefs, from%4, in.down.of(y))
		v.rows = append(v.rows, row)
		most = max(most, row.groups)
	}
	v.at = make([]int32, most)
	v.slots = roundUp(most+2, 2)
	v.ring = make([]byte, v.slots*v.blockBytes)

	if in.verticalFirst {
		v.betweenStep = v.chunks*chunkCols + rowSlack
		v.between = make([]byte, linesAtOnce*v.betweenStep)
		for i := range v.betweenAt {
			v.betweenAt[i] = i * v.betweenStep
		}
		for i := range v.last {
			v.last[i] = make([]byte, roundUp(3*kept, chunkCols)*4+rowSlack)
		}
		for i := range v.pick {
			v.pick[i], _ = k.appendCoefs(nil, i, []int32{1 << precisionBits})
		}
	}
	return v
}

func (v *vector) begin(src []byte, stride int) {
	v.input.begin(src, stride)
	v.made, v.y = 0, 0
}

func (v *vector) next(out []byte) {
	y := v.y
	v.y++
	if !v.verticalFirst {
		v.vertical(out, y)
		return
	}
	if y%linesAtOnce == 0 {
		for i, at := range v.betweenAt {
			v.vertical(v.between[at:at+v.betweenStep], min(y+i, len(v.rows)-1))
		}
		v.gather(v.between, &v.betweenAt)
		v.horizontal(v.last[0], v.last[1])
	}
	var here [1]int32
	in := y % linesAtOnce
	chunks := (3*len(v.spans) + chunkCols - 1) / chunkCols
	v.sum(out, v.last[in/4], here[:], v.pick[in%4], chunks)
}

// vertical makes row y of the vertical pass, after the blocks it needs.
func (v *vector) vertical(out []byte, y int) {
	row := v.rows[y]
	for v.made < row.first+row.groups {
		if v.verticalFirst {
			v.interleave(v.slot(v.made), v.rowFrom+4*v.made)
			v.made++
			continue
		}
		var at [linesAtOnce]int
		src := v.lines(v.rowFrom+4*v.made, linesAtOnce, &at)
		v.gather(src, &at)
		v.horizontal(v.slot(v.made), v.slot(v.made+1))
		v.made += 2
	}
	at := v.at[:row.groups]
	for i := range at {
		at[i] = int32((row.first + i) % v.slots * v.blockBytes)
	}
	v.sum(out, v.ring, at, v.rowCoefs[row.coefs:], v.chunks)
}

func (v *vector) slot(block int) []byte {
	from := block % v.slots * v.blockBytes
	return v.ring[from : from+v.blockBytes]
}

// sum runs the vertical kernel over the blocks at at.
func (v *vector) sum(out, ring []byte, at []int32, coefs []byte, chunks int) {
	_ = out[chunks*chunkCols+7]
	_ = ring[int(at[len(at)-1])+chunks*groupBytes-1]
	if v.kernel == kernelVNNI {
		verticalVNNI(&out[0], &ring[0], &at[0], &coefs[0], len(at), chunks)
	} else {
		verticalAVX2(&out[0], &ring[0], &at[0], &coefs[0], len(at), chunks)
	}
}

// gather fills the tile from 8 rows. No byte beyond a row's pixels is read: the
// last ones are copied to where there is room.
func (v *vector) gather(src []byte, at *[linesAtOnce]int) {
	n, step := v.lineBytes(), 4*v.bytes
	groups := len(v.tile) / groupBytes
	whole := 0
	if n >= 16 {
		whole = min((n-16)/step+1, groups)
		for _, from := range at {
			_ = src[from+(whole-1)*step+15]
		}
		gatherAVX2(&v.tile[0], &src[0], at, step, whole, &v.shuffle)
	}
	if whole == groups {
		return
	}
	for i, from := range at {
		copy(v.edge[v.edgeAt[i]:v.edgeAt[i]+16], src[from+whole*step:from+n])
	}
	gatherAVX2(&v.tile[whole*groupBytes], &v.edge[0], &v.edgeAt, step, groups-whole, &v.shuffle)
}

// horizontal makes two blocks of the tile.
func (v *vector) horizontal(low, high []byte) {
	_, _ = low[12*len(v.spans)+3], high[12*len(v.spans)+3]
	if v.kernel == kernelVNNI {
		horizontalVNNI(&low[0], &high[0], &v.tile[0], &v.coefs[0], &v.spans[0], len(v.spans))
	} else {
		horizontalAVX2(&low[0], &high[0], &v.tile[0], &v.coefs[0], &v.spans[0], len(v.spans))
	}
}

// interleave fills a block with 4 source rows as they are.
func (v *vector) interleave(block []byte, y int) {
	var at [linesAtOnce]int
	src := v.lines(y, 4, &at)
	n := v.lineBytes()
	whole := n / 32
	if whole > 0 {
		for _, from := range at[:4] {
			_ = src[from+32*whole-1]
		}
		interleaveAVX2(&block[0], &src[0], &at, whole)
	}
	if n%32 == 0 {
		return
	}
	for i, from := range at[:4] {
		copy(v.edge[v.edgeAt[i]:v.edgeAt[i]+32], src[from+32*whole:from+n])
	}
	_ = block[128*whole+127]
	interleaveAVX2(&block[128*whole], &v.edge[0], &v.edgeAt, 1)
}
