package eval

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// Captions are pictures and texts that describe them.
type Captions struct {
	Pictures []string // files, as the captions file names them; no two alike
	Texts    []Caption
}

// Caption is a text about one picture.
type Caption struct {
	Picture int // in Captions.Pictures
	Text    string
}

// CaptionOptions say which captions of a file count.
type CaptionOptions struct {
	Split      string // of a file that has splits; must name one there
	PerPicture int    // the first so many of each picture; 0: all
}

// ReadCaptions reads a captions file. What it is shows in its content:
//
//   - COCO's annotations: {"images":[{"id","file_name"}],"annotations":[{"image_id","caption"}]}
//   - Karpathy's splits: {"images":[{"filepath","filename","split","sentences":[{"raw"}]}]}
//   - a JSON array, or a JSON object a line, of {"image","caption"}, where "filename" and "file_name" may stand for "image" and
//     the caption may be an array of texts (TokLIP's own coco_test.json is of this kind)
//   - text: a line each, picture<TAB>caption
//
// Pictures without a caption are kept where the file lists them: they compete.
func ReadCaptions(r io.Reader, opts CaptionOptions) (*Captions, error) {
	text, err := readText(r, maxListBytes)
	if err != nil {
		return nil, err
	}
	b := &captionBuilder{opts: opts, index: map[string]int{}}
	switch start := bytes.TrimSpace(text); {
	case len(start) == 0:
		return nil, errors.New("it is empty")
	case start[0] == '[':
		err = b.array(text)
	case start[0] == '{':
		err = b.objects(text)
	default:
		err = b.lines(text)
	}
	if err == nil && len(b.out.Texts) == 0 {
		err = errors.New("no captions in it")
	}
	if err != nil {
		return nil, err
	}
	return &b.out, nil
}

// captionBuilder gathers what a parser finds.
type captionBuilder struct {
	opts  CaptionOptions
	out   Captions
	index map[string]int // of each picture
	count []int          // captions of each picture
}

// picture is the index of a file, which is added if it is new.
func (b *captionBuilder) picture(file string) (int, error) {
	if file == "" || strings.ContainsRune(file, 0) {
		return 0, fmt.Errorf("%q is no name of a picture", clip(file))
	}
	i, known := b.index[file]
	if !known {
		i = len(b.out.Pictures)
		b.index[file] = i
		b.out.Pictures = append(b.out.Pictures, file)
		b.count = append(b.count, 0)
	}
	return i, nil
}

func (b *captionBuilder) add(picture int, text string) error {
	if text = strings.TrimSpace(text); text == "" {
		return fmt.Errorf("an empty caption of %s", b.out.Pictures[picture])
	}
	b.count[picture]++
	if b.opts.PerPicture == 0 || b.count[picture] <= b.opts.PerPicture {
		b.out.Texts = append(b.out.Texts, Caption{Picture: picture, Text: text})
	}
	return nil
}

// noSplits refuses a wish that the file cannot fulfil.
func (b *captionBuilder) noSplits() error {
	if b.opts.Split != "" {
		return fmt.Errorf("the file has no splits, and %q is wanted", b.opts.Split)
	}
	return nil
}

