package labels

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"time"
)

// What holds for a label that says nothing else.
const (
	DefaultThreshold  = 0.5
	DefaultHysteresis = 0.1
	DefaultHold       = time.Second
)

// DefaultTemplates are the templates of a label that names none of its own. The slice is the caller's.
func DefaultTemplates() []string { return []string{"a photo of a {}", "{}"} }

// Label is something to look for: a name for people and programs, the texts that say what it looks like, and when it counts
// as present.
type Label struct {
	Name string // as it appears in messages

	// Each prompt goes through each template, in which "{}" stands for it; the label's direction is the mean of what the text
	// tower makes of all of them. Without prompts the name is the prompt. There is no default for Templates here.
	Prompts   []string
	Templates []string

	// The label appears when its score, a probability, reaches Threshold, and goes when it was below Threshold - Hysteresis
	// for at least Hold.
	Threshold  float64
	Hysteresis float64
	Hold       time.Duration
}

// Named is a label with all its defaults.
func Named(name string) Label {
	return Label{
		Name: name, Prompts: []string{name}, Templates: DefaultTemplates(),
		Threshold: DefaultThreshold, Hysteresis: DefaultHysteresis, Hold: DefaultHold,
	}
}

// prompts of the label: its own, or its name.
func (l *Label) prompts() []string {
	if len(l.Prompts) > 0 {
		return l.Prompts
	}
	return []string{l.Name}
}

// Texts are the texts to embed for the label: its first prompt through each template, then its second, and so on. A text
// that comes out twice is there twice, and counts twice in the mean.
func (l *Label) Texts() []string {
	prompts := l.prompts()
	texts := make([]string, 0, len(prompts)*len(l.Templates))
	for _, p := range prompts {
		for _, t := range l.Templates {
			texts = append(texts, strings.ReplaceAll(t, placeholder, p))
		}
	}
	return texts
}

// equal reports whether two labels cannot differ in a score or an event: Hash sees the same of them.
func (l *Label) equal(o *Label) bool {
	return l.Name == o.Name && slices.Equal(l.prompts(), o.prompts()) && slices.Equal(l.Templates, o.Templates) &&
		l.Threshold == o.Threshold && l.Hysteresis == o.Hysteresis && l.Hold == o.Hold
}

// placeholder of a template is where the prompt goes.
const placeholder = "{}"

// Set is the labels of one camera, in an order that scores and events keep. A set without labels is valid.
type Set struct{ Labels []Label }

// Texts are all texts to embed for the set, each once, in the order of their first use.
func (s *Set) Texts() []string {
	var texts []string
	seen := make(map[string]bool)
	for i := range s.Labels {
		for _, t := range s.Labels[i].Texts() {
			if !seen[t] {
				seen[t] = true
				texts = append(texts, t)
			}
		}
	}
	return texts
}

// Hash names the set in 12 hexadecimal digits: sets that could differ in a score or an event differ in it. The model is not
// part of it, it has a hash of its own. A set without labels has the hash "".
func (s *Set) Hash() string {
	if len(s.Labels) == 0 {
		return ""
	}
	h := sha256.New()
	var buf []byte
	number := func(v uint64) { buf = binary.LittleEndian.AppendUint64(buf, v) }
	// Lengths go in front of texts, so that no two sets write the same bytes.
	text := func(t string) { number(uint64(len(t))); buf = append(buf, t...) }
	texts := func(list []string) {
		number(uint64(len(list)))
		for _, t := range list {
			text(t)
		}
	}
	text("toklip label set 1")
	number(uint64(len(s.Labels)))
	for i := range s.Labels {
		l := &s.Labels[i]
		text(l.Name)
		texts(l.prompts())
		texts(l.Templates)
		number(math.Float64bits(l.Threshold))
		number(math.Float64bits(l.Hysteresis))
		number(uint64(l.Hold))
		h.Write(buf)
		buf = buf[:0]
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// Clone is a copy that shares no memory with s.
func (s *Set) Clone() *Set {
	c := &Set{Labels: slices.Clone(s.Labels)}
	for i := range c.Labels {
		c.Labels[i].Prompts = slices.Clone(c.Labels[i].Prompts)
		c.Labels[i].Templates = slices.Clone(c.Labels[i].Templates)
	}
	return c
}
