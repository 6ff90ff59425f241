package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/toklip/toklip/engine/labels"
)

// maxLabelsFile bounds what is read of a file of labels: far more than a set may have.
const maxLabelsFile = 4 << 20

// readLabels reads a file of labels: a line each, or a JSON array of names and of objects {"label","prompts","templates"}. Labels
// without templates of their own get those given.
func readLabels(path string, templates []string) ([]labels.Label, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read labels: %w", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxLabelsFile+1))
	if err == nil && len(content) > maxLabelsFile {
		err = fmt.Errorf("it has more than %d MB", maxLabelsFile>>20)
	}
	var list []labels.Label
	if err == nil {
		list, err = parseLabels(content, templates)
	}
	if err != nil {
		return nil, fmt.Errorf("read labels: %s: %w", path, err)
	}
	return list, nil
}

// parseLabels parses what readLabels reads. What it gives is not validated.
func parseLabels(content []byte, templates []string) ([]labels.Label, error) {
	var list []labels.Label
	add := func(l labels.Label) {
		if len(l.Templates) == 0 {
			l.Templates = templates
		}
		l.Threshold, l.Hysteresis, l.Hold = labels.DefaultThreshold, labels.DefaultHysteresis, labels.DefaultHold
		list = append(list, l)
	}
	content = bytes.TrimSpace(bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")))
	if !bytes.HasPrefix(content, []byte("[")) {
		for line := range strings.Lines(string(content)) {
			if line = strings.TrimSpace(line); line != "" {
				add(labels.Label{Name: line})
			}
		}
		return list, nil
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(content, &entries); err != nil {
		return nil, err
	}
	for i, entry := range entries {
		l, err := parseLabel(entry)
		if err != nil {
			return nil, fmt.Errorf("label %d: %w", i+1, err)
		}
		add(l)
	}
	return list, nil
}

func parseLabel(entry []byte) (labels.Label, error) {
	if entry[0] == '"' {
		var name string
		err := json.Unmarshal(entry, &name)
		return labels.Label{Name: name}, err
	}
	if entry[0] != '{' {
		return labels.Label{}, fmt.Errorf("%.60s is neither a name nor an object with \"label\"", entry)
	}
	var object struct {
		Label     *string  `json:"label"`
		Prompts   []string `json:"prompts"`
		Templates []string `json:"templates"`
	}
	d := json.NewDecoder(bytes.NewReader(entry))
	d.DisallowUnknownFields()
	if err := d.Decode(&object); err != nil {
		return labels.Label{}, err
	}
	if object.Label == nil {
		return labels.Label{}, errors.New(`"label" is missing`)
	}
	return labels.Label{Name: *object.Label, Prompts: object.Prompts, Templates: object.Templates}, nil
}
