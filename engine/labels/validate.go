package labels

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of a set. They keep what a command may ask of a small machine within seconds of the text tower and a message
// within the broker's size.
const (
	MaxLabels    = 1000
	MaxNameBytes = 128
	MaxPrompts   = 100    // of a label
	MaxTemplates = 16     // of a label
	MaxTextBytes = 1000   // of a prompt, a template, and what they make together
	MaxTexts     = 10_000 // prompts times templates, over all labels
	MaxHold      = time.Hour
)

// What an error tells: whoever sent 1000 bad labels of a megabyte gets an answer that fits a screen.
const (
	maxProblems = 20 // the rest is counted
	maxQuoted   = 60 // bytes of a value
)

// Problem is one mistake in a set.
type Problem struct {
	Label int    // index of the label; -1: the set as a whole
	Name  string // of the label, as it was given
	Field string // "name", "prompts", "templates", "threshold", "hysteresis", "hold"; "labels" for the set as a whole
	Text  string // the value at fault and what is possible
}

// Error names the label by its name, or by its place if it has none that can be shown.
func (p *Problem) Error() string {
	switch {
	case p.Label < 0:
		return p.Text
	case p.Name == "" || p.Field == "name":
		return fmt.Sprintf("label %d: %s", p.Label+1, p.Text)
	}
	return fmt.Sprintf("label %s: %s", quote(p.Name), p.Text)
}

// Validate reports every mistake, each as a [*Problem]; several come joined, as [errors.Join] does it. Of more than 20 the
// first ones are told and the rest is counted.
func (s *Set) Validate() error {
	if n := len(s.Labels); n > MaxLabels {
		return &Problem{Label: -1, Field: "labels", Text: fmt.Sprintf("%d labels in the set: at most %d are possible", n, MaxLabels)}
	}
	var c checker
	names := make(map[string]int, len(s.Labels))
	texts := 0
	for i := range s.Labels {
		l := &s.Labels[i]
		c.index, c.label = i, l.Name
		if c.name(l.Name) {
			canonical := canonical(l.Name)
			if first, ok := names[canonical]; ok {
				c.add("name", "name %s is the same as that of label %d, %s: case, punctuation and spaces make no difference to the model",
					quote(l.Name), first+1, quote(s.Labels[first].Name))
			} else {
				names[canonical] = i
			}
		}
		c.texts(l)
		c.presence(l)
		texts += max(len(l.Prompts), 1) * len(l.Templates)
	}
	if texts > MaxTexts {
		c.index = -1
		c.add("labels", "%d texts in the set, prompts times templates: at most %d are possible; use fewer of either", texts, MaxTexts)
	}
	return c.err()
}

// checker gathers the problems of a set.
type checker struct {
	index    int
	label    string
	problems []error
	more     int
}

func (c *checker) add(field, format string, args ...any) {
	if len(c.problems) == maxProblems {
		c.more++
		return
	}
	p := &Problem{Label: c.index, Field: field, Text: fmt.Sprintf(format, args...)}
	if c.index >= 0 {
		p.Name = c.label
	}
	c.problems = append(c.problems, p)
}

func (c *checker) err() error {
	if c.more > 0 {
		c.problems = append(c.problems, &Problem{Label: -1, Field: "labels", Text: fmt.Sprintf("%d more mistakes in the set", c.more)})
	}
	if len(c.problems) == 1 {
		return c.problems[0]
	}
	return errors.Join(c.problems...)
}

// name checks a name and reports whether it can be compared with others.
func (c *checker) name(name string) bool {
	if fault := nameFault(name); fault != "" {
		c.add("name", "%s", fault)
		return false
	}
	if canonical(name) == "" {
		c.add("name", "name %s is nothing but punctuation and spaces, which the model does not see", quote(name))
		return false
	}
	return true
}

