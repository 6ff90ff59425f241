package labels

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// reference is a file of the reference data.
func reference(name string) string {
	return filepath.Join("..", "..", "testdata", "reference", "golden", name)
}

func TestTexts(t *testing.T) {
	set := Set{Labels: []Label{
		{Name: "red box", Templates: []string{"a photo of a {}", "{}"}},
		{Name: "door", Prompts: []string{"an open door", "red box"}, Templates: []string{"{}", "{}, or no {}"}},
	}}
	want := []string{"a photo of a red box", "red box", "an open door", "an open door, or no an open door", "red box, or no red box"}
	if got := set.Texts(); !slices.Equal(got, want) {
		t.Errorf("texts are %q, want %q", got, want)
	}
	if got, want := set.Labels[1].Texts(), []string{want[2], want[3], want[1], want[4]}; !slices.Equal(got, want) {
		t.Errorf("texts of the second label are %q, want %q", got, want)
	}
	if got := (&Set{}).Texts(); len(got) != 0 {
		t.Errorf("a set without labels has texts %q", got)
	}
}

func TestNamedIsValid(t *testing.T) {
	set := Set{Labels: []Label{Named("red box"), Named("Übergang"), Named("❤"), Named("人")}}
	if err := set.Validate(); err != nil {
		t.Error(err)
	}
	if err := (&Set{}).Validate(); err != nil {
		t.Errorf("a set without labels: %v", err)
	}
	DefaultTemplates()[0] = "spoiled"
	if DefaultTemplates()[0] == "spoiled" {
		t.Error("default templates are shared")
	}
}

func TestHash(t *testing.T) {
	base := func() *Set {
		a, b := Named("a"), Named("b")
		a.Prompts = []string{"x", "y"}
		return &Set{Labels: []Label{a, b}}
	}
	seen := map[string]string{}
	for name, edit := range map[string]func(*Set){
		"base":               func(*Set) {},
		"name":               func(s *Set) { s.Labels[0].Name = "c" },
		"prompt":             func(s *Set) { s.Labels[0].Prompts[1] = "z" },
		"prompts run on":     func(s *Set) { s.Labels[0].Prompts = []string{"xy"} },
		"prompt is template": func(s *Set) { s.Labels[0].Prompts, s.Labels[0].Templates = []string{"x"}, []string{"y", "{}"} },
		"template":           func(s *Set) { s.Labels[1].Templates = []string{"{}"} },
		"threshold":          func(s *Set) { s.Labels[0].Threshold = math.Nextafter(0.5, 1) },
		"hysteresis":         func(s *Set) { s.Labels[0].Hysteresis = 0 },
		"hold":               func(s *Set) { s.Labels[0].Hold++ },
		"order":              func(s *Set) { slices.Reverse(s.Labels) },
		"fewer":              func(s *Set) { s.Labels = s.Labels[:1] },
	} {
		s := base()
		edit(s)
		h := s.Hash()
		if other, ok := seen[h]; ok || len(h) != 12 {
			t.Errorf("%s: hash %q, as %s", name, h, other)
		}
		seen[h] = name
		if s.Clone().Hash() != h {
			t.Errorf("%s: a clone has another hash", name)
		}
	}
	// Of this very value: a hash that changes with a release would make every consumer believe that the labels did.
	if got, want := base().Hash(), "f646b65d121b"; got != want {
		t.Errorf("hash is %q, was %q in all releases", got, want)
	}
	if got := (&Set{}).Hash(); got != "" {
		t.Errorf("a set without labels has hash %q", got)
	}
	spelled := base()
	spelled.Labels[1].Prompts = nil
	if spelled.Hash() != base().Hash() {
		t.Error("the name as the only prompt, written or not, gives two hashes")
	}
}

func TestCloneSharesNothing(t *testing.T) {
	s := &Set{Labels: []Label{Named("a")}}
	c := s.Clone()
	c.Labels[0].Prompts[0], c.Labels[0].Templates[0] = "b", "b"
	if s.Labels[0].Prompts[0] != "a" || s.Labels[0].Templates[0] == "b" {
		t.Errorf("a change of the clone reached the set: %+v", s.Labels[0])
	}
}

