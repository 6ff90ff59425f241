package texttower

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestParseLine(t *testing.T) {
	for text, want := range map[string]string{
		`{"text":"a","tokens":[1],"embedding":[0.5,-2]}`: "",
		`{"failed":"no memory"}`:                         "no memory",
		``:                                               "it wrote \"\": EOF",
		`{}`:                                             "neither an embedding nor why there is none",
		`null`:                                           "neither an embedding",
		`{"text":"a","tokens":[1],"embedding":[]}`:     "neither an embedding",
		`{"text":"a","tokens":[1],"embedding":[1e99]}`: "cannot unmarshal number 1e99",
		`{"text":"a","tokens":[1],"embedding":[NaN]}`:  "invalid character 'N'",
		`{"text":"a","tokens":[1.5],"embedding":[1]}`:  "cannot unmarshal number 1.5",
		`{"text":"a","tokens":[1],"embedding":[1]} {}`: "more than one value",
		`{"text":"a","vector":[1]}`:                    `unknown field "vector"`,
		`{"text":"a","tokens":[1],"embedding":[0.5`:    "unexpected EOF",
	} {
		line, err := parseLine([]byte(text))
		if want == "" {
			if err != nil || line.Text != "a" || len(line.Embedding) != 2 {
				t.Errorf("%s: %+v, %v", text, line, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"text":"a red box","tokens":[379,1,0],"embedding":[0.5,-2,1e-40]}`))
	f.Add([]byte(`{"failed":"no memory"}`))
	f.Add([]byte(`{"text":"a","failed":"no memory"}`))
	f.Add([]byte(`{"embedding":[1e99]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		line, err := parseLine(text)
		if err != nil {
			if !reflect.DeepEqual(line, Line{}) {
				t.Fatal("a line came with the error")
			}
			return
		}
		again, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := parseLine(again); err != nil || !reflect.DeepEqual(second, line) {
			t.Fatalf("%s became %+v, %v", again, second, err)
		}
	})
}

func FuzzReadText(f *testing.F) {
	for _, seed := range []string{`"a red box"`, `"\u0000"`, `"\ud800"`, `null`, `["a"]`, `"¿dónde está?"`, `""`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		text, err := ReadText(line)
		if err != nil {
			return
		}
		again, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := ReadText(again); err != nil || second != text {
			t.Fatalf("%q became %q, %v", text, second, err)
		}
		if CheckText(text) != nil {
			t.Fatalf("%q is no text", text)
		}
	})
}
