package config

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/engine/labels"
)

// Labels says which texts cameras are scored against, and when a label counts as present.
type Labels struct {
	Publish   string  `toml:"publish"`    // "every" frame, or on "change"
	MinChange float64 `toml:"min_change"` // with "change": how far a score has to move

	// For labels that do not say otherwise.
	Threshold  float64  `toml:"threshold"`
	Hysteresis float64  `toml:"hysteresis"`
	Hold       Duration `toml:"hold"`
	Templates  []string `toml:"templates"`

	Set   []string `toml:"set"`   // labels of cameras without labels of their own
	Label []Label  `toml:"label"` // labels with settings of their own, for those cameras too

	StateFile string   `toml:"state_file"` // where sets that commands made are kept; "none": nowhere
	CacheDir  string   `toml:"cache_dir"`  // of text embeddings
	TextIdle  Duration `toml:"text_idle"`  // how long the text tower stays loaded after its last use

	Regions LabelRegions `toml:"regions"`
}

// NoStateFile as labels.state_file: sets that commands made are forgotten with the process.
const NoStateFile = "none"

// Label is a label with settings of its own. What it leaves out it has from [Labels].
type Label struct {
	Name       string    `toml:"name"`
	Prompts    []string  `toml:"prompts"` // by default the name
	Templates  []string  `toml:"templates"`
	Threshold  *float64  `toml:"threshold"`
	Hysteresis *float64  `toml:"hysteresis"`
	Hold       *Duration `toml:"hold"`
}

// LabelRegions says how often regions of interest are scored.
type LabelRegions struct {
	MaxFPS float64 `toml:"max_fps"` // of each camera; 0: no limit
}

// Region is a part of a camera's frame that is scored by itself. It has one of Rect and Polygon.
type Region struct {
	Name    string      `toml:"name"`
	Rect    []float64   `toml:"rect"`    // x, y, width, height as fractions of the frame
	Polygon [][]float64 `toml:"polygon"` // [x, y] of each corner as fractions of the frame
}

func defaultLabels() Labels {
	return Labels{
		Publish: "every", MinChange: 0.05,
		Threshold: labels.DefaultThreshold, Hysteresis: labels.DefaultHysteresis, Hold: Duration(labels.DefaultHold),
		Templates: labels.DefaultTemplates(), Set: []string{},
		TextIdle: Duration(30 * time.Second), Regions: LabelRegions{MaxFPS: 5},
	}
}

// Resolve gives a label the values it leaves out. A hysteresis that is not its own is at most half its threshold.
func (c *Labels) Resolve(l Label) labels.Label {
	out := labels.Label{
		Name: l.Name, Prompts: l.Prompts, Templates: l.Templates,
		Threshold: c.Threshold, Hold: c.Hold.Std(),
	}
	if len(out.Templates) == 0 {
		out.Templates = c.Templates
	}
	if l.Threshold != nil {
		out.Threshold = *l.Threshold
	}
	out.Hysteresis = min(c.Hysteresis, out.Threshold/2)
	if l.Hysteresis != nil {
		out.Hysteresis = *l.Hysteresis
	}
	if l.Hold != nil {
		out.Hold = l.Hold.Std()
	}
	return out
}

// Named is the label of that name: the one with settings of its own, or one that has all from c.
func (c *Labels) Named(name string) Label {
	for _, l := range c.Label {
		if l.Name == name {
			return l
		}
	}
	return Label{Name: name}
}

// names are those of a camera's set, in its order.
func (c *Labels) names(camera Camera) []string {
	if camera.Labels != nil {
		return camera.Labels
	}
	names := slices.Clone(c.Set)
	for _, l := range c.Label {
		if !slices.Contains(names, l.Name) {
			names = append(names, l.Name)
		}
	}
	return names
}

// LabelSet is what a camera is scored against; it may be empty.
func (c *Labels) LabelSet(camera Camera) labels.Set {
	var set labels.Set
	for _, name := range c.names(camera) {
		set.Labels = append(set.Labels, c.Resolve(c.Named(name)))
	}
	return set
}

// Area is the region as the labels know it.
func (r Region) Area() labels.Region {
	if r.Rect != nil {
		return labels.Rect(r.Name, r.Rect[0], r.Rect[1], r.Rect[2], r.Rect[3])
	}
	area := labels.Region{Name: r.Name}
	for _, corner := range r.Polygon {
		area.Polygon = append(area.Polygon, labels.Point{X: corner[0], Y: corner[1]})
	}
	return area
}

// maxRegions is how many regions a camera may have: each costs a run of the attention pool.
const maxRegions = 64

