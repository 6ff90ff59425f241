package engine

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/toklip/toklip/engine/preprocess"
)

// Stages says how long a frame spent where. Times of a batch count for each of its
// frames in full, since each waited for all of it.
type Stages struct {
	Wait       time.Duration // from Offer until the backend got the batch
	Preprocess time.Duration // conversion, resize, normalisation
	Tokenize   time.Duration // tokenizer graph, codebook search, comparison with the last ids
	Queue      time.Duration // between tokenizer and encoder while the encoder is busy with the batch before
	Encode     time.Duration // token encoder; 0 when it did not run for this batch
	Total      time.Duration // from Offer until the result was handed to the sink
}

// Drops counts the frames of a camera that gave no result, by cause.
type Drops struct {
	Replaced uint64 // a newer frame came before a batch had room for it
	Rate     uint64 // the camera's MaxFPS
	Invalid  uint64 // refused: no size, short buffer, unknown format
	Failed   uint64 // the backend failed
	Closed   uint64 // the camera was removed or the pipeline ended
}

// Sum is the number of all dropped frames.
func (d Drops) Sum() uint64 { return d.Replaced + d.Rate + d.Invalid + d.Failed + d.Closed }

// Mask is a set of cells of the grid, in raster order, one bit each.
type Mask []uint64

// newMask makes an empty mask for n cells.
func newMask(n int) Mask { return make(Mask, (n+63)/64) }

// Has reports whether cell i is in the set.
func (m Mask) Has(i int) bool { return m[i>>6]&(1<<(i&63)) != 0 }

// Count is the number of cells in the set.
func (m Mask) Count() int {
	n := 0
	for _, w := range m {
		n += bits.OnesCount64(w)
	}
	return n
}

// Append adds the numbers of the cells in the set to dst, ascending.
func (m Mask) Append(dst []int32) []int32 {
	for i, w := range m {
		for ; w != 0; w &= w - 1 {
			dst = append(dst, int32(i*64+bits.TrailingZeros64(w)))
		}
	}
	return dst
}

// Fill puts cells 0 to n-1 into the set and takes all others out.
func (m Mask) Fill(n int) {
	for i := range m {
		switch left := n - i*64; {
		case left >= 64:
			m[i] = ^uint64(0)
		case left > 0:
			m[i] = 1<<left - 1
		default:
			m[i] = 0
		}
	}
}

// Compare puts those cells into the set whose ids differ, takes all others out, and
// returns their number. a and b have the same length, at most the mask's.
func (m Mask) Compare(a, b []int32) int {
	clear(m)
	n := 0
	for i, id := range a {
		if id != b[i] {
			m[i>>6] |= 1 << (i & 63)
			n++
		}
	}
	return n
}

// Result is what came of one frame. It is read-only for everybody but the backend
// that fills it, and may be read by several goroutines.
//
// Whoever got one in Sink.Deliver may use it until Deliver returns, or until its own
// Release after a Retain. All slices belong to the result and go with it.
type Result struct {
	Camera        string
	Sequence      uint64
	CaptureWall   int64  // ns since 1970 UTC
	CaptureMono   int64  // ns of CLOCK_MONOTONIC
	Clock         string // where CaptureWall comes from
	Width, Height int    // of the frame before resizing, pixels
	Format        PixelFormat

	Resize preprocess.Mode // how the frame became the network's square; with the size it maps cells to pixels
	Model  *Model          // shapes; shared, never changes

	IDs     []int32 // [N] token ids in raster order
	Changed Mask    // cells whose id differs from the camera's result before; all of them when Keyframe

	// Keyframe: Changed compares with nothing. So it is for the first result of a
	// camera and of a backend, after a frame that failed, when the frame's size, format
	// or resize mode changed, and once every configured interval.
	Keyframe bool
	// Reused: the ids equal those of the camera's result before, so Features and Embedding
	// are its very values, and the token encoder had no need to run for this frame.
	Reused bool

	Features  []float32 // [N*D] after the encoder's last norm, token by token; nil without encoder
	Embedding []float32 // [E] as the model gives it, not normalised; nil without encoder

	Stages Stages
	Age    time.Duration // from capture until inference of the batch began, pre-processing counted in
	Batch  int           // frames in the batch
	Drops  Drops         // of this camera's frames before this one
	Lost   Lost          // what its source lost of them

	Backend   string // name of the backend, as in Description
	Precision string

	encoding *encoding
	pool     *resultPool
	refs     atomic.Int32
}

