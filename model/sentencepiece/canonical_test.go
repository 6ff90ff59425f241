package sentencepiece

import (
	"testing"
	"unicode/utf8"
)

// The canonical forms are Python's: " ".join(text.replace("_", " ").translate(no ASCII punctuation).lower().split()).
func TestCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "",
		" \t\n ":                             "",
		"!?.":                                "",
		"A Photo of a RED box!":              "a photo of a red box",
		"red_box__door":                      "red box door",
		"_a_":                                "a",
		"a ! b":                              "a b",
		"don't":                              "dont",
		"don’t «x» ¿y?":                      "don’t «x» ¿y", // punctuation beyond ASCII stays
		"a\u00a0b\u2003c\u3000d\u0085e\x1cf": "a b c d e f",
		"a\u200bb\u00adc":                    "a\u200bb\u00adc", // no white space
		"a\x00b":                             "a\x00b",
		"ÄÖÜ ẞ":                              "äöü ß",
		"İI ıi":                              "i̇i ıi",
		"ΌΣΟΣ ΣΟΦΌΣ Σ ΑΣ!":                   "όσος σοφός σ ας",
		"ΑΣ'Β ΑΣ\u00b7Β ΑΣ\u00b7":            "ασβ ασ·β ας·", // the apostrophe is gone before, the dot is a sign inside of a word
		"ΑΣ\u0301 \u0301Σ Α\u0301Σ":          "ας\u0301 \u0301σ α\u0301ς",
		"ДВЕРЬ 箱 ドア 🤖":                       "дверь 箱 ドア 🤖",
		"Ⅷ Ⓐ":                                "ⅷ ⓐ",
		"a\xffb\xe4\xbd":                     "a\ufffdb\ufffd\ufffd",
	} {
		if got := Canonical(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add("A Photo of a RED_box!")
	f.Add("ΑΣ' ΑΣ\u0301 İ \x1c\xff")
	f.Fuzz(func(t *testing.T, text string) {
		canonical := Canonical(text)
		if !utf8.ValidString(canonical) {
			t.Fatalf("%q: %q is no valid UTF-8", text, canonical)
		}
		if again := Canonical(canonical); again != canonical {
			t.Fatalf("%q: canonical form %q, and of that %q", text, canonical, again)
		}
	})
}
