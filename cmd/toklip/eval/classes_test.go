package eval

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestReadClasses(t *testing.T) {
	got, err := ReadClasses(strings.NewReader("# ImageNet\nn01440764\ttench, Tinca tinca\n\nn01443537 => goldfish\nmy cats\tcat,cat, house cat,\n"))
	want := []Class{{"n01440764", []string{"tench", "Tinca tinca"}}, {"n01443537", []string{"goldfish"}}, {"my cats", []string{"cat", "house cat"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for text, want := range map[string]string{
		"":                       "no classes in it",
		"n01440764 tench":        `line 1: "n01440764 tench" has neither a tab nor =>`,
		"a\tb\n../c\td":          `line 2: "../c" is no name of a folder`,
		"=> tench":               `line 1: "" is no name of a folder`,
		"a\tb\n\na => c":         `line 3: folder "a" stands in line 1 already`,
		"a => , ,":               `line 1: folder "a" has no name`,
		"a\tfine\nb\tna\xefve":   "line 2: byte 0xef is no UTF-8",
		strings.Repeat("x", 100): `line 1: "` + strings.Repeat("x", 60) + `…" has neither`,
	} {
		if _, err := ReadClasses(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestClassOfFolder(t *testing.T) {
	for folder, want := range map[string]string{"red_box": "red box", "cat": "cat", "__": "__", "_a__b": "a b"} {
		if got := ClassOfFolder(folder); got.Folder != folder || !slices.Equal(got.Names, []string{want}) {
			t.Errorf("%s: %v", folder, got)
		}
	}
}

func TestTemplates(t *testing.T) {
	got, err := ReadTemplates(strings.NewReader("a photo of a {}.\n# comment\n{}, or a {}\n"))
	if err != nil || !slices.Equal(got, []string{"a photo of a {}.", "{}, or a {}"}) {
		t.Fatalf("%q, %v", got, err)
	}
	texts := Fill(got, []string{"cat", "dog"})
	if want := []string{"a photo of a cat.", "cat, or a cat", "a photo of a dog.", "dog, or a dog"}; !slices.Equal(texts, want) {
		t.Errorf("%q", texts)
	}
	for text, want := range map[string]string{
		"":               "no templates in it",
		"{}\na photo":    `line 2: "a photo" has no {} where the name belongs`,
		"a {}\na {}":     `line 2: template "a {}" stands twice`,
		"a {}\n\n\xff{}": "line 3: byte 0xff",
	} {
		if _, err := ReadTemplates(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// FuzzReadClasses: every class has a folder of its own, below the one it is looked for in, and a name.
func FuzzReadClasses(f *testing.F) {
	f.Add([]byte("n01440764\ttench, Tinca tinca\nn01443537 => goldfish\n# comment"))
	f.Fuzz(func(t *testing.T, text []byte) {
		classes, err := ReadClasses(bytes.NewReader(text))
		if (err == nil) != (len(classes) > 0) {
			t.Fatalf("%v, %v", classes, err)
		}
		seen := map[string]bool{}
		for _, c := range classes {
			if c.Folder == "" || c.Folder == ".." || strings.Contains(c.Folder, "/") || seen[c.Folder] || len(c.Names) == 0 {
				t.Fatalf("%+v", c)
			}
			seen[c.Folder] = true
			for i, name := range c.Names {
				if name == "" || slices.Contains(c.Names[:i], name) {
					t.Fatalf("%+v", c)
				}
			}
		}
	})
}

// FuzzReadTemplates: every template has a place for the name.
func FuzzReadTemplates(f *testing.F) {
	f.Add([]byte("a photo of a {}.\n{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		templates, err := ReadTemplates(bytes.NewReader(text))
		if (err == nil) != (len(templates) > 0) {
			t.Fatalf("%q, %v", templates, err)
		}
		for _, text := range Fill(templates, []string{"NAME"}) {
			if !strings.Contains(text, "NAME") {
				t.Fatalf("%q", text)
			}
		}
	})
}
