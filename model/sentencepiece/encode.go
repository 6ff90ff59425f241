package sentencepiece

import (
	"slices"
	"unicode/utf8"
)

// scratch is the working memory of one Encode.
type scratch struct {
	text    []byte // normalised
	symbols []symbol
	queue   queue
	splits  map[int32]int // of unused pieces: how many bytes the left part had when they were merged
}

// maxKept bounds what stays allocated after a long text, in bytes of it.
const maxKept = 64 << 10

// symbol is a stretch of the normalised text that is, or is to become, one piece. Symbols form a list; those merged into their
// left neighbour have size 0 and are no longer in it.
type symbol struct {
	start, size int
	prev, next  int   // in the list, -1 at its ends
	id          int32 // -1 if the text is no piece
	frozen      bool  // a user-defined symbol, which merges with nothing
}

// Encode appends the ids of text to dst: the text as it is, neither made canonical nor with symbols for beginning and end. Each byte
// that is no valid UTF-8 counts as U+FFFD, as in SentencePiece.
func (t *Tokenizer) Encode(dst []int32, text string) []int32 {
	s := t.scratch.Get().(*scratch)
	t.split(s, text)
	t.merge(s)
	dst = t.emit(dst, s)
	if cap(s.text) <= maxKept {
		s.text, s.symbols, s.queue = s.text[:0], s.symbols[:0], s.queue[:0]
		clear(s.splits)
		t.scratch.Put(s)
	}
	return dst
}

// split normalises text and cuts it into user-defined symbols and characters.
func (t *Tokenizer) split(s *scratch, text string) {
	for text != "" {
		at, size, id := t.literals.find(text)
		start := len(s.text)
		s.text = t.normaliser.append(s.text, text[:at])
		t.characters(s, start)
		if size > 0 {
			start := len(s.text)
			s.text = append(s.text, text[at:at+size]...)
			s.symbols = append(s.symbols, symbol{start: start, size: size, id: id, frozen: true})
		}
		text = text[at+size:]
	}
	for i := range s.symbols {
		s.symbols[i].prev, s.symbols[i].next = i-1, i+1
	}
	if n := len(s.symbols); n > 0 {
		s.symbols[n-1].next = -1
	}
}

// characters cuts the normalised text from start on.
func (t *Tokenizer) characters(s *scratch, start int) {
	for start < len(s.text) {
		size, id := prefix(&t.symbols, s.text[start:])
		frozen := size > 0
		if !frozen {
			_, size = utf8.DecodeRune(s.text[start:])
			id = t.piece(s.text[start : start+size])
		}
		s.symbols = append(s.symbols, symbol{start: start, size: size, id: id, frozen: frozen})
		start += size
	}
}

// piece is the id of the piece that text is, -1 if it is none.
func (t *Tokenizer) piece(text []byte) int32 {
	if id, ok := t.pieces[string(text)]; ok {
		return id
	}
	return -1
}

// merge merges neighbours until none merge any more.
func (t *Tokenizer) merge(s *scratch) {
	for i := 1; i < len(s.symbols); i++ {
		t.consider(s, i-1, i)
	}
	for len(s.queue) > 0 {
		c := s.queue.pop()
		left, right := &s.symbols[c.left], &s.symbols[c.right]
		if left.size == 0 || right.size == 0 || left.size+right.size != c.size {
			continue // one of the two has been merged with another meanwhile
		}
		left.size, left.id, left.next = c.size, c.id, right.next
		right.size = 0
		if left.next >= 0 {
			s.symbols[left.next].prev = c.left
			t.consider(s, c.left, left.next)
		}
		if left.prev >= 0 {
			t.consider(s, left.prev, c.left)
		}
	}
}

// consider queues the merge of two neighbours, if they merge.
func (t *Tokenizer) consider(s *scratch, left, right int) {
	l, r := &s.symbols[left], &s.symbols[right]
	if l.frozen || r.frozen {
		return
	}
	size := l.size + r.size
	rank, id, ok := t.merges.find(t, l, r, s.text[l.start:l.start+size])
	if !ok {
		return
	}
	s.queue.push(candidate{rank: rank, id: id, left: left, right: right, size: size})
	if t.unused != nil && t.unused[id] {
		if s.splits == nil {
			s.splits = map[int32]int{}
		}
		s.splits[id] = l.size
	}
}

// emit appends the ids of what the text has become.
func (t *Tokenizer) emit(dst []int32, s *scratch) []int32 {
	dst = slices.Grow(dst, len(s.symbols))
	e := emitter{t: t, s: s, dst: dst}
	for i := range s.symbols {
		if sym := &s.symbols[i]; sym.size > 0 {
			e.add(s.text[sym.start:sym.start+sym.size], sym.id)
		}
	}
	return e.dst
}

type emitter struct {
	t       *Tokenizer
	s       *scratch
	dst     []int32
	unknown bool // the last id is the unknown piece, which stands for all that is unknown in a row
}

// add appends the ids of text, which is the piece id or none (-1). An unused piece is taken apart as it came about, and a single
// character that is one counts as unknown.
func (e *emitter) add(text []byte, id int32) {
	t := e.t
	if id >= 0 && t.unused != nil && t.unused[id] {
		if n, ok := e.s.splits[id]; ok {
			e.add(text[:n], t.piece(text[:n]))
			e.add(text[n:], t.piece(text[n:]))
			return
		}
		id = -1
	}
	switch {
	case id < 0 && t.bytes != nil:
		for _, b := range text {
			e.dst = append(e.dst, t.bytes[b])
		}
	case id < 0:
		if !e.unknown {
			e.dst = append(e.dst, t.unknown)
		}
		e.unknown = true
		return
	default:
		e.dst = append(e.dst, id)
	}
	e.unknown = false
}
