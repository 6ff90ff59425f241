package config

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Problem is one thing wrong with a configuration file.
type Problem struct {
	Line int    // counted from 1; 0 where the whole file is meant
	Key  string // as written in the file: "mqtt.broker", "camera[1].source"; empty for a syntax error
	Text string // what is wrong with it, what to do about it
}

// Error is every problem found in one file.
type Error struct {
	File     string
	Problems []Problem
}

// Error gives a line for each problem, in the file:line form that editors jump to.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		at := e.File
		if p.Line > 0 {
			at = fmt.Sprintf("%s:%d", e.File, p.Line)
		}
		if p.Key != "" {
			at += ": " + p.Key
		}
		lines = append(lines, at+": "+p.Text)
	}
	return strings.Join(lines, "\n")
}

// Load reads and checks the file. A failure is an [*Error].
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, &Error{File: path, Problems: []Problem{{Text: fmt.Sprintf("cannot be read: %v", err)}}}
	}
	return Parse(path, string(text))
}

// Parse decodes text over [Default] and checks it; name stands for the file in
// errors. A failure is an [*Error].
func Parse(name, text string) (Config, error) {
	cfg := Default()
	var file struct {
		Config
		Cameras []toml.Primitive `toml:"camera"`
	}
	file.Config = cfg
	meta, err := toml.Decode(text, &file)
	if err != nil {
		return Config{}, &Error{File: name, Problems: []Problem{syntaxProblem(err)}}
	}
	cfg = file.Config
	for _, table := range file.Cameras {
		camera := defaultCamera()
		if err := meta.PrimitiveDecode(table, &camera); err != nil {
			return Config{}, &Error{File: name, Problems: []Problem{syntaxProblem(err)}}
		}
		cfg.Cameras = append(cfg.Cameras, camera)
	}

	var problems []Problem
	lines := locate(text)
	seen := map[string]int{}
	for _, key := range meta.Undecoded() {
		// An unknown key in several [[camera]] tables is listed once for each, by the same name.
		plain := strings.Join(key, ".")
		at := lines.nth(plain, seen[plain])
		seen[plain]++
		problems = append(problems, Problem{Line: at.line, Key: at.key, Text: "unknown key" + suggest(key[len(key)-1])})
	}
	for _, p := range cfg.Problems() {
		p.Line = lines.line(p.Key)
		problems = append(problems, p)
	}
	if len(problems) > 0 {
		sort.SliceStable(problems, func(i, j int) bool { return problems[i].Line < problems[j].Line })
		return Config{}, &Error{File: name, Problems: problems}
	}
	return cfg, nil
}

func syntaxProblem(err error) Problem {
	var parse toml.ParseError
	if errors.As(err, &parse) {
		return Problem{Line: parse.Position.Line, Key: parse.LastKey, Text: parse.Message}
	}
	// A value of the wrong type is reported as text alone.
	if m := typeError.FindStringSubmatch(err.Error()); m != nil {
		line, _ := strconv.Atoi(m[1])
		return Problem{Line: line, Key: m[2], Text: m[3]}
	}
	return Problem{Text: err.Error()}
}

var typeError = regexp.MustCompile(`^toml: line (\d+) \(last key "([^"]*)"\): (.*)$`)
