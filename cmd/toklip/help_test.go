package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestHelp holds the help of every command to the same manners.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "completion" || c.Name() == "help" {
			return // cobra's own
		}
		path := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short text %q", path, c.Short)
		}
		if c.HasParent() && c.Name() != "exit-codes" && !strings.Contains(c.Example, path) {
			t.Errorf("%s: no example", path)
		}
		for _, line := range strings.Split(c.Long, "\n") {
			if utf8.RuneCountInString(line) > helpWidth {
				t.Errorf("%s: line of %d columns: %q", path, utf8.RuneCountInString(line), line)
			}
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			placeholder, usage := pflag.UnquoteUsage(f)
			switch placeholder {
			case "int", "string", "strings", "float", "duration":
				t.Errorf("%s --%s: the placeholder %q says nothing: put a word of %q in backquotes", path, f.Name, placeholder, f.Usage)
			}
			if usage == "" || strings.HasSuffix(usage, ".") {
				t.Errorf("%s --%s: usage %q", path, f.Name, usage)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}

func TestWrap(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"one two three":              "one two\nthree",
		"one\ntwo\n\nthree":          "one two\n\nthree",
		"  as it is, however long":   "  as it is, however long",
		"a\n\n  list of\n  b\n\nc d": "a\n\n  list of\n  b\n\nc d",
		"incomprehensibilities x":    "incomprehensibilities\nx",
	} {
		if got := wrap(in, 9); got != want {
			t.Errorf("wrap(%q) = %q, want %q", in, got, want)
		}
	}
}