// nameFault says what keeps a name, of a label or a region, from being shown and sent; empty: nothing.
func nameFault(name string) string {
	switch {
	case name == "":
		return "the name is empty"
	case len(name) > MaxNameBytes:
		return fmt.Sprintf("name %s has %d bytes: at most %d are possible", quote(name), len(name), MaxNameBytes)
	case !utf8.ValidString(name):
		return fmt.Sprintf("name %s is not valid UTF-8", quote(name))
	}
	if i := strings.IndexFunc(name, unicode.IsControl); i >= 0 {
		return fmt.Sprintf("name %s has a control character at byte %d", quote(name), i)
	}
	return ""
}

// texts checks what a label has the text tower embed.
func (c *checker) texts(l *Label) {
	if n := len(l.Prompts); n > MaxPrompts {
		c.add("prompts", "%d prompts: at most %d are possible", n, MaxPrompts)
		return
	}
	if n := len(l.Templates); n > MaxTemplates {
		c.add("templates", "%d templates: at most %d are possible", n, MaxTemplates)
		return
	}
	if len(l.Templates) == 0 {
		c.add("templates", `no templates: "{}" alone leaves the prompts as they are`)
	}
	good := len(c.problems)
	for _, p := range l.Prompts {
		switch {
		case !utf8.ValidString(p):
			c.add("prompts", "prompt %s is not valid UTF-8", quote(p))
		case canonical(p) == "":
			c.add("prompts", "prompt %s is empty: punctuation and spaces are not seen by the model", quote(p))
		case len(p) > MaxTextBytes:
			c.add("prompts", "prompt %s has %d bytes: at most %d are possible", quote(p), len(p), MaxTextBytes)
		}
	}
	for _, t := range l.Templates {
		switch {
		case !utf8.ValidString(t):
			c.add("templates", "template %s is not valid UTF-8", quote(t))
		case !strings.Contains(t, placeholder):
			c.add("templates", "template %s has no {}, where the prompt goes", quote(t))
		case len(t) > MaxTextBytes:
			c.add("templates", "template %s has %d bytes: at most %d are possible", quote(t), len(t), MaxTextBytes)
		}
	}
	if len(c.problems) > good {
		return // their texts would only say it again
	}
	for _, p := range l.prompts() {
		for _, t := range l.Templates {
			if n := len(t) + strings.Count(t, placeholder)*(len(p)-len(placeholder)); n > MaxTextBytes {
				c.add("templates", "template %s makes a text of %d bytes of prompt %s: at most %d are possible", quote(t), n, quote(p), MaxTextBytes)
				return
			}
		}
	}
}

// presence checks when a label counts as present. Comparisons are turned so that NaN fails them.
func (c *checker) presence(l *Label) {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	if !(l.Threshold > 0 && l.Threshold < 1) {
		c.add("threshold", "threshold is %s: it must lie between 0 and 1, neither included", number(l.Threshold))
		if !(l.Hysteresis >= 0 && l.Hysteresis < 1) {
			c.add("hysteresis", "hysteresis is %s: it must be at least 0 and less than the threshold", number(l.Hysteresis))
		}
	} else if !(l.Hysteresis >= 0 && l.Hysteresis < l.Threshold) {
		c.add("hysteresis", "hysteresis is %s: it must be at least 0 and less than the threshold, %s", number(l.Hysteresis), number(l.Threshold))
	}
	if l.Hold < 0 || l.Hold > MaxHold {
		c.add("hold", "hold is %v: it must be between 0 and %v", l.Hold, MaxHold)
	}
}

// canonical is a text as the model's tokenizer sees it: underscores are spaces, no ASCII punctuation, lower case, one space
// between words. Two names that are equal then mean the same.
func canonical(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '_':
			return ' '
		case r < utf8.RuneSelf && (unicode.IsPunct(r) || unicode.IsSymbol(r)):
			return -1
		}
		return r
	}, text)
	return strings.Join(strings.Fields(strings.ToLower(text)), " ")
}

// quote shows a value in an error, cut where it is long.
func quote(v string) string {
	if len(v) <= maxQuoted {
		return strconv.Quote(v)
	}
	cut := maxQuoted
	for cut > 0 && !utf8.RuneStart(v[cut]) {
		cut--
	}
	return strconv.Quote(v[:cut]) + "…"
}
