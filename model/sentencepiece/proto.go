package sentencepiece

import (
	"fmt"
	"unicode/utf8"
)

// Fields of sentencepiece_model.proto that matter here; all others are passed over.
const (
	fieldPieces     = 1 // ModelProto
	fieldTrainer    = 2
	fieldNormalizer = 3

	fieldPiece = 1 // ModelProto.SentencePiece
	fieldScore = 2
	fieldType  = 3

	fieldModelType    = 3 // TrainerSpec
	fieldSuffix       = 24
	fieldByteFallback = 35
	fieldEOSPiece     = 47
	fieldPadPiece     = 48

	fieldCharsMap    = 2 // NormalizerSpec
	fieldDummyPrefix = 3
	fieldCollapse    = 4
	fieldEscape      = 5
)

// modelBPE is TrainerSpec.ModelType's BPE.
const modelBPE = 2

var modelTypes = map[uint64]string{1: "unigram", 3: "word", 4: "char"}

// pieceType is ModelProto.SentencePiece.Type.
type pieceType uint64

const (
	pieceNormal pieceType = iota + 1
	pieceUnknown
	pieceControl
	pieceUser
	pieceUnused
	pieceByte
)

type protoPiece struct {
	text  string
	score float32
	kind  pieceType
}

// protoModel is what a tokenizer.model says, with the defaults of its schema filled in.
type protoModel struct {
	pieces []protoPiece

	modelType    uint64
	suffix       bool // spaces are at the end of words
	byteFallback bool
	eos, pad     string

	charsMap    int // bytes of the table that rewrites characters
	dummyPrefix bool
	collapse    bool
	escape      bool
}

