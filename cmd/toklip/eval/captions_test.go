package eval

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

const (
	cocoFile = `{"info":{"year":2014},"licenses":[],
"images":[{"id":9,"file_name":"b.jpg","height":480},{"id":4,"file_name":"a.jpg"},{"id":5,"file_name":"c.jpg"}],
"annotations":[{"id":1,"image_id":4,"caption":"first of a "},{"id":2,"image_id":9,"caption":"first of b"},{"id":3,"image_id":4,"caption":"second of a"}]}`
	karpathyFile = `{"images":[
{"filepath":"val2014","filename":"a.jpg","split":"test","sentences":[{"raw":"first of a","tokens":["first"]},{"raw":"second of a"}]},
{"filepath":"train2014","filename":"b.jpg","split":"train","sentences":[{"raw":"of b"}]}],"dataset":"coco"}`
)

func TestReadCaptions(t *testing.T) {
	both := &Captions{Pictures: []string{"a.jpg", "b.jpg"}, Texts: []Caption{{0, "first of a"}, {0, "second of a"}, {1, "first of b"}}}
	for name, test := range map[string]struct {
		text string
		opts CaptionOptions
		want *Captions
	}{
		"text":          {"# notes\na.jpg\tfirst of a\n\na.jpg\t second of a \r\nb.jpg\tfirst of b", CaptionOptions{}, both},
		"byte order":    {"\ufeffa.jpg\tfirst of a\na.jpg\tsecond of a\nb.jpg\tfirst of b\n", CaptionOptions{}, both},
		"tab in text":   {"a b.jpg\tone\ttwo", CaptionOptions{}, &Captions{[]string{"a b.jpg"}, []Caption{{0, "one\ttwo"}}}},
		"a line each":   {`{"image":"a.jpg","caption":["first of a","second of a"],"more":1}` + "\n" + `{"image":"b.jpg","caption":"first of b"}`, CaptionOptions{}, both},
		"TokLIP's":      {`{"filename": "a.jpg", "caption": ["first of a ", "second of a\n"]}` + "\n" + `{"filename": "b.jpg", "caption": ["first of b"]}`, CaptionOptions{}, both},
		"array":         {` [{"image":"a.jpg","caption":["first of a","second of a"]},{"file_name":"b.jpg","caption":"first of b"}] `, CaptionOptions{}, both},
		"one a picture": {`[{"image":"a.jpg","caption":["first of a","second of a"]},{"image":"b.jpg","caption":"first of b"}]`, CaptionOptions{PerPicture: 1}, &Captions{both.Pictures, []Caption{{0, "first of a"}, {1, "first of b"}}}},
		"COCO":          {cocoFile, CaptionOptions{}, &Captions{[]string{"b.jpg", "a.jpg", "c.jpg"}, []Caption{{1, "first of a"}, {0, "first of b"}, {1, "second of a"}}}},
		"Karpathy":      {karpathyFile, CaptionOptions{Split: "test"}, &Captions{[]string{"val2014/a.jpg"}, []Caption{{0, "first of a"}, {0, "second of a"}}}},
	} {
		got, err := ReadCaptions(strings.NewReader(test.text), test.opts)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, test.want)
		}
	}
}

func TestReadCaptionsRefuses(t *testing.T) {
	for _, test := range []struct{ text, split, want string }{
		{"", "", "it is empty"},
		{"# nothing\n", "", "no captions in it"},
		{"a.jpg\tfine\nb.jpg says nothing", "", `line 2: "b.jpg says nothing" has no tab`},
		{"a.jpg\t\tx\nb.jpg\t ", "", `line 2: "b.jpg" has no tab`}, // the line is trimmed first
		{"\t a caption", "", `line 1: "a caption" has no tab`},
		{"a.jpg\tof one", "test", `the file has no splits, and "test" is wanted`},
		{"a.jpg\tfine\n\nb.jpg\tof \xc3", "", "line 3: byte 0xc3 is no UTF-8"},
		{`{"image":"a.jpg"}`, "", `line 1: no "caption" in it`},
		{`{"image":"a.jpg","caption":"x"}` + "\n" + `{"picture":"a.jpg","caption":"x"}`, "", `line 2: no "image" in it`},
		{`{"image":"a.jpg","caption":"x"}` + "\n\n" + `{"image":"b.jpg",}`, "", "line 3: invalid character"},
		{`{"image":"a.jpg","caption":"x"}` + "\n" + `{"image":7,"caption":"x"}`, "", "line 2: a JSON number where a string belongs"},
		{`{"image":"a.jpg","caption":"x"}` + "\n" + `{"image":"a.jpg","caption":`, "", "line 2: unexpected EOF"},
		{`{"image":"a.jpg","caption":["x"," "]}`, "", "line 1: an empty caption of a.jpg"},
		{`{"image":"a.jpg","caption":null}`, "", `no "caption" in it`},
		{`[{"image":"a.jpg","caption":"x"},{}]`, "", `element 1: no "image" in it`},
		{"[\n7]", "", "line 2: a JSON number where a"},
		{cocoFile + "\n{}", "", "line 4: something follows the JSON object"},
		{strings.Replace(cocoFile, `"image_id":9`, `"image_id":8`, 1), "", "annotations[1]: image_id 8 is none of images"},
		{strings.Replace(cocoFile, `"id":9`, `"id":4`, 1), "", "images[1]: id 4 is used twice"},
		{strings.Replace(cocoFile, `"id":9`, `"name":9`, 1), "", "images[0] (b.jpg) has no id"},
		{strings.Replace(cocoFile, `"b.jpg"`, `""`, 1), "", `images[0].file_name: "" is no name of a picture`},
		{`{"images":[{"id":1,"file_name":"a"}],"annotations":[{"image_id":1,"bbox":[]}]}`, "", "annotations[0] has no caption: captions files are read"},
		{karpathyFile, "", "the file has splits, choose one: test (1 pictures), train (1 pictures)"},
		{karpathyFile, "val", `the file has no split "val", but test (1 pictures), train (1 pictures)`},
		{cocoFile, "test", "the file has no splits"},
	} {
		got, err := ReadCaptions(strings.NewReader(test.text), CaptionOptions{Split: test.split})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %q", test.text, err, test.want)
		}
		if got != nil {
			t.Errorf("%q: captions beside an error", test.text)
		}
	}
}

// FuzzReadCaptions: every caption that is read belongs to a picture, and no picture stands twice.
func FuzzReadCaptions(f *testing.F) {
	for _, text := range []string{cocoFile, karpathyFile, "a.jpg\tx\nb.jpg\ty", `{"image":"a","caption":["x","y"]}` + "\n" + `{"filename":"b","caption":"z"}`, `[{"file_name":"a","caption":"x"}]`} {
		f.Add([]byte(text), "test", 1)
		f.Add([]byte(text), "", 0)
	}
	f.Fuzz(func(t *testing.T, text []byte, split string, per int) {
		got, err := ReadCaptions(bytes.NewReader(text), CaptionOptions{Split: split, PerPicture: max(0, per)})
		if err != nil {
			if got != nil {
				t.Fatal("captions beside an error")
			}
			return
		}
		seen, count := map[string]bool{}, make([]int, len(got.Pictures))
		for _, file := range got.Pictures {
			if file == "" || seen[file] {
				t.Fatalf("picture %q", file)
			}
			seen[file] = true
		}
		for _, c := range got.Texts {
			count[c.Picture]++
			if strings.TrimSpace(c.Text) == "" || per > 0 && count[c.Picture] > per {
				t.Fatalf("%+v", c)
			}
		}
	})
}