func (b *captionBuilder) lines(text []byte) error {
	if err := b.noSplits(); err != nil {
		return err
	}
	for number, line := range lines(text) {
		file, caption, ok := strings.Cut(line, "\t")
		if !ok {
			return fmt.Errorf("line %d: %q has no tab between picture and caption", number, clip(line))
		}
		if err := b.pair(strings.TrimSpace(file), caption); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return nil
}

func (b *captionBuilder) pair(file string, texts ...string) error {
	i, err := b.picture(file)
	if err != nil {
		return err
	}
	for _, text := range texts {
		if err := b.add(i, text); err != nil {
			return err
		}
	}
	return nil
}

// textList is a JSON string or an array of them.
type textList []string

func (t *textList) UnmarshalJSON(data []byte) error {
	switch data[0] {
	case 'n': // null
		return nil
	case '[':
		return json.Unmarshal(data, (*[]string)(t))
	}
	*t = make([]string, 1)
	return json.Unmarshal(data, &(*t)[0])
}

// captionLine is an element of an array, or a line.
type captionLine struct {
	Image    string   `json:"image"`
	Filename string   `json:"filename"`
	FileName string   `json:"file_name"`
	Caption  textList `json:"caption"`
}

func (b *captionBuilder) line(l *captionLine) error {
	file := cmp.Or(l.Image, l.Filename, l.FileName)
	switch {
	case file == "":
		return errors.New(`no "image" in it`)
	case len(l.Caption) == 0:
		return errors.New(`no "caption" in it`)
	}
	return b.pair(file, l.Caption...)
}

func (b *captionBuilder) array(text []byte) error {
	if err := b.noSplits(); err != nil {
		return err
	}
	var all []captionLine
	if err := json.Unmarshal(text, &all); err != nil {
		return located(text, 0, err)
	}
	for i := range all {
		if err := b.line(&all[i]); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return nil
}

// captionFile is the first JSON object of a file: all of it, or its first line.
type captionFile struct {
	captionLine
	Images      []captionImage      `json:"images"`
	Annotations []captionAnnotation `json:"annotations"`
}

type captionImage struct {
	ID        json.RawMessage `json:"id"`        // COCO's
	FileName  string          `json:"file_name"` // COCO's
	FilePath  string          `json:"filepath"`  // Karpathy's, as what follows
	Filename  string          `json:"filename"`
	Split     string          `json:"split"`
	Sentences []struct {
		Raw string `json:"raw"`
	} `json:"sentences"`
}

type captionAnnotation struct {
	Image   json.RawMessage `json:"image_id"`
	Caption *string         `json:"caption"`
}

func (b *captionBuilder) objects(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	for first := true; ; first = false {
		var object captionFile
		begun := int(decoder.InputOffset())
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return located(text, begun, err)
		}
		if first && object.Images != nil {
			if err := b.file(&object); err != nil {
				return err
			}
			if decoder.More() {
				return fmt.Errorf("line %d: something follows the JSON object", lineAt(text, int(decoder.InputOffset())))
			}
			return nil
		}
		if first {
			if err := b.noSplits(); err != nil {
				return err
			}
		}
		if err := b.line(&object.captionLine); err != nil {
			return fmt.Errorf("line %d: %w", lineAt(text, int(decoder.InputOffset())), err)
		}
	}
}

func (b *captionBuilder) file(f *captionFile) error {
	if slices.ContainsFunc(f.Images, func(image captionImage) bool { return image.Sentences != nil }) {
		return b.karpathy(f)
	}
	return b.coco(f)
}

func (b *captionBuilder) coco(f *captionFile) error {
	if err := b.noSplits(); err != nil {
		return err
	}
	byID := make(map[string]int, len(f.Images))
	for i, image := range f.Images {
		id := string(image.ID)
		if id == "" || id == "null" {
			return fmt.Errorf("images[%d] (%s) has no id", i, clip(image.FileName))
		}
		if _, again := byID[id]; again {
			return fmt.Errorf("images[%d]: id %s is used twice", i, clip(id))
		}
		picture, err := b.picture(image.FileName)
		if err != nil {
			return fmt.Errorf("images[%d].file_name: %w", i, err)
		}
		byID[id] = picture
	}
	for i, a := range f.Annotations {
		picture, ok := byID[string(a.Image)]
		switch {
		case !ok:
			return fmt.Errorf("annotations[%d]: image_id %s is none of images", i, clip(string(a.Image)))
		case a.Caption == nil:
			return fmt.Errorf("annotations[%d] has no caption: captions files are read, not those of instances or key points", i)
		}
		if err := b.add(picture, *a.Caption); err != nil {
			return fmt.Errorf("annotations[%d]: %w", i, err)
		}
	}
	return nil
}

func (b *captionBuilder) karpathy(f *captionFile) error {
	splits := map[string]int{}
	for i, image := range f.Images {
		splits[image.Split]++
		if b.opts.Split == "" || image.Split != b.opts.Split {
			continue
		}
		picture, err := b.picture(filepath.Join(image.FilePath, image.Filename))
		if err != nil {
			return fmt.Errorf("images[%d]: %w", i, err)
		}
		for _, sentence := range image.Sentences {
			if err := b.add(picture, sentence.Raw); err != nil {
				return fmt.Errorf("images[%d]: %w", i, err)
			}
		}
	}
	if splits[b.opts.Split] > 0 && b.opts.Split != "" {
		return nil
	}
	var there []string
	for name, count := range splits {
		there = append(there, fmt.Sprintf("%s (%d pictures)", clip(name), count))
	}
	slices.Sort(there)
	if b.opts.Split == "" {
		return fmt.Errorf("the file has splits, choose one: %s", strings.Join(there, ", "))
	}
	return fmt.Errorf("the file has no split %q, but %s", b.opts.Split, strings.Join(there, ", "))
}

// lineAt is the number of the line that byte at is in.
func lineAt(text []byte, at int) int { return 1 + bytes.Count(text[:min(at, len(text))], []byte("\n")) }

// located adds the line to an error of the JSON decoder, which counts from byte begun.
func located(text []byte, begun int, err error) error {
	var syntax *json.SyntaxError
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d: %w", lineAt(text, int(syntax.Offset)), err)
	case errors.As(err, &mistyped):
		return fmt.Errorf("line %d: a JSON %s where a %s belongs (%s)", lineAt(text, begun+int(mistyped.Offset)), mistyped.Value, mistyped.Type, mistyped.Field)
	}
	return fmt.Errorf("line %d: %w", lineAt(text, len(text)), err)
}
