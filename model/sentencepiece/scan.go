package sentencepiece

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
)

// scanner reads JSON where it lies. Vocabulary and merges come to a million and a half strings, for each of which encoding/json would
// allocate, in a second pass over the file; what is small goes to encoding/json.
type scanner struct {
	data []byte // valid UTF-8
	at   int
}

func (s *scanner) fail(format string, args ...any) error {
	return fmt.Errorf("byte %d: "+format, append([]any{s.at}, args...)...)
}

// next passes over white space and gives the byte after it, 0 at the end.
func (s *scanner) next() byte {
	for ; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// take passes over the byte c, after white space.
func (s *scanner) take(c byte) error {
	if got := s.next(); got != c {
		if s.at == len(s.data) {
			return s.fail("%q expected, but the file ends", c)
		}
		return s.fail("%q expected, not %q", c, got)
	}
	s.at++
	return nil
}

// end makes sure that nothing follows.
func (s *scanner) end() error {
	if s.next(); s.at < len(s.data) {
		return s.fail("%d bytes after the end of the value", len(s.data)-s.at)
	}
	return nil
}

// items passes over a list between two brackets and calls each where an item begins.
func (s *scanner) items(open, closing byte, each func() error) error {
	if err := s.take(open); err != nil {
		return err
	}
	if s.next() == closing {
		s.at++
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		if s.next() == closing {
			s.at++
			return nil
		}
		if err := s.take(','); err != nil {
			return err
		}
	}
}

// array passes over an array and calls each where an element begins.
func (s *scanner) array(each func() error) error { return s.items('[', ']', each) }

// object passes over an object and calls each where a value begins.
func (s *scanner) object(each func(key []byte) error) error {
	return s.items('{', '}', func() error {
		key, err := s.text()
		if err != nil {
			return err
		}
		if err := s.take(':'); err != nil {
			return err
		}
		return each(key)
	})
}

// text reads a string. Without escapes, which are rare, it is a stretch of the data.
func (s *scanner) text() ([]byte, error) {
	begin, escaped, err := s.quoted()
	if err != nil {
		return nil, err
	}
	if !escaped {
		return s.data[begin+1 : s.at-1], nil
	}
	var text string
	if err := json.Unmarshal(s.data[begin:s.at], &text); err != nil {
		return nil, s.fail("%w", err)
	}
	return []byte(text), nil
}

// quoted passes over a string, from quote to quote.
func (s *scanner) quoted() (begin int, escaped bool, err error) {
	if err := s.take('"'); err != nil {
		return 0, false, err
	}
	begin = s.at - 1
	for s.at < len(s.data) {
		c := s.data[s.at]
		s.at++
		switch {
		case c == '"':
			return begin, escaped, nil
		case c == '\\':
			escaped = true
			s.at++
		case c < ' ':
			return 0, false, s.fail("control character %#x in a string", c)
		}
	}
	s.at = len(s.data) // an escape may have gone beyond
	return 0, false, s.fail("a string without its end")
}

// id reads a whole number from 0 to an int32's largest.
func (s *scanner) id() (int32, error) {
	s.next()
	begin := s.at
	v := int64(0)
	for ; s.at < len(s.data) && s.data[s.at] >= '0' && s.data[s.at] <= '9'; s.at++ {
		if v = v*10 + int64(s.data[s.at]-'0'); v > math.MaxInt32 {
			return 0, s.fail("an id too large: %s…", s.data[begin:s.at+1])
		}
	}
	if digits := s.at - begin; digits == 0 || digits > 1 && s.data[begin] == '0' {
		return 0, s.fail("an id expected")
	}
	return int32(v), nil
}

// value passes over any value and gives its text. Where the value ends is all that is known of it then.
func (s *scanner) value() ([]byte, error) {
	c := s.next()
	begin := s.at
	var err error
	switch c {
	case '"':
		_, _, err = s.quoted()
	case '{', '[':
		err = s.nested()
	default:
		n := bytes.IndexAny(s.data[s.at:], ",]} \t\r\n")
		if n < 0 {
			n = len(s.data) - s.at
		}
		if s.at += n; n == 0 {
			err = s.fail("a value expected")
		}
	}
	return s.data[begin:s.at], err
}

// nested passes over an object or array by counting brackets, of either kind.
func (s *scanner) nested() error {
	for depth := 0; s.at < len(s.data); {
		switch s.data[s.at] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			if _, _, err := s.quoted(); err != nil {
				return err
			}
			continue
		}
		if s.at++; depth == 0 {
			return nil
		}
	}
	return s.fail("an object or array without its end")
}

// object is a JSON object whose values have not been looked at.
type object map[string][]byte

// members reads an object. A value that own, if there is one, reads itself is nil in the result. A key that is there twice is an
// error: readers differ in which of them they take.
func (s *scanner) members(own func(key []byte) (bool, error)) (object, error) {
	o := object{}
	err := s.object(func(key []byte) error {
		if _, ok := o[string(key)]; ok {
			return s.fail("%q is there twice", key)
		}
		o[string(key)] = nil
		if own != nil {
			if done, err := own(key); done || err != nil {
				return err
			}
		}
		value, err := s.value()
		if err != nil {
			return err
		}
		o[string(key)] = value
		return nil
	})
	return o, err
}

// get decodes the value of key; without one, or if it is null, into stays as it is.
func (o object) get(key string, into any) error {
	value, ok := o[key]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("%q: %w", key, err)
	}
	return nil
}
