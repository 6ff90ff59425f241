package sentencepiece

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// jsonModel is a tokenizer.json while its tables are being made.
type jsonModel struct {
	*Tokenizer

	ids      map[string]int32 // the whole vocabulary
	texts    []string         // the same by id, empty where no piece has it
	controls map[string]int32 // special tokens: never made from text
}

// parseJSON reads a tokenizer.json.
func parseJSON(data []byte) (*Tokenizer, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%w: JSON that is no valid UTF-8", ErrFormat)
	}
	file, model, err := readMembers(data)
	if err != nil {
		return nil, fmt.Errorf("%w: JSON: %w", ErrFormat, err)
	}
	if model == nil {
		return nil, fmt.Errorf(`%w: a JSON file without "model"; tokenizer.json is the one to give, not tokenizer_config.json or another of its folder`, ErrFormat)
	}
	if err := errors.Join(file.check(), model.check("vocab", "merges")); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	for _, key := range []string{"vocab", "merges"} {
		if _, ok := model[key]; !ok {
			return nil, fmt.Errorf(`%w: its "model" has no %q`, ErrFormat, key)
		}
	}
	m := jsonModel{
		Tokenizer: &Tokenizer{format: JSON, unknown: -1},
		controls:  map[string]int32{},
	}
	// Steps that only make sense after those before them.
	for _, step := range []func(file, model object) error{
		m.readKind, m.readNormalizer, m.readPreTokenizer, m.readVocabulary, m.readAdded, m.readMerges, m.readFallback, m.finish,
	} {
		if err := step(file, model); err != nil {
			if !errors.Is(err, ErrUnsupported) {
				err = fmt.Errorf("%w: %w", ErrFormat, err)
			}
			return nil, err
		}
	}
	return m.Tokenizer, nil
}

// readMembers takes apart the file and, in the same pass, what lies in its "model", nil if it has none.
func readMembers(data []byte) (file, model object, err error) {
	s := scanner{data: data}
	file, err = s.members(func(key []byte) (bool, error) {
		if string(key) != "model" {
			return false, nil
		}
		var err error
		if model, err = s.members(nil); err != nil {
			err = fmt.Errorf(`"model": %w`, err)
		}
		return true, err
	})
	if err == nil {
		err = s.end()
	}
	return file, model, err
}

// check looks whether the values are JSON, but those of the keys named.
func (o object) check(but ...string) error {
	for key, value := range o {
		if value != nil && !slices.Contains(but, key) && !json.Valid(value) {
			return fmt.Errorf("%q is no valid JSON", key)
		}
	}
	return nil
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrUnsupported}, args...)...)
}

// readKind refuses models that are no plain BPE.
func (m *jsonModel) readKind(_, model object) error {
	var kind, prefix, suffix string
	var dropout float64
	var ignore bool
	if err := errors.Join(
		model.get("type", &kind), model.get("dropout", &dropout), model.get("ignore_merges", &ignore),
		model.get("continuing_subword_prefix", &prefix), model.get("end_of_word_suffix", &suffix),
	); err != nil {
		return err
	}
	switch {
	case kind != "BPE":
		return unsupported("a model of type %q; Gemma's and SigLIP 2's are BPE (SigLIP 1's is Unigram)", kind)
	case dropout != 0:
		return unsupported("merges are left out at random (dropout %g)", dropout)
	case ignore:
		return unsupported("words that are in the vocabulary are not merged (ignore_merges)")
	case prefix != "" || suffix != "":
		return unsupported("pieces inside or at the end of words are marked (%q, %q); SentencePiece's are not", prefix, suffix)
	}
	return nil
}

// step is a normalizer or pre-tokenizer.
type step struct {
	Type        string
	Normalizers []step
	Pattern     struct{ String, Regex *string }
	Content     string
	Behavior    string
	Invert      bool
}

// replacesSpaces tells whether the step is the one that makes spaces ▁.
func (s step) replacesSpaces() bool {
	return s.Type == "Replace" && s.Pattern.String != nil && *s.Pattern.String == " " && s.Content == space
}

