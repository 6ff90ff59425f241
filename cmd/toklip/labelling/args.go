package labelling

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/engine/labels"
)

// decode reads one JSON value strictly: a misspelt name would otherwise be silence.
func decode(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("there is more after the JSON value, from byte %d on", decoder.InputOffset())
	}
	return nil
}

// decodeArgs reads a command's arguments; example shows what they look like.
func decodeArgs(args json.RawMessage, into any, example string) error {
	if len(args) == 0 {
		return fmt.Errorf("args are missing: send for example %s", example)
	}
	if err := decode(args, into); err != nil {
		return fmt.Errorf("args: %w; send for example %s", err, example)
	}
	return nil
}

const (
	setExample     = `{"labels": ["person", {"label": "door", "prompts": ["an open door"], "threshold": 0.6}]}`
	scoreExample   = `{"text": "a red box"}`
	heatmapExample = `{"camera": "front", "text": "a red box"}`
)

// setArgs are those of labels/set.
type setArgs struct {
	Camera     string            `json:"camera"` // empty: all
	Labels     []json.RawMessage `json:"labels"` // names, or objects as labelArgs has them; nil: not given
	Reset      bool              `json:"reset"`  // back to the configuration, instead of labels
	Templates  []string          `json:"templates"`
	Threshold  *float64          `json:"threshold"`
	Hysteresis *float64          `json:"hysteresis"`
	Hold       *config.Duration  `json:"hold"`
}

// labelArgs is a label with settings of its own.
type labelArgs struct {
	Label      string           `json:"label"`
	Prompts    []string         `json:"prompts"`
	Templates  []string         `json:"templates"`
	Threshold  *float64         `json:"threshold"`
	Hysteresis *float64         `json:"hysteresis"`
	Hold       *config.Duration `json:"hold"`
}

func parseSet(args json.RawMessage) (*setArgs, error) {
	var a setArgs
	if err := decodeArgs(args, &a, setExample); err != nil {
		return nil, err
	}
	settings := a.Templates != nil || a.Threshold != nil || a.Hysteresis != nil || a.Hold != nil
	switch {
	case a.Reset && (a.Labels != nil || settings):
		return nil, errors.New("reset goes back to the labels of the configuration: send it without labels and settings")
	case !a.Reset && a.Labels == nil:
		return nil, fmt.Errorf(`labels are missing: send for example %s, {"labels": []} for none, {"reset": true} for those of the configuration`, setExample)
	case len(a.Labels) > labels.MaxLabels:
		return nil, fmt.Errorf("%d labels: at most %d are possible", len(a.Labels), labels.MaxLabels)
	}
	return &a, nil
}

// set makes the set, valid, of the arguments and of what they leave to the configuration.
func (a *setArgs) set(defaults config.Labels) (labels.Set, error) {
	if a.Templates != nil {
		defaults.Templates = a.Templates
	}
	if a.Threshold != nil {
		defaults.Threshold = *a.Threshold
	}
	if a.Hold != nil {
		defaults.Hold = *a.Hold
	}
	if a.Hysteresis != nil {
		defaults.Hysteresis = *a.Hysteresis
		if !(*a.Hysteresis >= 0 && *a.Hysteresis < 1) { // of a label it is cut to half the threshold
			return labels.Set{}, fmt.Errorf("hysteresis is %g: it must be at least 0 and less than 1", *a.Hysteresis)
		}
	}
	var set labels.Set
	for i, text := range a.Labels {
		label, err := ParseLabel(text, defaults)
		if err != nil {
			return labels.Set{}, fmt.Errorf("label %d: %w", i+1, err)
		}
		set.Labels = append(set.Labels, defaults.Resolve(label))
	}
	return set, set.Validate()
}

// ParseLabel reads a name, whose settings are those of the configuration's label of that name if there is one, or an object.
func ParseLabel(text json.RawMessage, defaults config.Labels) (config.Label, error) {
	var name *string
	if json.Unmarshal(text, &name) == nil && name != nil {
		return defaults.Named(*name), nil
	}
	var a labelArgs
	if len(text) == 0 || text[0] != '{' {
		return config.Label{}, fmt.Errorf(`%.60s is neither a name nor an object such as {"label": "door", "threshold": 0.6}`, text)
	}
	if err := decode(text, &a); err != nil {
		return config.Label{}, fmt.Errorf("%.60q: %w", a.Label, err)
	}
	return config.Label{
		Name: a.Label, Prompts: a.Prompts, Templates: a.Templates,
		Threshold: a.Threshold, Hysteresis: a.Hysteresis, Hold: a.Hold,
	}, nil
}

// scoreArgs are those of score.
type scoreArgs struct {
	Camera    string   `json:"camera"` // empty: all
	Text      string   `json:"text"`
	Texts     []string `json:"texts"` // instead of text
	Templates []string `json:"templates"`
}

// queries makes a set of texts that are only asked for: each a label by itself, named by its number.
func queries(texts, templates []string) (*labels.Set, error) {
	if len(templates) == 0 {
		templates = []string{"{}"}
	}
	set := new(labels.Set)
	for i, text := range texts {
		set.Labels = append(set.Labels, labels.Label{
			Name: fmt.Sprintf("text %d", i+1), Prompts: []string{text}, Templates: templates, Threshold: labels.DefaultThreshold,
		})
	}
	return set, set.Validate()
}

func parseScore(args json.RawMessage) (*scoreArgs, error) {
	var a scoreArgs
	if err := decodeArgs(args, &a, scoreExample); err != nil {
		return nil, err
	}
	switch {
	case a.Text != "" && a.Texts != nil:
		return nil, errors.New("text and texts are both there: send one of them")
	case a.Texts == nil:
		a.Texts = []string{a.Text}
	case len(a.Texts) == 0:
		return nil, fmt.Errorf("texts has none: send for example %s", scoreExample)
	}
	if a.Texts[0] == "" && len(a.Texts) == 1 {
		return nil, fmt.Errorf("text is missing or empty: send for example %s", scoreExample)
	}
	return &a, nil
}

// heatmapArgs are those of heatmap.
type heatmapArgs struct {
	Camera    string   `json:"camera"`
	Label     string   `json:"label"` // of the camera's set
	Text      string   `json:"text"`  // any other
	Templates []string `json:"templates"`
	Radius    *int     `json:"radius"` // rows and columns around a cell that count with it
}

// defaultRadius makes neighbourhoods of 3x3 tokens: one token alone says little, and many say where less exactly.
const defaultRadius = 1

func parseHeatmap(args json.RawMessage) (*heatmapArgs, error) {
	var a heatmapArgs
	if err := decodeArgs(args, &a, heatmapExample); err != nil {
		return nil, err
	}
	switch {
	case a.Camera == "":
		return nil, fmt.Errorf("camera is missing: send for example %s", heatmapExample)
	case (a.Label == "") == (a.Text == ""):
		return nil, fmt.Errorf("give either label, one of the camera's set, or text: send for example %s", heatmapExample)
	case a.Label != "" && a.Templates != nil:
		return nil, errors.New("templates go with text: a label of the set has its own")
	}
	if a.Radius == nil {
		a.Radius = new(int)
		*a.Radius = defaultRadius
	}
	if *a.Radius < 0 {
		return nil, fmt.Errorf("radius is %d: 0 is the cell alone, 1 its neighbours too", *a.Radius)
	}
	return &a, nil
}
