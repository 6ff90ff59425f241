package enginecache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Entry is one entry of the cache.
type Entry struct {
	ID       string    `json:"id"`
	Meta     *Metadata `json:"meta,omitempty"` // nil if KEY.json is missing or damaged
	Path     string    `json:"path"`           // of the plan
	Size     int64     `json:"size"`           // bytes of all its files
	Used     time.Time `json:"used"`           // last loaded or built
	Building *Holder   `json:"building,omitempty"`
	Problem  string    `json:"problem,omitempty"` // why Load would refuse it, short of hashing it
}

// suffixes of an entry's files.
var suffixes = [...]string{".json", ".plan", ".build", ".lock"}

// idOf is the entry that a file belongs to, if it does.
func idOf(name string) (string, bool) {
	for _, s := range suffixes {
		if id, ok := strings.CutSuffix(name, s); ok && len(id) == idLength && strings.Trim(id, "0123456789abcdef") == "" {
			return id, true
		}
	}
	return "", false
}

// List gives all entries, the last used first. Files that are not the cache's are passed over.
func (c *Cache) List() ([]Entry, error) {
	files, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("list engines: %w", err)
	}
	var entries []Entry
	seen := map[string]bool{}
	for _, f := range files {
		if id, ok := idOf(f.Name()); ok && !seen[id] {
			seen[id] = true
			entries = append(entries, c.entry(id))
		}
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return b.Used.Compare(a.Used) })
	return entries, nil
}

// entry looks at the files of an entry.
func (c *Cache) entry(id string) Entry {
	e := Entry{ID: id, Path: c.path(id, ".plan")}
	for _, s := range suffixes {
		e.Size += sizeOf(c.path(id, s))
	}
	if h, ok := c.building(id); ok {
		e.Building = &h
	}
	m, err := c.readMetadata(id)
	plan, planErr := os.Stat(e.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && planErr != nil:
		if e.Building == nil {
			e.Problem = "what a builder left that ended early"
		}
	case errors.Is(err, fs.ErrNotExist):
		e.Problem = "metadata is missing"
	case err != nil:
		e.Problem = "metadata is damaged: " + err.Error()
	case planErr != nil:
		e.Problem = "plan is missing"
	case plan.Size() != m.PlanSize:
		e.Problem = fmt.Sprintf("plan has %d bytes instead of %d", plan.Size(), m.PlanSize)
	}
	if err == nil {
		e.Meta = m
	}
	if info, err := os.Stat(c.path(id, ".json")); err == nil {
		e.Used = info.ModTime()
	} else if planErr == nil {
		e.Used = plan.ModTime()
	}
	return e
}

// sizeOf is how many bytes a file, or a folder's files, have; what is not there has none.
func sizeOf(path string) int64 {
	var sum int64
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// Find gives the entry whose ID begins with prefix. It is an error if there is none or more than one.
func (c *Cache) Find(prefix string) (Entry, error) {
	entries, err := c.List()
	if err != nil {
		return Entry{}, err
	}
	var found []Entry
	for _, e := range entries {
		if prefix != "" && strings.HasPrefix(e.ID, prefix) {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return Entry{}, fmt.Errorf("find engine: none in %s begins with %q", c.dir, prefix)
	case 1:
		return found[0], nil
	}
	return Entry{}, fmt.Errorf("find engine: %d in %s begin with %q: give more digits", len(found), c.dir, prefix)
}