func (c *Labels) check(cameras []Camera, bad badFunc) {
	if !(c.MinChange >= 0 && c.MinChange <= 1) {
		bad("labels.min_change", "%g is not between 0 (every frame) and 1", c.MinChange)
	}
	if c.TextIdle.Std() < 0 {
		bad("labels.text_idle", "%s is negative: 0s ends the text tower right after its last text", c.TextIdle.Std())
	}
	if !(c.Regions.MaxFPS >= 0 && c.Regions.MaxFPS <= 1000) {
		bad("labels.regions.max_fps", "%g is not between 0 (no limit) and 1000", c.Regions.MaxFPS)
	}
	if !c.checkDefaults(bad) {
		return // every label would have the same problem
	}
	c.checkTables(bad)
	for _, set := range c.sets(cameras) {
		c.checkSet(set, bad)
	}
}

// checkDefaults checks what labels inherit, by a label that has nothing of its own.
func (c *Labels) checkDefaults(bad badFunc) (ok bool) {
	ok = true
	if !(c.Hysteresis >= 0 && c.Hysteresis < 1) {
		bad("labels.hysteresis", "hysteresis is %g: it must be at least 0 and less than 1", c.Hysteresis)
		ok = false
	}
	plain := labels.Set{Labels: []labels.Label{c.Resolve(Label{Name: "x"})}}
	for _, p := range problems(&plain) {
		if p.Field != "hysteresis" { // it is at most half the threshold
			bad("labels."+p.Field, "%s", p.Text)
		}
		ok = false
	}
	return ok
}

// checkTables checks every [[labels.label]], whether a set uses it or not.
func (c *Labels) checkTables(bad badFunc) {
	first := map[string]int{}
	for i, l := range c.Label {
		key := fmt.Sprintf("labels.label[%d]", i)
		if l.Name == "" {
			bad(key+".name", "missing: name the label")
			continue
		}
		if j, ok := first[l.Name]; ok {
			bad(key+".name", "%q is the name of labels.label[%d] already", l.Name, j)
			continue
		}
		first[l.Name] = i
		set := labels.Set{Labels: []labels.Label{c.Resolve(l)}}
		for _, p := range problems(&set) {
			bad(key+"."+p.Field, "%s", p.Text)
		}
	}
}

// keyedSet is a list of names and the key it stands at.
type keyedSet struct {
	key    string
	camera Camera
}

// sets are the sets that are in use: that of the cameras without one of their own, and theirs.
func (c *Labels) sets(cameras []Camera) []keyedSet {
	sets := []keyedSet{{key: "labels.set"}}
	for i, camera := range cameras {
		if camera.Labels != nil {
			sets = append(sets, keyedSet{fmt.Sprintf("camera[%d].labels", i), camera})
		}
	}
	return sets
}

// checkSet checks what is wrong with a set beyond its labels of [[labels.label]], which have been checked.
func (c *Labels) checkSet(s keyedSet, bad badFunc) {
	set := c.LabelSet(s.camera)
	if len(set.Labels) == 0 {
		return
	}
	for _, p := range problems(&set) {
		if p.Label >= 0 {
			own := slices.ContainsFunc(c.Label, func(l Label) bool { return l.Name == set.Labels[p.Label].Name })
			if own && p.Field != "name" { // a name may also be taken twice in this set
				continue
			}
		}
		bad(s.key, "%s", p.Error())
	}
}

// problems lists what is wrong with a set.
func problems(set *labels.Set) []*labels.Problem {
	err := set.Validate()
	if err == nil {
		return nil
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	var found []*labels.Problem
	for _, err := range all {
		var p *labels.Problem
		if errors.As(err, &p) {
			found = append(found, p)
		}
	}
	return found
}

// checkRegions checks the regions of one camera, whose key is given.
func checkRegions(camera string, regions []Region, bad badFunc) {
	if len(regions) > maxRegions {
		bad(camera+".region", "%d regions: at most %d a camera", len(regions), maxRegions)
	}
	first := map[string]int{}
	for i, r := range regions {
		key := fmt.Sprintf("%s.region[%d]", camera, i)
		if err := api.ValidName(r.Name); err != nil {
			bad(key+".name", "%v", err)
			continue
		}
		if j, ok := first[r.Name]; ok {
			bad(key+".name", "%q is the name of %s.region[%d] already", r.Name, camera, j)
			continue
		}
		first[r.Name] = i
		r.check(key, bad)
	}
}

func (r Region) check(key string, bad badFunc) {
	if (r.Rect == nil) == (r.Polygon == nil) {
		bad(key, "give either rect = [x, y, width, height] or polygon = [[x, y], ...], as fractions of the frame")
		return
	}
	if r.Rect != nil && len(r.Rect) != 4 {
		bad(key+".rect", "%d numbers: [x, y, width, height] are wanted, as fractions of the frame", len(r.Rect))
		return
	}
	for i, corner := range r.Polygon {
		if len(corner) != 2 {
			bad(key+".polygon", "corner %d has %d numbers: [x, y] are wanted, as fractions of the frame", i+1, len(corner))
			return
		}
	}
	if err := r.Area().Validate(); err != nil {
		outline := ".rect"
		if r.Polygon != nil {
			outline = ".polygon"
		}
		bad(key+outline, "%v", err)
	}
}