// TestValidate makes one mistake after the other in a good set.
func TestValidate(t *testing.T) {
	long := strings.Repeat("ä", 600)
	for name, c := range map[string]struct {
		edit  func(*Label)
		field string
		want  string
	}{
		"no name":           {func(l *Label) { l.Name = "" }, "name", "label 2: the name is empty"},
		"spaces":            {func(l *Label) { l.Name = " _ " }, "name", `label 2: name " _ " is nothing but punctuation`},
		"long name":         {func(l *Label) { l.Name = strings.Repeat("x", 129) }, "name", "x\"… has 129 bytes: at most 128 are possible"},
		"name not UTF-8":    {func(l *Label) { l.Name = "a\xff" }, "name", `name "a\xff" is not valid UTF-8`},
		"control":           {func(l *Label) { l.Name = "a\x07b" }, "name", `name "a\ab" has a control character at byte 1`},
		"same name":         {func(l *Label) { l.Name = "RED  box!" }, "name", `name "RED  box!" is the same as that of label 1, "red box"`},
		"empty prompt":      {func(l *Label) { l.Prompts = []string{"a", "..."} }, "prompts", `label "blue ball": prompt "..." is empty`},
		"prompt not UTF-8":  {func(l *Label) { l.Prompts = []string{"\xc3"} }, "prompts", `prompt "\xc3" is not valid UTF-8`},
		"long prompt":       {func(l *Label) { l.Prompts = []string{long} }, "prompts", "has 1200 bytes: at most 1000 are possible"},
		"many prompts":      {func(l *Label) { l.Prompts = make([]string, 101) }, "prompts", "101 prompts: at most 100"},
		"no templates":      {func(l *Label) { l.Templates = nil }, "templates", "no templates"},
		"no placeholder":    {func(l *Label) { l.Templates = []string{"{}", "a photo"} }, "templates", `template "a photo" has no {}`},
		"template UTF-8":    {func(l *Label) { l.Templates = []string{"{}\xff"} }, "templates", "is not valid UTF-8"},
		"long template":     {func(l *Label) { l.Templates = []string{long + "{}"} }, "templates", "has 1202 bytes"},
		"many templates":    {func(l *Label) { l.Templates = make([]string, 17) }, "templates", "17 templates: at most 16"},
		"text grows":        {func(l *Label) { l.Templates = []string{strings.Repeat("{}", 200)} }, "templates", `makes a text of 1800 bytes of prompt "blue ball"`},
		"threshold 0":       {func(l *Label) { l.Threshold = 0 }, "threshold", "threshold is 0: it must lie between 0 and 1"},
		"threshold 1":       {func(l *Label) { l.Threshold = 1 }, "threshold", "threshold is 1"},
		"threshold NaN":     {func(l *Label) { l.Threshold = math.NaN() }, "threshold", "threshold is NaN"},
		"hysteresis":        {func(l *Label) { l.Hysteresis = 0.5 }, "hysteresis", "hysteresis is 0.5: it must be at least 0 and less than the threshold, 0.5"},
		"hysteresis < 0":    {func(l *Label) { l.Hysteresis = -0.1 }, "hysteresis", "hysteresis is -0.1"},
		"hysteresis NaN":    {func(l *Label) { l.Hysteresis = math.NaN() }, "hysteresis", "hysteresis is NaN"},
		"hold < 0":          {func(l *Label) { l.Hold = -1 }, "hold", "hold is -1ns: it must be between 0 and 1h0m0s"},
		"hold above 1 hour": {func(l *Label) { l.Hold = time.Hour + 1 }, "hold", "hold is 1h0m0.000000001s"},
	} {
		set := Set{Labels: []Label{Named("red box"), Named("blue ball"), Named("door")}}
		set.Labels[1].Prompts = nil
		c.edit(&set.Labels[1])
		err := set.Validate()
		var p *Problem
		if !errors.As(err, &p) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Label != 1 || p.Field != c.field || p.Name != set.Labels[1].Name || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: problem %+v; want label 1, field %q and %q", name, p, c.field, c.want)
		}
		if len(err.Error()) > 300 || !utf8.ValidString(err.Error()) {
			t.Errorf("%s: an error of %d bytes, valid UTF-8 %v", name, len(err.Error()), utf8.ValidString(err.Error()))
		}
		if _, err := Compile(&set, nil, 1, 0); err == nil {
			t.Errorf("%s: compiled all the same", name)
		}
	}
}