// parseProto reads a tokenizer.model.
func parseProto(data []byte) (*Tokenizer, error) {
	m := protoModel{modelType: 1, eos: "</s>", pad: "<pad>", dummyPrefix: true, collapse: true, escape: true}
	if err := m.read(data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return m.tokenizer()
}

func (m *protoModel) read(data []byte) error {
	if err := fields(data, m.field); err != nil {
		return fmt.Errorf("SentencePiece model: %w", err)
	}
	if len(m.pieces) == 0 {
		return fmt.Errorf("a SentencePiece model without pieces")
	}
	return nil
}

func (m *protoModel) field(f field) error {
	switch f.number {
	case fieldPieces:
		p, err := readPiece(f)
		if err != nil {
			return fmt.Errorf("piece %d: %w", len(m.pieces), err)
		}
		if len(m.pieces) == MaxVocabulary {
			return fmt.Errorf("more than %d pieces", MaxVocabulary)
		}
		m.pieces = append(m.pieces, p)
	case fieldTrainer:
		return f.message("trainer_spec", m.trainerField)
	case fieldNormalizer:
		return f.message("normalizer_spec", m.normalizerField)
	}
	return nil
}

func readPiece(f field) (protoPiece, error) {
	p := protoPiece{kind: pieceNormal}
	err := f.message("pieces", func(f field) (err error) {
		switch f.number {
		case fieldPiece:
			p.text, err = f.text("piece")
		case fieldScore:
			p.score, err = f.float("score")
		case fieldType:
			var kind uint64
			kind, err = f.varint("type")
			p.kind = pieceType(kind)
		}
		return err
	})
	switch {
	case err != nil:
		return p, err
	case p.text == "":
		return p, fmt.Errorf("it has no text")
	case len(p.text) > MaxPieceBytes:
		return p, fmt.Errorf("%d bytes of text, more than the %d allowed", len(p.text), MaxPieceBytes)
	case !utf8.ValidString(p.text):
		return p, fmt.Errorf("%q is no valid UTF-8", p.text)
	case p.score != p.score:
		return p, fmt.Errorf("%q has a score that is not a number", p.text)
	case p.kind < pieceNormal || p.kind > pieceByte:
		return p, fmt.Errorf("%q is of type %d, which is none", p.text, p.kind)
	}
	return p, nil
}

func (m *protoModel) trainerField(f field) (err error) {
	switch f.number {
	case fieldModelType:
		m.modelType, err = f.varint("model_type")
	case fieldSuffix:
		m.suffix, err = f.bool("treat_whitespace_as_suffix")
	case fieldByteFallback:
		m.byteFallback, err = f.bool("byte_fallback")
	case fieldEOSPiece:
		m.eos, err = f.text("eos_piece")
	case fieldPadPiece:
		m.pad, err = f.text("pad_piece")
	}
	return err
}

func (m *protoModel) normalizerField(f field) (err error) {
	switch f.number {
	case fieldCharsMap:
		var table []byte
		table, err = f.bytes("precompiled_charsmap")
		m.charsMap = len(table)
	case fieldDummyPrefix:
		m.dummyPrefix, err = f.bool("add_dummy_prefix")
	case fieldCollapse:
		m.collapse, err = f.bool("remove_extra_whitespaces")
	case fieldEscape:
		m.escape, err = f.bool("escape_whitespaces")
	}
	return err
}

// check refuses models of other kinds.
func (m *protoModel) check() error {
	switch {
	case m.modelType != modelBPE:
		kind, ok := modelTypes[m.modelType]
		if !ok {
			kind = fmt.Sprintf("type %d", m.modelType)
		}
		return fmt.Errorf("a SentencePiece model of kind %s; Gemma's and SigLIP 2's are BPE (SigLIP 1's is unigram)", kind)
	case m.charsMap > 0:
		return fmt.Errorf("its normalizer rewrites characters (precompiled_charsmap, %d bytes); train with normalization_rule_name=identity", m.charsMap)
	case m.suffix:
		return fmt.Errorf("it has spaces at the end of words (treat_whitespace_as_suffix)")
	case !m.escape:
		return fmt.Errorf("its pieces have plain spaces (escape_whitespaces is off)")
	}
	return nil
}

// tokenizer makes the tables of the encoder.
func (m *protoModel) tokenizer() (*Tokenizer, error) {
	t := &Tokenizer{
		format: Proto, vocabulary: len(m.pieces), unknown: -1,
		pieces: make(map[string]int32, len(m.pieces)),
	}
	t.merges.ranks = make([]uint32, len(m.pieces))
	// Text and the reserved pieces have names of their own: a model may have a piece <s> beside the control symbol <s>.
	reserved, symbols := map[string]int32{}, map[string]int32{}
	controls, bytes := map[string]int32{}, map[string]int32{}
	for i, p := range m.pieces {
		id, names := int32(i), reserved
		switch p.kind {
		case pieceUnknown:
			if t.unknown >= 0 {
				return nil, fmt.Errorf("%w: pieces %d and %d are both the unknown one", ErrFormat, t.unknown, i)
			}
			t.unknown = id
		case pieceControl:
			controls[p.text] = id
		case pieceByte:
			bytes[p.text] = id
		default:
			names = t.pieces
			t.longest = max(t.longest, len(p.text))
			t.merges.ranks[i] = rankOf(p.score)
		}
		if first, ok := names[p.text]; ok {
			return nil, fmt.Errorf("%w: pieces %d and %d are both %q", ErrFormat, first, i, p.text)
		}
		names[p.text] = id
		switch p.kind {
		case pieceUser:
			symbols[p.text] = id
		case pieceUnused:
			if t.unused == nil {
				t.unused = make([]bool, len(m.pieces))
			}
			t.unused[i] = true
		}
	}
	if t.unknown < 0 {
		return nil, fmt.Errorf("%w: none of its %d pieces is the unknown one", ErrFormat, len(m.pieces))
	}
	if err := t.setBytes(bytes, m.byteFallback); err != nil {
		return nil, err
	}
	t.symbols = newMatcher(symbols)
	t.normaliser = normaliser{prefix: m.dummyPrefix, collapse: m.collapse, keep: &t.symbols}
	var err error
	t.pad, t.eos, err = ending(controls, []string{m.pad, "<pad>"}, []string{m.eos, "</s>", "<eos>"})
	return t, err
}

// setBytes fills in the pieces of the bytes, of which either all or none must be there, and takes them out of pieces.
func (t *Tokenizer) setBytes(pieces map[string]int32, fallback bool) error {
	if !fallback {
		for name := range pieces {
			return fmt.Errorf("%w: it has a piece of a byte, %q, but byte_fallback is off", ErrFormat, name)
		}
		return nil
	}
	t.bytes = new([256]int32)
	for b := range t.bytes {
		name := byteName(b)
		id, ok := pieces[name]
		if !ok {
			return fmt.Errorf("%w: byte_fallback is on, but the piece %q is missing", ErrFormat, name)
		}
		t.bytes[b] = id
		delete(pieces, name)
	}
	for name := range pieces {
		return fmt.Errorf("%w: %q is said to be the piece of a byte; those are named as %q", ErrFormat, name, byteName(0))
	}
	return nil
}

// byteName is the name of the piece of a byte.
func byteName(b int) string { return fmt.Sprintf("<0x%02X>", b) }
