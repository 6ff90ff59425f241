package sentencepiece

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// vocabulary is what the tests make tokenizer files of.
type vocabulary struct {
	pieces       []protoPiece
	byteFallback bool
	dummyPrefix  bool
	collapse     bool
	trainer      func([]byte) []byte // appends further fields of the trainer_spec
	normalizer   func([]byte) []byte // appends further fields of the normalizer_spec
}

// gemmaLike begins as Gemma's: padding, end and beginning of sentence, unknown, the bytes.
func gemmaLike() *vocabulary {
	v := &vocabulary{byteFallback: true}
	for _, name := range []string{"<pad>", "<eos>", "<bos>"} {
		v.add(pieceControl, 0, name)
	}
	v.add(pieceUnknown, 0, "<unk>")
	for b := range 256 {
		v.add(pieceByte, 0, byteName(b))
	}
	return v
}

func (v *vocabulary) add(kind pieceType, score float32, texts ...string) *vocabulary {
	for _, text := range texts {
		v.pieces = append(v.pieces, protoPiece{text: text, score: score, kind: kind})
	}
	return v
}

// learn adds pieces as training does: each scores less than the one before.
func (v *vocabulary) learn(texts ...string) *vocabulary {
	for _, text := range texts {
		v.add(pieceNormal, -float32(len(v.pieces)), text)
	}
	return v
}

// id is the place of a piece.
func (v *vocabulary) id(t testing.TB, text string) int32 {
	t.Helper()
	for i, p := range v.pieces {
		if p.text == text {
			return int32(i)
		}
	}
	t.Fatalf("%q is no piece", text)
	return -1
}

// ids are the places of pieces, each named or, in the way of a byte, <0x41>.
func (v *vocabulary) ids(t testing.TB, texts ...string) []int32 {
	t.Helper()
	ids := []int32{}
	for _, text := range texts {
		ids = append(ids, v.id(t, text))
	}
	return ids
}

// proto is the vocabulary as a tokenizer.model.
func (v *vocabulary) proto() []byte {
	var file, message []byte
	for _, p := range v.pieces {
		message = protowire.AppendTag(message[:0], fieldPiece, protowire.BytesType)
		message = protowire.AppendString(message, p.text)
		message = protowire.AppendTag(message, fieldScore, protowire.Fixed32Type)
		message = protowire.AppendFixed32(message, math.Float32bits(p.score))
		message = appendVarint(message, fieldType, uint64(p.kind))
		file = appendBytes(file, fieldPieces, message)
	}
	message = appendVarint(message[:0], fieldModelType, modelBPE)
	message = appendVarint(message, fieldByteFallback, protowire.EncodeBool(v.byteFallback))
	if v.trainer != nil {
		message = v.trainer(message)
	}
	file = appendBytes(file, fieldTrainer, message)
	message = appendVarint(message[:0], fieldDummyPrefix, protowire.EncodeBool(v.dummyPrefix))
	message = appendVarint(message, fieldCollapse, protowire.EncodeBool(v.collapse))
	if v.normalizer != nil {
		message = v.normalizer(message)
	}
	return appendBytes(file, fieldNormalizer, message)
}

func appendBytes(b []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), value)
}

func appendVarint(b []byte, number protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), value)
}

// json is the vocabulary as a tokenizer.json: any two pieces merge whose joint text is one that text may become, in the order of its
// score.
func (v *vocabulary) json(asStrings bool) []byte {
	type object = map[string]any
	vocab, added := map[string]int{}, []object{}
	for i, p := range v.pieces {
		vocab[p.text] = i
		if p.kind != pieceNormal && p.kind != pieceByte {
			added = append(added, object{"id": i, "content": p.text, "special": p.kind != pieceUser, "normalized": false})
		}
	}
	merges := []any{}
	for _, p := range v.pieces {
		if p.kind != pieceNormal && p.kind != pieceUser {
			continue
		}
		for i := range p.text {
			left, right := p.text[:i], p.text[i:]
			_, hasLeft := vocab[left]
			_, hasRight := vocab[right]
			switch {
			case !hasLeft || !hasRight:
			case asStrings:
				merges = append(merges, left+" "+right)
			default:
				merges = append(merges, []string{left, right})
			}
		}
	}
	file, err := json.Marshal(object{
		"version":        "1.0",
		"added_tokens":   added,
		"normalizer":     object{"type": "Replace", "pattern": object{"String": " "}, "content": space},
		"pre_tokenizer":  object{"type": "Split", "pattern": object{"String": " "}, "behavior": "MergedWithPrevious", "invert": false},
		"post_processor": nil,
		"model": object{
			"type": "BPE", "dropout": nil, "unk_token": "<unk>", "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": true, "byte_fallback": v.byteFallback, "ignore_merges": false, "vocab": vocab, "merges": merges,
		},
	})
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	return file
}

// gemmaSized is a vocabulary of as many pieces as Gemma's, with symbols such as it has. Its pieces are words made of earlier
// pieces, as training makes them, of random letters.
func gemmaSized() *vocabulary {
	const size = 256000
	v := gemmaLike()
	for i := range 99 {
		v.add(pieceUser, 0, fmt.Sprintf("<unused%d>", i))
	}
	for n := 1; n <= 31; n++ {
		v.add(pieceUser, 0, strings.Repeat("\n", n))
	}
	for n := 2; n <= 31; n++ {
		v.add(pieceUser, 0, strings.Repeat(space, n))
	}
	letters := strings.Split("e t a o i n s h r d l u c m f w g y p b v k j x q z 0 1 2 3 4 5 6 7 8 9 é ü и а о 的 一 是 の に", " ")
	letters = append(letters, space)
	random := rand.New(rand.NewPCG(1, 2))
	made := map[string]bool{}
	words := append([]string(nil), letters...)
	for len(v.pieces)+len(letters) < size {
		// Like Zipf: what was learnt early goes on being used.
		pick := func() string { return words[int(float64(len(words))*math.Pow(random.Float64(), 10))] }
		word := pick() + pick()
		if len(word) > 24 || made[word] || strings.LastIndex(word, space) > 0 {
			continue
		}
		made[word] = true
		words = append(words, word)
		v.learn(word)
	}
	return v.learn(letters...)
}

// prompts are n prompts of words of the vocabulary.
func (v *vocabulary) prompts(n int) []string {
	random := rand.New(rand.NewPCG(3, 4))
	var words []string
	for _, p := range v.pieces {
		if word, ok := strings.CutPrefix(p.text, space); ok && p.kind == pieceNormal && len(word) > 2 {
			words = append(words, word)
		}
	}
	prompts := make([]string, n)
	for i := range prompts {
		prompt := "a photo of a"
		for range 2 + random.IntN(5) {
			prompt += " " + words[random.IntN(len(words))]
		}
		prompts[i] = prompt
	}
	return prompts
}

// byteOf is the byte whose piece has that name.
func byteOf(name string) (byte, bool) {
	const digits = "0123456789ABCDEF"
	if len(name) != len("<0x00>") || name[:3] != "<0x" || name[5] != '>' {
		return 0, false
	}
	high, low := strings.IndexByte(digits, name[3]), strings.IndexByte(digits, name[4])
	return byte(high<<4 | low), high >= 0 && low >= 0
}
