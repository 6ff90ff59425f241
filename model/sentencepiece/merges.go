package sentencepiece

import "math"

// merges tells which neighbours merge, and in what order: the way of one of the two files.
type merges struct {
	ranks []uint32         // by id, of tokenizer.model: neighbours merge whose text is a piece
	pairs map[pair]merging // of tokenizer.json: neighbours merge that are listed
}

// pair is two ids, the left one in the upper half.
type pair uint64

func pairOf(left, right int32) pair { return pair(left)<<32 | pair(uint32(right)) }

type merging struct {
	rank uint32
	id   int32 // the result
}

// find looks up two neighbours, whose joint text is given. The lower rank goes first.
func (m *merges) find(t *Tokenizer, left, right *symbol, text []byte) (rank uint32, id int32, ok bool) {
	if m.pairs != nil {
		if left.id < 0 || right.id < 0 {
			return 0, 0, false
		}
		found, ok := m.pairs[pairOf(left.id, right.id)]
		return found.rank, found.id, ok
	}
	if len(text) > t.longest {
		return 0, 0, false
	}
	if id = t.piece(text); id < 0 {
		return 0, 0, false
	}
	return m.ranks[id], id, true
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
