package sentencepiece

import (
	"slices"
	"sort"
)

// matcher finds user-defined symbols in text, the longest that is there.
type matcher struct {
	words []string  // sorted
	ids   []int32   // of words
	first [256]bool // bytes that words begin with
}

// newMatcher makes a matcher of words, none of them empty, and their ids.
func newMatcher(words map[string]int32) matcher {
	var m matcher
	for word := range words {
		m.words = append(m.words, word)
		m.first[word[0]] = true
	}
	slices.Sort(m.words)
	for _, word := range m.words {
		m.ids = append(m.ids, words[word])
	}
	return m
}

// find finds the leftmost place at which a word stands, and the longest word there. Without any, at is the text's length and size 0.
func (m *matcher) find(text string) (at, size int, id int32) {
	if len(m.words) == 0 {
		return len(text), 0, 0
	}
	for at = range len(text) {
		if size, id := prefix(m, text[at:]); size > 0 {
			return at, size, id
		}
	}
	return len(text), 0, 0
}

// prefix finds the longest word that text begins with, size 0 if there is none. It narrows the sorted words, byte by byte, to those
// that begin as text does.
func prefix[T string | []byte](m *matcher, text T) (size int, id int32) {
	if len(text) == 0 || !m.first[text[0]] {
		return 0, 0
	}
	low, high := 0, len(m.words)
	for n := range len(text) {
		b := text[n]
		words := m.words[low:high] // they agree in n bytes, and each has more than n: the one that has not was dropped below
		from := sort.Search(len(words), func(i int) bool { return words[i][n] >= b })
		to := sort.Search(len(words), func(i int) bool { return words[i][n] > b })
		low, high = low+from, low+to
		if low == high {
			break
		}
		if len(m.words[low]) == n+1 {
			size, id = n+1, m.ids[low]
			if low++; low == high {
				break
			}
		}
	}
	return size, id
}