// encoding is the encoder's output for one set of ids. Results with equal ids share
// it, so that reuse costs no copy.
type encoding struct {
	features  []float32
	embedding []float32
	refs      atomic.Int32
}

// Retain keeps the result beyond Deliver; every Retain needs one Release. It is called by
// somebody who may use the result; Retain of one that went back to its pool panics.
func (r *Result) Retain() {
	if r.refs.Add(1) <= 1 {
		panic("engine: result retained after its release")
	}
}

// Release gives the result back. Nothing of it may be read afterwards. More calls of
// Release than there were references are a mistake that panics.
func (r *Result) Release() {
	switch n := r.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("engine: result released more often than retained")
	}
	r.dropEncoding()
	r.pool.put(r)
}

// BeginEncoding gives the result fresh Features and Embedding for a backend to fill.
func (r *Result) BeginEncoding() {
	r.dropEncoding()
	if r.Model.Encoder == "" {
		return
	}
	r.setEncoding(r.pool.encoding())
	r.Reused = false
}

// ShareEncoding makes Features and Embedding those of from, whose ids must be equal,
// and marks the result as Reused. It reports false, and changes nothing, if from has
// no encoding.
func (r *Result) ShareEncoding(from *Result) bool {
	if from.encoding == nil && r.Model.Encoder != "" {
		return false
	}
	r.dropEncoding()
	if from.encoding != nil {
		from.encoding.refs.Add(1)
		r.setEncoding(from.encoding)
	}
	r.Reused = true
	return true
}

func (r *Result) setEncoding(e *encoding) {
	r.encoding, r.Features, r.Embedding = e, e.features, e.embedding
}

func (r *Result) dropEncoding() {
	if e := r.encoding; e != nil && e.refs.Add(-1) == 0 {
		r.pool.putEncoding(e)
	}
	r.encoding, r.Features, r.Embedding = nil, nil, nil
}

// resultPool recycles results of one model. It may be used by several goroutines.
// It grows to the largest number ever in use at once and keeps them, since the garbage
// collector emptying it would allocate again on the hot path.
type resultPool struct {
	model *Model

	mu        sync.Mutex
	free      []*Result
	encodings []*encoding
}

func newResultPool(m *Model) *resultPool { return &resultPool{model: m} }

// result returns a result with one reference, its IDs and Changed ready to be filled
// and everything else zero.
func (p *resultPool) result() *Result {
	p.mu.Lock()
	var r *Result
	if n := len(p.free); n > 0 {
		r, p.free = p.free[n-1], p.free[:n-1]
	}
	p.mu.Unlock()
	if r == nil {
		n := p.model.Tokens()
		r = &Result{IDs: make([]int32, n), Changed: newMask(n), Model: p.model, pool: p}
	}
	r.refs.Store(1)
	return r
}

func (p *resultPool) put(r *Result) {
	ids, changed := r.IDs, r.Changed
	r.Camera, r.Sequence, r.CaptureWall, r.CaptureMono, r.Clock = "", 0, 0, 0, ""
	r.Width, r.Height, r.Format, r.Resize = 0, 0, 0, 0
	r.Keyframe, r.Reused = false, false
	r.Stages, r.Age, r.Batch, r.Drops, r.Lost = Stages{}, 0, 0, Drops{}, Lost{}
	r.Backend, r.Precision = "", ""
	clear(ids)
	clear(changed)
	p.mu.Lock()
	p.free = append(p.free, r)
	p.mu.Unlock()
}

func (p *resultPool) encoding() *encoding {
	p.mu.Lock()
	var e *encoding
	if n := len(p.encodings); n > 0 {
		e, p.encodings = p.encodings[n-1], p.encodings[:n-1]
	}
	p.mu.Unlock()
	if e == nil {
		e = &encoding{
			features:  make([]float32, p.model.Tokens()*p.model.FeatureDim),
			embedding: make([]float32, p.model.EmbeddingDim),
		}
	}
	e.refs.Store(1)
	return e
}

func (p *resultPool) putEncoding(e *encoding) {
	p.mu.Lock()
	p.encodings = append(p.encodings, e)
	p.mu.Unlock()
}
