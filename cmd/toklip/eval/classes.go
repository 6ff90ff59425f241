package eval

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/toklip/toklip/engine/labels"
)

// Class is a folder of pictures and what is in them.
type Class struct {
	Folder string
	Names  []string // at least one; several are averaged
}

// ReadClasses reads a file of class names, a line a class:
//
//	n01440764<TAB>tench
//	n02012849 => crane, crane bird
//
// Names are separated by commas. Empty lines and those that begin with '#' do not count.
func ReadClasses(r io.Reader) ([]Class, error) {
	text, err := readText(r, maxListBytes)
	if err != nil {
		return nil, err
	}
	var classes []Class
	seen := map[string]int{} // line of each folder
	for number, line := range lines(text) {
		folder, list, ok := strings.Cut(line, "\t")
		if !ok {
			folder, list, ok = strings.Cut(line, "=>")
		}
		if !ok {
			return nil, fmt.Errorf("line %d: %q has neither a tab nor => between folder and names", number, clip(line))
		}
		class := Class{Folder: strings.TrimSpace(folder)}
		if class.Folder == "" || class.Folder == "." || class.Folder == ".." || strings.ContainsAny(class.Folder, "/\x00") {
			return nil, fmt.Errorf("line %d: %q is no name of a folder", number, clip(class.Folder))
		}
		if first, again := seen[class.Folder]; again {
			return nil, fmt.Errorf("line %d: folder %q stands in line %d already", number, class.Folder, first)
		}
		seen[class.Folder] = number
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" && !slices.Contains(class.Names, name) {
				class.Names = append(class.Names, name)
			}
		}
		if len(class.Names) == 0 {
			return nil, fmt.Errorf("line %d: folder %q has no name", number, class.Folder)
		}
		classes = append(classes, class)
	}
	if len(classes) == 0 {
		return nil, errors.New("no classes in it: write a line a class, its folder, a tab, its names")
	}
	return classes, nil
}

// ClassOfFolder is a class that is named as its folder is, underscores being spaces.
func ClassOfFolder(folder string) Class {
	name := strings.Join(strings.Fields(strings.ReplaceAll(folder, "_", " ")), " ")
	if name == "" {
		name = folder
	}
	return Class{Folder: folder, Names: []string{name}}
}

// Slot stands for the name in a template.
const Slot = "{}"

// ReadTemplates reads a file of prompts, a line a template such as "a photo of a {}.". Empty lines and those that begin
// with '#' do not count.
func ReadTemplates(r io.Reader) ([]string, error) {
	text, err := readText(r, maxListBytes)
	if err != nil {
		return nil, err
	}
	var templates []string
	for number, line := range lines(text) {
		if !strings.Contains(line, Slot) {
			return nil, fmt.Errorf("line %d: %q has no %s where the name belongs", number, clip(line), Slot)
		}
		if slices.Contains(templates, line) {
			return nil, fmt.Errorf("line %d: template %q stands twice", number, clip(line))
		}
		templates = append(templates, line)
	}
	if len(templates) == 0 {
		return nil, fmt.Errorf("no templates in it: write a line each, such as \"a photo of a %s.\"", Slot)
	}
	return templates, nil
}

// Fill puts every name into every template, as the texts of a label are made.
func Fill(templates, names []string) []string {
	label := labels.Label{Prompts: names, Templates: templates}
	return label.Texts()
}

// clip shortens what a message quotes of a file.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
