package config

import (
	"fmt"
	"reflect"
)

// suggest names the known key nearest to an unknown one, if any is near.
func suggest(unknown string) string {
	best, distance := "", 3
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		for i := range t.NumField() {
			field := t.Field(i)
			if key := field.Tag.Get("toml"); key != "" {
				if d := editDistance(unknown, key); d < distance {
					best, distance = key, d
				}
			}
			elem := field.Type
			if elem.Kind() == reflect.Slice {
				elem = elem.Elem()
			}
			if elem.Kind() == reflect.Struct {
				walk(elem)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
	if best == "" {
		return ": see configs/ for every key there is"
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// editDistance counts the insertions, deletions and substitutions between a and b
// (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
