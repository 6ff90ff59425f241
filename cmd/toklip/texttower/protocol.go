package texttower

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Line is a line of `toklip text`.
type Line struct {
	Text      string    `json:"text"`
	Tokens    []int32   `json:"tokens"`    // padded, as the tower gets them
	Embedding []float32 `json:"embedding"` // as the model gives it, not normalised
}

// Failed is how `toklip text --json` says, in its last line, why it ends.
type Failed struct {
	Failed string `json:"failed"`
}

// failure is what a process said of why it ends.
type failure struct{ text string }

func (f *failure) Error() string { return f.text }

// maxLine bounds a line of either direction: far more than any embedding needs.
const maxLine = 4 << 20

// parseLine reads a line that the process wrote.
func parseLine(line []byte) (Line, error) {
	var read struct {
		Line
		Failed
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	err := d.Decode(&read)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("more than one value")
		}
	}
	switch failed := read.Failed.Failed; {
	case err != nil:
		return Line{}, fmt.Errorf("it wrote %.80q: %w", line, err)
	case failed != "":
		return Line{}, &failure{failed}
	case read.Text == "" || len(read.Tokens) == 0 || len(read.Embedding) == 0:
		return Line{}, fmt.Errorf("it wrote %.80q: neither an embedding nor why there is none", line)
	}
	return read.Line, nil
}

// ReadText reads a line of standard input of `toklip text --json -`: a JSON string. What is no text is refused.
func ReadText(line []byte) (string, error) {
	var text *string
	if err := json.Unmarshal(line, &text); err != nil || text == nil {
		return "", fmt.Errorf("%.80q is not a JSON string", line)
	}
	return *text, CheckText(*text)
}
