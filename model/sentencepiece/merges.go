package sentencepiece

import "math"

// merges tells which neighbours merge, and in what order: the way of one of the two files. Of both, the joint text must be a piece.
type merges struct {
	ranks  []uint32 // of tokenizer.model, by the piece's id: it does not matter what the two neighbours are
	listed splits   // of tokenizer.json: they must be listed
}

// find looks up two neighbours, whose joint text is given. The lower rank goes first.
func (m *merges) find(t *Tokenizer, left, right *symbol, text []byte) (rank uint32, id int32, ok bool) {
	if len(text) > t.longest {
		return 0, 0, false
	}
	if id = t.piece(text); id < 0 {
		return 0, 0, false
	}
	if m.ranks != nil {
		return m.ranks[id], id, true
	}
	if left.id < 0 || right.id < 0 {
		return 0, 0, false
	}
	rank, ok = m.listed.find(id, left.size)
	return rank, id, ok
}

// split is a listed merge: the piece it makes, and how many bytes of that are the left part's. Left and right need not be kept, nor
// looked up: the file has half a million of them.
type split struct {
	id   int32
	left uint32
}

// splits are the listed merges by the piece they make.
type splits struct {
	first []uint32 // by id: where those of the piece begin; those of the last one end at the last value
	left  []uint32 // of each
	rank  []uint32 // of each
}

// newSplits makes the table of list, which is in the order of the ranks, for ids below vocabulary.
func newSplits(list []split, vocabulary int) splits {
	s := splits{first: make([]uint32, vocabulary+1), left: make([]uint32, len(list)), rank: make([]uint32, len(list))}
	for _, l := range list {
		s.first[l.id]++
	}
	end := uint32(0)
	for id, n := range s.first {
		end += n
		s.first[id] = end
	}
	for rank := len(list) - 1; rank >= 0; rank-- {
		l := list[rank]
		s.first[l.id]--
		at := s.first[l.id]
		s.left[at], s.rank[at] = l.left, uint32(rank)
	}
	return s
}

// find is the rank of the merge that makes the piece id of a left part of so many bytes: the last one, if it is listed twice.
func (s *splits) find(id int32, left int) (rank uint32, ok bool) {
	for i := s.first[id+1]; i > s.first[id]; i-- {
		if s.left[i-1] == uint32(left) {
			return s.rank[i-1], true
		}
	}
	return 0, false
}

// rankOf orders scores, of which the higher goes first: the rank of a higher score is lower. 0 and -0 are equal.
func rankOf(score float32) uint32 {
	bits := math.Float32bits(score + 0)
	if bits>>31 == 0 {
		bits ^= 1 << 31 // positive numbers above the negative ones
	} else {
		bits = ^bits // of which the one with the smaller magnitude is the higher
	}
	return ^bits
}

// candidate is a merge that may be done.
type candidate struct {
	rank        uint32
	id          int32
	left, right int // symbols
	size        int // of both when the candidate was queued: tells whether they are still the same
}

func (c *candidate) before(d *candidate) bool {
	return c.rank < d.rank || c.rank == d.rank && c.left < d.left
}

// queue is a binary heap of candidates, the first on top. container/heap would allocate for each.
type queue []candidate

func (q *queue) push(c candidate) {
	*q = append(*q, c)
	h := *q
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !c.before(&h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = c
}

func (q *queue) pop() candidate {
	h := *q
	top := h[0]
	n := len(h) - 1
	last := h[n]
	h = h[:n]
	*q = h
	if n == 0 {
		return top
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && h[child+1].before(&h[child]) {
			child++
		}
		if !h[child].before(&last) {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = last
	return top
}