// readNormalizer takes what Gemma's and SigLIP 2's have: spaces replaced, letters lowered.
func (m *jsonModel) readNormalizer(file, _ object) error {
	var normalizer step
	if err := file.get("normalizer", &normalizer); err != nil {
		return err
	}
	steps := []step{normalizer}
	if normalizer.Type == "Sequence" {
		steps = normalizer.Normalizers
	}
	replaces := false
	for _, s := range steps {
		switch {
		case s.replacesSpaces():
			replaces = true
		case s.Type == "Lowercase":
			m.normaliser.lower = true
		case s.Type == "":
		default:
			return unsupported("normalizer %q; only spaces replaced by %q (Replace) and Lowercase are done here", s.Type, space)
		}
	}
	if !replaces {
		return unsupported("no normalizer replaces spaces by %q, as SentencePiece's tokenizers do", space)
	}
	return nil
}

// readPreTokenizer takes none, and Gemma's: it splits at spaces, of which none are left by then.
func (m *jsonModel) readPreTokenizer(file, _ object) error {
	var pre step
	if err := file.get("pre_tokenizer", &pre); err != nil {
		return err
	}
	atSpaces := pre.Type == "Split" && pre.Pattern.String != nil && *pre.Pattern.String == " " && !pre.Invert
	if pre.Type != "" && !atSpaces {
		return unsupported("pre_tokenizer %q; only Split at spaces is done here", pre.Type)
	}
	return nil
}

