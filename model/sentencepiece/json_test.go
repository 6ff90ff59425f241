package sentencepiece

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// replaced is a good tokenizer.json with some of its text replaced, all of which must be there.
func replaced(t *testing.T, oldnew ...string) []byte {
	t.Helper()
	data := string(gemmaLike().learn("ab", "a", "b", "▁").json(false))
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(data, oldnew[i]) {
			t.Fatalf("%s is not in the file", oldnew[i])
		}
		data = strings.Replace(data, oldnew[i], oldnew[i+1], 1)
	}
	return []byte(data)
}

const replaceSpaces = `"normalizer":{"content":"▁","pattern":{"String":" "},"type":"Replace"}`

// TestBrokenJSON wants each mistake named.
func TestBrokenJSON(t *testing.T) {
	unk := `{"content":"<unk>","id":3,"normalized":false,"special":true}`
	added := func(token string) []string { return []string{unk, unk + "," + token} }
	for name, c := range map[string]struct {
		change []string
		want   error
		text   string
	}{
		"cut short":          {[]string{`"version":"1.0"}`, `"version":"1.`}, ErrFormat, "a string without its end"},
		"cut in a list":      {[]string{`[["a","b"]]`, `[["a","b"]`}, ErrFormat, "JSON: byte "},
		"more after it":      {[]string{`"version":"1.0"}`, `"version":"1.0"} {}`}, ErrFormat, "2 bytes after the end"},
		"no value":           {[]string{`"version":"1.0"`, `"version":`}, ErrFormat, "a value expected"},
		"no JSON":            {[]string{`"version":"1.0"`, `"version":tru`}, ErrFormat, `"version" is no valid JSON`},
		"no UTF-8":           {[]string{`"1.0"`, "\"\xff\""}, ErrFormat, "no valid UTF-8"},
		"key twice":          {[]string{`"version":"1.0"`, `"version":"1.0","version":"1.0"`}, ErrFormat, `"version" is there twice`},
		"model twice":        {[]string{`"version":"1.0"`, `"model":{}`}, ErrFormat, `"model" is there twice`},
		"no model":           {[]string{`"model":{`, `"other":{`}, ErrFormat, "not tokenizer_config.json"},
		"model a list":       {[]string{`"model":{`, `"model":[],"other":{`}, ErrFormat, `"model": byte`},
		"key without colon":  {[]string{`"version":"1.0"`, `"version"`}, ErrFormat, "':' expected"},
		"control character":  {[]string{`"1.0"`, "\"1\n0\""}, ErrFormat, "control character 0xa"},
		"unigram":            {[]string{`"type":"BPE"`, `"type":"Unigram"`}, ErrUnsupported, `a model of type "Unigram"`},
		"type no string":     {[]string{`"type":"BPE"`, `"type":1`}, ErrFormat, `"type"`},
		"dropout":            {[]string{`"dropout":null`, `"dropout":0.1`}, ErrUnsupported, "dropout 0.1"},
		"ignore_merges":      {[]string{`"ignore_merges":false`, `"ignore_merges":true`}, ErrUnsupported, "ignore_merges"},
		"prefix":             {[]string{`"continuing_subword_prefix":null`, `"continuing_subword_prefix":"##"`}, ErrUnsupported, `"##"`},
		"suffix":             {[]string{`"end_of_word_suffix":null`, `"end_of_word_suffix":"</w>"`}, ErrUnsupported, "</w>"},
		"normalizer":         {[]string{replaceSpaces, `"normalizer":{"type":"NFKC"}`}, ErrUnsupported, `normalizer "NFKC"`},
		"normalizer in list": {[]string{replaceSpaces, `"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"}]}`}, ErrUnsupported, `normalizer "NFC"`},
		"regular expression": {[]string{`"String":" "`, `"Regex":" "`}, ErrUnsupported, `normalizer "Replace"`},
		"no normalizer":      {[]string{replaceSpaces, `"normalizer":null`}, ErrUnsupported, "no normalizer replaces spaces"},
		"byte level":         {[]string{`"type":"Split"`, `"type":"ByteLevel"`}, ErrUnsupported, `pre_tokenizer "ByteLevel"`},
		"split inverted":     {[]string{`"invert":false`, `"invert":true`}, ErrUnsupported, `pre_tokenizer "Split"`},
		"no vocabulary":      {[]string{`"vocab":{`, `"other":{`}, ErrFormat, `"model" has no "vocab"`},
		"id no number":       {[]string{`"ab":260`, `"ab":"260"`}, ErrFormat, `piece "ab": byte `},
		"id negative":        {[]string{`"ab":260`, `"ab":-1`}, ErrFormat, "an id expected"},
		"id a fraction":      {[]string{`"ab":260`, `"ab":260.5`}, ErrFormat, "',' expected, not '.'"},
		"id with a zero":     {[]string{`"ab":260`, `"ab":0260`}, ErrFormat, "an id expected"},
		"id large":           {[]string{`"ab":260`, `"ab":4194304`}, ErrFormat, `piece "ab" has id 4194304`},
		"id huge":            {[]string{`"ab":260`, `"ab":99999999999999999999`}, ErrFormat, "an id too large"},
		"id of two":          {[]string{`"ab":260`, `"ab":261`}, ErrFormat, "both have id 261"},
		"piece twice":        {[]string{`"ab":260`, `"ab":260,"ab":300`}, ErrFormat, `piece "ab" is there twice, as 260 and 300`},
		"piece empty":        {[]string{`"ab":260`, `"":260`}, ErrFormat, "piece 260 has no text"},
		"no merges":          {[]string{`"merges":[`, `"other":[`}, ErrFormat, `"model" has no "merges"`},
		"merges null":        {[]string{`"merges":[["a","b"]]`, `"merges":null`}, ErrFormat, `"merges": byte 0: '[' expected`},
		"merge of one":       {[]string{`["a","b"]`, `["a"]`}, ErrFormat, "merge 0: byte"},
		"merge of three":     {[]string{`["a","b"]`, `"a b c"`}, ErrFormat, `merge 0: "a b c" is not two pieces`},
		"merge unknown":      {[]string{`["a","b"]`, `["a","c"]`}, ErrFormat, `merge 0 of "a" and "c": "ac" is not in the vocabulary`},
		"merge into unknown": {[]string{`["a","b"]`, `["a","b"],["b","a"]`}, ErrFormat, `merge 1 of "b" and "a": "ba" is not in the vocabulary`},
		"merge of nothing":   {[]string{`["a","b"]`, `["","ab"]`}, ErrFormat, "merge 0: a part without text"},
		"merge a number":     {[]string{`["a","b"]`, `1`}, ErrFormat, "merge 0"},
		"bad escape":         {[]string{`["a","b"]`, `["a","\q"]`}, ErrFormat, "invalid character"},
		"byte missing":       {[]string{`"\u003c0x41\u003e":69,`, ``}, ErrFormat, `the piece "<0x41>" is missing`},
		"no unknown piece":   {[]string{`"byte_fallback":true`, `"byte_fallback":false`, `"unk_token":"\u003cunk\u003e"`, `"unk_token":null`}, ErrFormat, `unk_token ""`},
		"unknown apart":      {[]string{`"byte_fallback":true`, `"byte_fallback":false`, `"fuse_unk":true`, `"fuse_unk":false`}, ErrUnsupported, "fuse_unk"},
		"added differs":      {added(`{"id":5,"content":"ab"}`), ErrFormat, `added token "ab" has id 5, but 260 in the vocabulary`},
		"added taken":        {added(`{"id":260,"content":"new"}`), ErrFormat, `pieces "ab" and "new" both have id 260`},
		"added negative":     {added(`{"id":-1,"content":"new"}`), ErrFormat, `piece "new" has id -1`},
		"added empty":        {added(`{"id":264,"content":""}`), ErrFormat, "piece 264 has no text"},
		"added alone":        {added(`{"id":264,"content":"new","single_word":true}`), ErrUnsupported, "single_word"},
		"added no list":      {[]string{`"added_tokens":[`, `"added_tokens":{},"other":[`}, ErrFormat, `"added_tokens"`},
		"no end":             {[]string{`{"content":"<eos>","id":1,"normalized":false,"special":true},`, ``}, ErrUnsupported, "no control symbol for the end of sentence"},
	} {
		t.Run(name, func(t *testing.T) {
			for i, s := range c.change { // the file has its angle brackets escaped
				c.change[i] = strings.NewReplacer("<", `\u003c`, ">", `\u003e`).Replace(s)
			}
			tokenizer, err := Parse(replaced(t, c.change...))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q, want one of kind %q with %q", err, c.want, c.text)
			}
			if tokenizer != nil {
				t.Error("a tokenizer beside the error")
			}
		})
	}
}

