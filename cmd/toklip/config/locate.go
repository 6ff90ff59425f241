package config

import (
	"fmt"
	"strings"
)

// place is where a key stands in the text of a file.
type place struct {
	plain string // without indices: "camera.source"
	key   string // with indices: "camera[1].source"
	line  int
}

// places lists keys in the order of the file. The TOML decoder knows the line of
// a syntax error only, not that of a key that is unknown or of a value that is
// refused later; this finds it in a file which has already been decoded.
type places []place

// locate finds the line of every `key =` and of every table header.
func locate(text string) places {
	var found places
	count := map[string]int{}      // of tables with the same key but for the last index
	element := map[string]string{} // the last table of an array, with indices, by its name without
	plainTable, keyTable, multiline := "", "", ""
	for i, line := range strings.Split(text, "\n") {
		if multiline != "" { // inside a multi-line string
			if strings.Contains(line, multiline) {
				multiline = ""
			}
			continue
		}
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "[["):
			plainTable = strings.TrimSpace(strings.SplitN(line[2:], "]", 2)[0])
			array := inElement(element, plainTable)
			keyTable = fmt.Sprintf("%s[%d]", array, count[array])
			count[array]++
			element[plainTable] = keyTable
			found = append(found, place{plainTable, keyTable, i + 1})
		case strings.HasPrefix(line, "["):
			plainTable = strings.TrimSpace(strings.SplitN(line[1:], "]", 2)[0])
			keyTable = inElement(element, plainTable)
			found = append(found, place{plainTable, keyTable, i + 1})
		case line == "" || line[0] == '#':
		default:
			name, value, ok := strings.Cut(line, "=")
			if !ok {
				continue
			}
			name = strings.Trim(strings.TrimSpace(name), `"'`)
			found = append(found, place{join(plainTable, name), join(keyTable, name), i + 1})
			for _, quote := range []string{`"""`, `'''`} {
				if strings.Count(value, quote) == 1 {
					multiline = quote
				}
			}
		}
	}
	return found
}

// inElement is the key of a table that may lie in one of an array: "camera.region" is "camera[1].region" after the second
// [[camera]].
func inElement(element map[string]string, plain string) string {
	for at := strings.LastIndexByte(plain, '.'); at >= 0; at = strings.LastIndexByte(plain[:at], '.') {
		if outer, ok := element[plain[:at]]; ok {
			return outer + plain[at:]
		}
	}
	return plain
}

func join(table, name string) string {
	if table == "" {
		return name
	}
	return table + "." + name
}

// nth is the n-th place (from 0) of a key named without indices.
func (p places) nth(plain string, n int) place {
	for _, at := range p {
		if at.plain == plain {
			if n == 0 {
				return at
			}
			n--
		}
	}
	return place{plain: plain, key: plain}
}

// line is where key (with indices) stands, or the header of its table where the
// file leaves the key out, or 0.
func (p places) line(key string) int {
	for k := key; k != ""; {
		for _, at := range p {
			if at.key == k {
				return at.line
			}
		}
		dot := strings.LastIndexByte(k, '.')
		if dot < 0 {
			return 0
		}
		k = k[:dot]
	}
	return 0
}