func TestValidateAtTheLimits(t *testing.T) {
	l := Label{
		Name: strings.Repeat("n", MaxNameBytes), Prompts: []string{strings.Repeat("p", MaxTextBytes)}, Templates: []string{"{}"},
		Threshold: 0.5, Hysteresis: 0.499, Hold: MaxHold,
	}
	if err := (&Set{Labels: []Label{l}}).Validate(); err != nil {
		t.Error(err)
	}
	many := func(n int) *Set {
		s := new(Set)
		for i := range n {
			s.Labels = append(s.Labels, Named(fmt.Sprint("label ", i)))
		}
		return s
	}
	if err := many(MaxLabels).Validate(); err != nil {
		t.Error(err)
	}
	err := many(10_000).Validate()
	if err == nil || err.Error() != "10000 labels in the set: at most 1000 are possible" {
		t.Errorf("10000 labels: %v", err)
	}
	wide := many(100)
	for i := range wide.Labels {
		for k := range 50 {
			wide.Labels[i].Prompts = append(wide.Labels[i].Prompts, fmt.Sprint("prompt ", k))
		}
	}
	var p *Problem
	if err := wide.Validate(); !errors.As(err, &p) || p.Label != -1 || !strings.Contains(p.Text, "10200 texts in the set") {
		t.Errorf("10200 texts: %v", err)
	}
}

// TestValidateTellsAll: each mistake is told, but a thousand are counted.
func TestValidateTellsAll(t *testing.T) {
	a, b := Named(""), Named("b")
	a.Prompts = nil
	a.Threshold, b.Hold = 2, -1
	err := (&Set{Labels: []Label{a, b}}).Validate()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 3 {
		t.Fatalf("three mistakes give %v", err)
	}
	if got := joined.Unwrap()[2].Error(); got != `label "b": hold is -1ns: it must be between 0 and 1h0m0s` {
		t.Errorf("the third is %q", got)
	}
	bad := make([]Label, MaxLabels)
	err = (&Set{Labels: bad}).Validate()
	all := err.(interface{ Unwrap() []error }).Unwrap()
	// Each has no name, no templates and no threshold; its hysteresis of 0 is fine.
	if last := all[len(all)-1].(*Problem); len(all) != maxProblems+1 || last.Text != "2980 more mistakes in the set" {
		t.Errorf("%d problems, the last %q", len(all), last.Text)
	}
}

// TestCanonical: names are compared as the tokenizer sees texts.
func TestCanonical(t *testing.T) {
	data, err := os.ReadFile(reference("tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ Text, Canonical string }
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		if got := canonical(c.Text); got != c.Canonical {
			t.Errorf("%q is %q, want %q", c.Text, got, c.Canonical)
		}
	}
}

// FuzzSet: whatever a command sends is refused with errors that fit a message, or compiles.
func FuzzSet(f *testing.F) {
	f.Add("red box", "a red box", "a photo of a {}", 0.5, 0.1, int64(time.Second), 1)
	f.Add("", "", "", 0.0, 0.0, int64(0), 0)
	f.Add("a\xff", "\x00", "{}{}{}", math.NaN(), math.Inf(1), int64(-1), 3)
	f.Add(strings.Repeat("ß", 65), strings.Repeat("p ", 400), strings.Repeat("{}", 400), 1.0, 1.0, int64(math.MaxInt64), 40)
	f.Fuzz(func(t *testing.T, name, prompt, template string, threshold, hysteresis float64, hold int64, copies int) {
		set := new(Set)
		for i := range min(max(copies, 0), 50) {
			set.Labels = append(set.Labels, Label{
				Name: fmt.Sprint(name, i), Prompts: []string{prompt, name}, Templates: []string{template, "{}"},
				Threshold: threshold, Hysteresis: hysteresis, Hold: time.Duration(hold),
			})
		}
		if copies < 0 {
			set.Labels = append(set.Labels, Label{Name: name, Templates: []string{template}, Threshold: threshold, Hysteresis: hysteresis, Hold: time.Duration(hold)})
		}
		if err := set.Validate(); err != nil {
			if text := err.Error(); len(text) > 16<<10 || !utf8.ValidString(text) {
				t.Fatalf("error of %d bytes: %.300q", len(text), text)
			}
			return
		}
		embeddings := make(map[string][]float32)
		for i, text := range set.Texts() {
			if len(text) > MaxTextBytes || !utf8.ValidString(text) {
				t.Fatalf("text of %d bytes: %q", len(text), text)
			}
			embeddings[text] = []float32{1, float32(i) / 1000}
		}
		c, err := Compile(set, embeddings, 100, -10)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.Score(nil, []float32{1, 0}) {
			if s.Broken || !(s.Score >= 0 && s.Score <= 1) || !(s.Cosine > 0 && s.Cosine <= 1) {
				t.Fatalf("score %+v", s)
			}
		}
	})
}
