package labelling

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/engine/labels"
)

// SetResult is the reply to labels/set.
type SetResult struct {
	LabelSet string   `json:"label_set"` // hash of the set in force now; empty for none, and if the cameras' sets differ
	Cameras  []string `json:"cameras"`
	Labels   int      `json:"labels"`   // of the set; of all together if the cameras' sets differ
	Embedded int      `json:"embedded"` // texts that the text tower had to run for
	Kept     bool     `json:"kept"`     // the set outlasts a restart
}

// Set carries out labels/set: other labels for one camera or all, or back to those of the configuration. The set before
// serves until the texts of the new one are embedded; after an error it goes on to.
func (l *Labelling) Set(ctx context.Context, args json.RawMessage) (any, error) {
	a, err := parseSet(args)
	if err != nil {
		return nil, err
	}
	cameras, err := l.chosen(a.Camera)
	if err != nil {
		return nil, err
	}
	next, reloads, err := l.next(a, cameras)
	if err != nil {
		return nil, err
	}
	defer l.command()()
	ctx, end, err := l.turn(ctx, false)
	if err != nil {
		return nil, err
	}
	defer end()
	sets, embedded, err := l.prepare(ctx, next)
	switch {
	case context.Cause(ctx) == errReloaded:
		return nil, errReloaded
	case err != nil:
		return nil, fmt.Errorf("the labels stay as they are: %w", err)
	}
	if err := l.want(next, reloads); err != nil {
		return nil, err
	}
	enforce(next, sets)
	result := SetResult{Cameras: names(next), Embedded: embedded, Kept: l.save() == nil && l.opt.StateFile != ""}
	result.LabelSet, result.Labels = summary(next)
	l.changed()
	return result, nil
}

// next makes the assignments that a command asks for, by the configuration after so many reloads.
func (l *Labelling) next(a *setArgs, cameras []*Camera) (next map[*Camera]*assignment, reloads int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next = map[*Camera]*assignment{}
	if a.Reset {
		for _, c := range cameras {
			next[c] = l.configured[c.name]
		}
		return next, l.reloads, nil
	}
	set, err := a.set(l.defaults)
	if err != nil {
		return nil, 0, err
	}
	for _, c := range cameras {
		next[c] = &assignment{set: set, source: FromCommand, regions: l.configured[c.name].regions}
	}
	return next, l.reloads, nil
}

// want has cameras want what a command asked for, unless the configuration was read again since.
func (l *Labelling) want(next map[*Camera]*assignment, reloads int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reloads != reloads {
		return errReloaded
	}
	for c, is := range next {
		l.wanted[c.name] = is
	}
	l.unsaved = true
	return nil
}

// summary is the hash and size of the set that the assignments share, or "" and the size of all together.
func summary(assignments map[*Camera]*assignment) (hash string, size int) {
	sizes, total := map[string]int{}, 0
	for _, is := range assignments {
		hash = is.set.Hash()
		sizes[hash] = len(is.set.Labels)
		total += len(is.set.Labels)
	}
	if len(sizes) == 1 {
		return hash, sizes[hash]
	}
	return "", total
}

// chosen are the cameras that a command means: one, or all for an empty name.
func (l *Labelling) chosen(name string) ([]*Camera, error) {
	if name == "" {
		return l.cameras, nil
	}
	var known []string
	for _, c := range l.cameras {
		if c.name == name {
			return []*Camera{c}, nil
		}
		known = append(known, c.name)
	}
	return nil, fmt.Errorf("camera %.64q is not known: this node has %s", name, strings.Join(known, ", "))
}

// CameraLabels is what labels/get says of a camera.
type CameraLabels struct {
	LabelSet string       `json:"label_set"` // hash; empty for none
	Source   Source       `json:"source"`
	Labels   []labelValue `json:"labels"`
	Pending  *string      `json:"pending,omitempty"` // hash of the set that is to come into force, if another is; the node's state says what keeps it
}

// Get carries out labels/get: the labels in force of one camera or of all.
func (l *Labelling) Get(_ context.Context, args json.RawMessage) (any, error) {
	var a struct {
		Camera string `json:"camera"`
	}
	if len(args) > 0 {
		if err := decodeArgs(args, &a, `{"camera": "front"}`); err != nil {
			return nil, err
		}
	}
	cameras, err := l.chosen(a.Camera)
	if err != nil {
		return nil, err
	}
	found := map[string]CameraLabels{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range cameras {
		is, hash := c.inForce()
		wanted := l.wanted[c.name]
		one := CameraLabels{LabelSet: hash, Source: wanted.source, Labels: []labelValue{}}
		if is != nil {
			one.Source, one.Labels = is.source, valuesOf(&is.set)
		}
		if is != wanted {
			hash := wanted.set.Hash()
			one.Pending = &hash
		}
		found[c.name] = one
	}
	return map[string]any{"cameras": found}, nil
}

// TextScore is how well a text fits a frame.
type TextScore struct {
	Text   string  `json:"text"`
	Cosine float32 `json:"cosine"`
	Logit  float32 `json:"logit"`
	Score  float32 `json:"score"`
}

// CameraScores is what score says of a camera: its newest frame against the texts, in their order.
type CameraScores struct {
	Sequence      uint64      `json:"sequence"`
	CaptureWallNS int64       `json:"capture_wall_ns"`
	AgeNS         int64       `json:"age_ns"` // since its capture
	Scores        []TextScore `json:"scores"`
}

// Score carries out score: how well any texts fit the newest frame of one camera or of each. Cameras that have shown none yet
// are left out.
func (l *Labelling) Score(ctx context.Context, args json.RawMessage) (any, error) {
	a, err := parseScore(args)
	if err != nil {
		return nil, err
	}
	cameras, err := l.chosen(a.Camera)
	if err != nil {
		return nil, err
	}
	set, err := queries(a.Texts, a.Templates)
	if err != nil {
		return nil, err
	}
	ready, err := l.compile(ctx, set)
	if err != nil {
		return nil, err
	}
	found := map[string]CameraScores{}
	for _, c := range cameras {
		scores, err := c.query(ready, a.Texts)
		if err != nil && a.Camera != "" {
			return nil, err
		}
		if err == nil {
			found[c.name] = scores
		}
	}
	return map[string]any{"cameras": found}, nil
}

// compile makes a set ready to score.
func (l *Labelling) compile(ctx context.Context, set *labels.Set) (*labels.Compiled, error) {
	vectors, _, err := l.embed(ctx, set.Texts())
	if err != nil {
		return nil, err
	}
	return labels.Compile(set, vectors, l.opt.Scale, l.opt.Bias)
}

// query scores the camera's last frame.
func (c *Camera) query(set *labels.Compiled, texts []string) (CameraScores, error) {
	var header toklipv1.Header
	r := c.last(&header)
	if r == nil {
		return CameraScores{}, fmt.Errorf("camera %s has shown no frame yet", c.name)
	}
	defer r.Release()
	if len(r.Embedding) != set.Dim() {
		return CameraScores{}, fmt.Errorf("camera %s: its frames have embeddings of %d numbers, the texts of %d", c.name, len(r.Embedding), set.Dim())
	}
	found := CameraScores{Sequence: r.Sequence, CaptureWallNS: r.CaptureWall, AgeNS: time.Now().UnixNano() - r.CaptureWall}
	for i, s := range set.Score(nil, r.Embedding) {
		found.Scores = append(found.Scores, TextScore{texts[i], s.Cosine, s.Logit, s.Score})
	}
	return found, nil
}