func (m *jsonModel) readVocabulary(_, model object) error {
	data := model["vocab"]
	m.ids = make(map[string]int32, min(len(data)/16, MaxVocabulary))
	s := scanner{data: data}
	err := s.object(func(key []byte) error {
		id, err := s.id()
		if err != nil {
			return fmt.Errorf("piece %q: %w", key, err)
		}
		return m.add(string(key), id)
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return fmt.Errorf(`"vocab": %w`, err)
	}
	return nil
}

// add gives a piece its id.
func (m *jsonModel) add(text string, id int32) error {
	if text == "" {
		return fmt.Errorf("piece %d has no text", id)
	}
	if id < 0 || id >= MaxVocabulary {
		return fmt.Errorf("piece %q has id %d, not one from 0 to %d", text, id, MaxVocabulary-1)
	}
	if first, ok := m.ids[text]; ok {
		return fmt.Errorf("piece %q is there twice, as %d and %d", text, first, id)
	}
	if grow := int(id) + 1 - len(m.texts); grow > 0 {
		m.texts = append(m.texts, make([]string, grow)...)
	}
	if other := m.texts[id]; other != "" {
		return fmt.Errorf("pieces %q and %q both have id %d", other, text, id)
	}
	m.texts[id] = text
	m.ids[text] = id
	return nil
}

// addedToken is an entry of "added_tokens".
type addedToken struct {
	ID         int32
	Content    string
	SingleWord bool `json:"single_word"`
	Lstrip     bool
	Rstrip     bool
	Normalized bool
	Special    bool
}

// readAdded reads the tokens that are found in text before anything is merged, and those that never are.
func (m *jsonModel) readAdded(file, _ object) error {
	var tokens []addedToken
	if err := file.get("added_tokens", &tokens); err != nil {
		return err
	}
	literals, symbols := map[string]int32{}, map[string]int32{}
	for _, token := range tokens {
		if id, ok := m.ids[token.Content]; !ok {
			if err := m.add(token.Content, token.ID); err != nil {
				return fmt.Errorf("added tokens: %w", err)
			}
		} else if id != token.ID {
			return fmt.Errorf("added token %q has id %d, but %d in the vocabulary", token.Content, token.ID, id)
		}
		switch {
		case token.Special:
			m.controls[token.Content] = token.ID
		case token.SingleWord || token.Lstrip || token.Rstrip:
			return unsupported("added token %q is found depending on what is around it (single_word, lstrip, rstrip)", token.Content)
		case token.Normalized:
			symbols[string(m.normaliser.append(nil, token.Content))] = token.ID
		default:
			literals[token.Content] = token.ID
		}
	}
	m.literals, m.symbols = newMatcher(literals), newMatcher(symbols)
	return nil
}

// readMerges reads the pairs that merge, either "a b" or ["a","b"].
func (m *jsonModel) readMerges(_, model object) error {
	data := model["merges"]
	list := make([]split, 0, len(data)/24)
	var text []byte
	s := scanner{data: data}
	err := s.array(func() error {
		left, right, err := readMerge(&s)
		if err == nil && (len(left) == 0 || len(right) == 0) {
			err = errors.New("a part without text")
		}
		if err != nil {
			return fmt.Errorf("merge %d: %w", len(list), err)
		}
		text = append(append(text[:0], left...), right...)
		before := int32(0)
		if len(list) > 0 {
			before = list[len(list)-1].id
		}
		id, ok := m.lookUp(text, before)
		if !ok {
			return fmt.Errorf("merge %d of %q and %q: %q is not in the vocabulary", len(list), left, right, text)
		}
		// Parts that are no pieces need no error: there will be nothing to merge.
		list = append(list, split{id: id, left: uint32(len(left))})
		return nil
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return fmt.Errorf(`"merges": %w`, err)
	}
	m.merges.listed = newSplits(list, len(m.texts))
	return nil
}

// lookUp finds the piece that text is. As a rule, the merges into a piece follow each other, and after them come those into the piece
// with the next id: before is the piece of the last merge.
func (m *jsonModel) lookUp(text []byte, before int32) (id int32, ok bool) {
	for id := before; id <= before+1 && int(id) < len(m.texts); id++ {
		if m.texts[id] == string(text) {
			return id, true
		}
	}
	id, ok = m.ids[string(text)]
	return id, ok
}

func readMerge(s *scanner) (left, right []byte, err error) {
	if s.next() == '"' {
		both, err := s.text()
		if err != nil {
			return nil, nil, err
		}
		left, right, ok := bytes.Cut(both, []byte(" "))
		if !ok || bytes.IndexByte(right, ' ') >= 0 {
			return nil, nil, fmt.Errorf("%q is not two pieces with a space between", both)
		}
		return left, right, nil
	}
	n := 0
	err = s.array(func() error {
		part, err := s.text()
		switch n {
		case 0:
			left = part
		case 1:
			right = part
		}
		n++
		return err
	})
	if err == nil && n != 2 {
		err = s.fail("%d pieces instead of two", n)
	}
	return left, right, err
}

// readFallback finds out what becomes of characters that are no pieces.
func (m *jsonModel) readFallback(_, model object) error {
	var fallback, fuse bool
	var unknown string
	if err := errors.Join(
		model.get("byte_fallback", &fallback), model.get("fuse_unk", &fuse), model.get("unk_token", &unknown),
	); err != nil {
		return err
	}
	if fallback {
		m.bytes = new([256]int32)
		for b := range m.bytes {
			id, ok := m.ids[byteName(b)]
			if !ok && b < utf8.RuneSelf {
				// Gemma's has a tab in the place of <0x09>: the character is a piece and never falls back.
				id, ok = m.ids[string(rune(b))]
			}
			if !ok {
				return fmt.Errorf("byte_fallback is on, but the piece %q is missing", byteName(b))
			}
			m.bytes[b] = id
		}
		return nil
	}
	id, ok := m.ids[unknown]
	if !ok {
		return fmt.Errorf("byte_fallback is off, and the unknown piece, unk_token %q, is not in the vocabulary", unknown)
	}
	if !fuse {
		return unsupported("each unknown character is a piece of its own (fuse_unk is off); in SentencePiece those in a row are one")
	}
	m.unknown = id
	return nil
}

// finish leaves those pieces that text may become: what a special token's text is made of stays as it is.
func (m *jsonModel) finish(_, _ object) error {
	m.vocabulary = len(m.texts)
	for token := range m.controls {
		delete(m.ids, token)
	}
	m.pieces = m.ids
	for _, text := range m.texts {
		m.longest = max(m.longest, len(text))
	}
	var err error
	m.pad, m.eos, err = ending(m.controls, []string{"<pad>"}, []string{"<eos>", "</s>"})
	return err
}
