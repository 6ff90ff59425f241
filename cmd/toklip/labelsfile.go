package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/labelling"
	"github.com/toklip/toklip/engine/labels"
)

// maxLabelsFile bounds what is read of a file of labels: far more than a set may have.
const maxLabelsFile = 4 << 20

// readLabels reads a file of labels: a line each, or a JSON array as the command labels/set takes it. Labels without templates
// of their own get those given. What it returns is not validated.
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

// parseLabels parses what readLabels reads.
func parseLabels(content []byte, templates []string) ([]labels.Label, error) {
	defaults := config.Default().Labels
	defaults.Templates = templates
	var list []labels.Label
	content = bytes.TrimSpace(bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))) // an editor's mark of UTF-8
	if !bytes.HasPrefix(content, []byte("[")) {
		for line := range strings.Lines(string(content)) {
			if line = strings.TrimSpace(line); line != "" {
				list = append(list, defaults.Resolve(defaults.Named(line)))
			}
		}
		return list, nil
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(content, &entries); err != nil {
		return nil, err
	}
	for i, entry := range entries {
		label, err := labelling.ParseLabel(entry, defaults)
		if err != nil {
			return nil, fmt.Errorf("label %d: %w", i+1, err)
		}
		list = append(list, defaults.Resolve(label))
	}
	return list, nil
}
