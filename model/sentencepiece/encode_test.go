package sentencepiece

import (
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// parse reads a vocabulary in both of its forms.
func parse(t testing.TB, v *vocabulary) map[string]*Tokenizer {
	t.Helper()
	tokenizers := map[string]*Tokenizer{}
	for name, data := range map[string][]byte{"tokenizer.model": v.proto(), "tokenizer.json": v.json(false), "tokenizer.json of strings": v.json(true)} {
		tokenizer, err := Parse(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		tokenizers[name] = tokenizer
	}
	return tokenizers
}

func TestMerging(t *testing.T) {
	v := gemmaLike().add(pieceUser, 0, "<mask>", "\n", "\n\n", "xy", "yxx")
	v.learn("ab", "bc", "abc", "cd", "abcd", "▁a", "▁▁", "aa", "aaa", "aaaa")
	v.learn("a", "b", "c", "d", "x", "y", "▁")
	for name, tokenizer := range parse(t, v) {
		for text, want := range map[string][]string{
			"":              {},
			"ab":            {"ab"},
			"abc":           {"abc"},
			"bcd":           {"bc", "d"}, // bc was learnt before cd
			"bbcd":          {"b", "bc", "d"},
			"abcd":          {"abcd"}, // ab, abc, abcd: cd lost its c to bc and bc its b to ab
			"acd":           {"a", "cd"},
			"aaa":           {"aaa"},
			"aaaaa":         {"aa", "aaa"}, // the leftmost of equal ones first: aa aa a
			"a a":           {"a", "▁a"},
			"  a":           {"▁", "▁a"}, // ▁a was learnt before ▁▁
			"   ":           {"▁▁", "▁"},
			"xy":            {"xy"},
			"xyxx":          {"xy", "x", "x"}, // from the left, though the other is longer
			"yxxy":          {"yxx", "y"},
			"\n\n\n":        {"\n\n", "\n"},
			"a<mask>b":      {"a", "<mask>", "b"},
			"a<mas":         {"a", "<0x3C>", "<0x6D>", "a", "<0x73>"},
			"é":             {"<0xC3>", "<0xA9>"},
			"aéb":           {"a", "<0xC3>", "<0xA9>", "b"},
			"\x00":          {"<0x00>"},
			"\xff":          {"<0xEF>", "<0xBF>", "<0xBD>"},
			"a\xe4\xbdb":    {"a", "<0xEF>", "<0xBF>", "<0xBD>", "<0xEF>", "<0xBF>", "<0xBD>", "b"},
			"<0x61>":        {"<0x3C>", "<0x30>", "x", "<0x36>", "<0x31>", "<0x3E>"},
			"<pad>":         {"<0x3C>", "<0x70>", "a", "d", "<0x3E>"},
			"ab\u2581abcab": {"ab", "▁", "abc", "ab"}, // ab took the a
		} {
			if got, want := tokenizer.Encode([]int32{}, text), v.ids(t, want...); !slices.Equal(got, want) {
				t.Errorf("%s: %q: %d, want %d", name, text, got, want)
			}
		}
	}
}

// TestUnlisted merges what tokenizer.json lists, not what happens to be in the vocabulary.
func TestUnlisted(t *testing.T) {
	v := gemmaLike().learn("ab", "bc", "a", "b", "c")
	data := strings.Replace(string(v.json(false)), `["a","b"],`, "", 1)
	tokenizer, err := Parse([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tokenizer.Encode(nil, "abc"), v.ids(t, "a", "bc"); !slices.Equal(got, want) {
		t.Errorf("abc: %d, want %d", got, want)
	}
}

// TestUnused takes pieces apart that merging went through. tokenizer.json knows no unused pieces.
func TestUnused(t *testing.T) {
	v := gemmaLike().add(pieceUnused, -1, "ab", "abc", "d").learn("abcd", "bd", "a", "b", "c")
	tokenizer, err := Parse(v.proto())
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]string{
		"ab":   {"a", "b"},
		"abc":  {"a", "b", "c"},
		"abcd": {"abcd"},
		"bd":   {"bd"},
		"d":    {"<0x64>"},
	} {
		if got, want := tokenizer.Encode(nil, text), v.ids(t, want...); !slices.Equal(got, want) {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// TestUnknown has one unknown piece for all that is unknown in a row, where there are no bytes.
func TestUnknown(t *testing.T) {
	v := new(vocabulary).add(pieceControl, 0, "<pad>", "</s>").add(pieceUnknown, 0, "<unk>").add(pieceUser, 0, "<m>").learn("ab", "a", "b", "▁")
	for name, tokenizer := range parse(t, v) {
		for text, want := range map[string][]string{
			"xyz":     {"<unk>"},
			"axyb":    {"a", "<unk>", "b"},
			"x<m>y":   {"<unk>", "<m>", "<unk>"},
			"x y":     {"<unk>", "▁", "<unk>"},
			"箱\xff":   {"<unk>"},
			"<unk>":   {"<unk>"}, // five characters of which none is known
			"a<pad>b": {"a", "<unk>", "a", "<unk>", "b"},
		} {
			if got, want := tokenizer.Encode(nil, text), v.ids(t, want...); !slices.Equal(got, want) {
				t.Errorf("%s: %q: %d, want %d", name, text, got, want)
			}
		}
	}
}

// TestControls types control symbols of which text could be made otherwise.
func TestControls(t *testing.T) {
	v := gemmaLike().add(pieceControl, 0, "$", "<s>").learn("<s", "s>", "<", "s", ">")
	for name, tokenizer := range parse(t, v) {
		for text, want := range map[string][]string{"$": {"<0x24>"}, "<s>": {"<s", ">"}} {
			if got, want := tokenizer.Encode(nil, text), v.ids(t, want...); !slices.Equal(got, want) {
				t.Errorf("%s: %q: %d, want %d", name, text, got, want)
			}
		}
	}
	// A tokenizer.json may list a merge into one.
	data := strings.Replace(string(v.json(false)), `"merges":[`, `"merges":[["<s",">"],`, 1)
	tokenizer, err := Parse([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tokenizer.Encode(nil, "<s>"), v.ids(t, "<s", ">"); !slices.Equal(got, want) {
		t.Errorf("<s>: %d, want %d", got, want)
	}
}

func TestPrompt(t *testing.T) {
	v := gemmaLike().learn("▁b", "a", "b", "▁")
	a, b, pad, eos := v.id(t, "a"), v.id(t, "▁b"), v.id(t, "<pad>"), v.id(t, "<eos>")
	for name, tokenizer := range parse(t, v) {
		if got := tokenizer.Vocabulary(); got != len(v.pieces) {
			t.Errorf("%s: vocabulary of %d, want %d", name, got, len(v.pieces))
		}
		if tokenizer.Pad() != pad || tokenizer.EOS() != eos {
			t.Errorf("%s: padding %d and end %d, want %d and %d", name, tokenizer.Pad(), tokenizer.EOS(), pad, eos)
		}
		for _, c := range []struct {
			text    string
			context int
			want    []int32
		}{
			{"A_b!", 5, []int32{a, b, eos, pad, pad}},
			{"a b", 3, []int32{a, b, eos}},
			{"a b b b", 3, []int32{a, b, eos}},
			{"a b", 1, []int32{eos}},
			{"", 2, []int32{eos, pad}},
			{"a", 0, nil},
			{"a", -1, nil},
		} {
			if got := tokenizer.Prompt(nil, c.text, c.context); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q in a context of %d: %d, want %d", name, c.text, c.context, got, c.want)
			}
			if got, want := tokenizer.Prompt([]int32{7, 8}, c.text, c.context), append([]int32{7, 8}, c.want...); !slices.Equal(got, want) {
				t.Errorf("%s: %q after others: %d, want %d", name, c.text, got, want)
			}
		}
	}
}

// TestConcurrent encodes with one tokenizer from several goroutines, long texts among short ones.
func TestConcurrent(t *testing.T) {
	tokenizer, err := Open("testdata/gemma.model")
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"a red box", strings.Repeat("ein großer roter Ball ", 2300), "🤖", ""}
	var want [][]int32
	for _, text := range texts {
		want = append(want, tokenizer.Encode(nil, text))
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var ids []int32
			for i := range 4 {
				n := (g + i) % len(texts)
				if ids = tokenizer.Encode(ids[:0], texts[n]); !slices.Equal(ids, want[n]) {
					t.Errorf("text %d differs between goroutines", n)
				}
			}
		}()
	}
	wg.Wait()
}

func TestRank(t *testing.T) {
	scores := []float32{float32(math.Inf(1)), math.MaxFloat32, 1.5, 1, math.SmallestNonzeroFloat32, 0, -math.SmallestNonzeroFloat32, -1, -1.5, -math.MaxFloat32, float32(math.Inf(-1))}
	for i := 1; i < len(scores); i++ {
		if rankOf(scores[i-1]) >= rankOf(scores[i]) {
			t.Errorf("score %g does not rank before %g", scores[i-1], scores[i])
		}
	}
	if zero := float32(math.Copysign(0, -1)); rankOf(zero) != rankOf(0) {
		t.Error("0 and -0 rank differently")
	}
}

func TestMatcher(t *testing.T) {
	m := newMatcher(map[string]int32{"a": 1, "ab": 2, "abcd": 3, "b": 4, "é": 5, "éa": 6})
	for text, want := range map[string][3]int{ // place, size, id of the leftmost one
		"":       {0, 0, 0},
		"x":      {1, 0, 0},
		"a":      {0, 1, 1},
		"abc":    {0, 2, 2},
		"abcde":  {0, 4, 3},
		"xxabd":  {2, 2, 2},
		"xb":     {1, 1, 4},
		"è":      {2, 0, 0}, // begins as é does
		"èé":     {2, 2, 5},
		"éab":    {0, 3, 6},
		"\xc3":   {1, 0, 0},
		"\xc3ab": {1, 2, 2},
	} {
		at, size, id := m.find(text)
		if got := [3]int{at, size, int(id)}; got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// slow encodes as the definition says: again and again it merges, of all neighbours whose text is a piece, those with the highest
// score, the leftmost of equals.
func slow(v *vocabulary, text string) []int32 {
	byText, scores := map[string]int32{}, map[string]float32{}
	var ofBytes [256]int32
	var users []string
	for i, p := range v.pieces {
		switch p.kind {
		case pieceByte:
			b, _ := byteOf(p.text)
			ofBytes[b] = int32(i)
		case pieceUser:
			users = append(users, p.text)
			fallthrough
		case pieceNormal:
			byText[p.text], scores[p.text] = int32(i), p.score
		}
	}
	type part struct {
		text   string
		frozen bool
	}
	var parts []part
	for rest := strings.ReplaceAll(string([]rune(text)), " ", space); rest != ""; {
		longest := ""
		for _, user := range users {
			if strings.HasPrefix(rest, user) && len(user) > len(longest) {
				longest = user
			}
		}
		if longest == "" {
			_, size := utf8.DecodeRuneInString(rest)
			parts = append(parts, part{text: rest[:size]})
			rest = rest[size:]
			continue
		}
		parts = append(parts, part{text: longest, frozen: true})
		rest = rest[len(longest):]
	}
	for {
		best := -1
		for i := range len(parts) - 1 {
			score, ok := scores[parts[i].text+parts[i+1].text]
			if ok && !parts[i].frozen && !parts[i+1].frozen && (best < 0 || score > scores[parts[best].text+parts[best+1].text]) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		parts[best].text += parts[best+1].text
		parts = slices.Delete(parts, best+1, best+2)
	}
	ids := []int32{}
	for _, p := range parts {
		if id, ok := byText[p.text]; ok {
			ids = append(ids, id)
			continue
		}
		for _, b := range []byte(p.text) {
			ids = append(ids, ofBytes[b])
		}
	}
	return ids
}