// TestJSONNormalizers takes the normalizers of Gemma's and of SigLIP 2's tokenizers, and a pre-tokenizer left out.
func TestJSONNormalizers(t *testing.T) {
	step := strings.TrimPrefix(replaceSpaces, `"normalizer":`)
	for name, c := range map[string]struct {
		normalizer string
		want       []int32 // of "Ab a"
	}{
		"spaces":             {step, []int32{4 + 'A', 262, 263, 261}},
		"lower-case first":   {`{"type":"Sequence","normalizers":[{"type":"Lowercase"},` + step + `]}`, []int32{260, 263, 261}},
		"lower-case after":   {`{"type":"Sequence","normalizers":[` + step + `,{"type":"Lowercase"}]}`, []int32{260, 263, 261}},
		"a list of one":      {`{"type":"Sequence","normalizers":[` + step + `]}`, []int32{4 + 'A', 262, 263, 261}},
		"no pre-tokenizer":   {step + `,"pre_tokenizer":null,"other":{}`, []int32{4 + 'A', 262, 263, 261}},
		"lower-case, no pre": {`{"type":"Sequence","normalizers":[{"type":"Lowercase"},` + step + `]},"pre_tokenizer":null`, []int32{260, 263, 261}},
	} {
		change := []string{replaceSpaces, `"normalizer":` + c.normalizer}
		if strings.Contains(c.normalizer, "pre_tokenizer") {
			change = append([]string{`"pre_tokenizer"`, `"was"`}, change...)
		}
		tokenizer, err := Parse(replaced(t, change...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := tokenizer.Encode(nil, "Ab a"); !slices.Equal(got, c.want) {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestAdded finds added tokens in the text as it is given, or in the normalised one.
func TestAdded(t *testing.T) {
	token := func(id int, content string, normalized bool) string {
		return fmt.Sprintf(`,{"id":%d,"content":%q,"normalized":%t,"special":false}`, id, content, normalized)
	}
	data := replaced(t,
		`"special":true}]`, `"special":true}`+token(264, "a b", false)+token(265, "b a", true)+token(300, "B", false)+`]`,
		`"normalizer":{`, `"normalizer":{"type":"Sequence","normalizers":[{"type":"Lowercase"},{`, `"type":"Replace"}`, `"type":"Replace"}]}`)
	tokenizer, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if got := tokenizer.Vocabulary(); got != 301 {
		t.Errorf("vocabulary of %d, want 301: ids may have gaps", got)
	}
	for text, want := range map[string][]int32{
		"ab":    {260},
		"a b":   {264},
		"a▁b":   {261, 263, 262}, // not as it was given
		"b a":   {265},
		"b▁a":   {265}, // the same once normalised
		"B":     {300},
		"aB a":  {261, 300, 263, 261},
		"A b a": {261, 263, 265}, // a b is not there before lower-casing
		"b a b": {262, 263, 264}, // what is in the given text goes first
	} {
		if got := tokenizer.Encode(nil, text); !slices.Equal(got, want) {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// TestEscapes reads a file whose strings are all escaped.
func TestEscapes(t *testing.T) {
	v := gemmaLike().learn("\"\\", "ab", "🤖", "a", "b", "\"", "\\", "▁", "\t")
	v.pieces[4+'\t'].text = "<gone>" // as in Gemma's, where a tab has taken the place
	var escaped strings.Builder
	for _, r := range string(v.json(false)) {
		switch {
		case r >= 0x10000:
			fmt.Fprintf(&escaped, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		case r >= 0x80:
			fmt.Fprintf(&escaped, `\u%04x`, r)
		default:
			escaped.WriteRune(r)
		}
	}
	tokenizer, err := Parse([]byte(escaped.String()))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tokenizer.Encode(nil, "ab🤖\"\\ \t"), v.ids(t, "ab", "🤖", "\"\\", "▁", "\t"); !slices.Equal(got, want) {
		t.Errorf("%d, want %d", got, want)
	}
}
