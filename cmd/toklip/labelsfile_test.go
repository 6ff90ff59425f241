package main

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/engine/labels"
)

func TestParseLabels(t *testing.T) {
	templates := []string{"one {}", "{}"}
	for text, want := range map[string][]string{
		"":                              nil,
		" \n\n":                         nil,
		"a red box":                     {"a red box"},
		"a\r\n\n b, c \n":               {"a", "b, c"},
		"\xef\xbb\xbfa\nb":              {"a", "b"},
		"#1 pallet\n[b]":                {"#1 pallet", "[b]"},
		`["a", {"label": "b"}]`:         {"a", "b"},
		"\xef\xbb\xbf\n [\n\"a, b\"\n]": {"a, b"},
		"[]":                            nil,
	} {
		list, err := parseLabels([]byte(text), templates)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		var names []string
		for _, l := range list {
			names = append(names, l.Name)
			if !slices.Equal(l.Templates, templates) {
				t.Errorf("%q: templates %q", text, l.Templates)
			}
		}
		if !slices.Equal(names, want) {
			t.Errorf("%q: %q, want %q", text, names, want)
		}
	}
	list, err := parseLabels([]byte(`[{"label": "a", "prompts": ["p", "q"], "templates": ["{}!"]}]`), templates)
	if err != nil || len(list) != 1 || !slices.Equal(list[0].Prompts, []string{"p", "q"}) || !slices.Equal(list[0].Templates, []string{"{}!"}) {
		t.Errorf("%+v, %v", list, err)
	}
	for text, want := range map[string]string{
		`["a"`:                  "unexpected end of JSON input",
		`["a"] "b"`:             "invalid character",
		`["a", 7]`:              "label 2: 7 is neither a name nor an object",
		`["a", null]`:           "label 2: null is neither a name nor an object",
		`[{"label": 5}]`:        "label 1: ",
		`[{"name": "a"}]`:       `unknown field "name"`,
		`[{"label":"a","x":1}]`: `unknown field "x"`,
	} {
		if list, err := parseLabels([]byte(text), templates); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %s", text, list, err, want)
		}
	}
}

// FuzzParseLabels: names, written as JSON, are read as the same labels; nothing comes with an error.
func FuzzParseLabels(f *testing.F) {
	for _, seed := range []string{"a red box\nrobot", `["a", {"label": "b", "prompts": ["c"]}]`, "[", "\xef\xbb\xbf[]", `[{"label":"a","hold":"1s"}]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		list, err := parseLabels(content, labels.DefaultTemplates())
		if err != nil {
			if list != nil {
				t.Fatal("labels came with the error")
			}
			return
		}
		if err := (&labels.Set{Labels: list}).Validate(); err != nil || len(list) == 0 {
			return // what has no valid names JSON may change
		}
		names := make([]map[string]any, len(list))
		for i, l := range list {
			names[i] = map[string]any{"label": l.Name, "prompts": l.Prompts, "templates": l.Templates, "threshold": l.Threshold,
				"hysteresis": l.Hysteresis, "hold": l.Hold.String()}
		}
		text, err := json.Marshal(names)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseLabels(text, labels.DefaultTemplates())
		if err != nil || !reflect.DeepEqual(again, list) {
			t.Fatalf("%s became %+v, %v, want %+v", text, again, err, list)
		}
	})
}
