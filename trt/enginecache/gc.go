package enginecache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// GCOptions say what to remove. Damaged entries, and what dead builders left, always go; what is being
// built never does.
type GCOptions struct {
	// Keep says which entries stay whatever their age; nil: none.
	Keep func(Entry) bool
	// MaxAge is how long an entry stays after its last use; 0: entries that Keep does not keep go.
	MaxAge time.Duration
	// DryRun only says what would go.
	DryRun bool
}

// Removed is something that GC removed.
type Removed struct {
	Path string `json:"path"` // of an entry: of its plan
	Size int64  `json:"size"` // bytes
	Why  string `json:"why"`
}

// GC removes entries, and timing caches that no entry is left for. What it removed is told even if
// something could not be.
func (c *Cache) GC(o GCOptions) ([]Removed, error) {
	entries, err := c.List()
	if err != nil {
		return nil, err
	}
	var removed []Removed
	var errs []error
	used := map[string]bool{} // timing caches
	busy := false
	for _, e := range entries {
		if e.Building != nil {
			busy = true
			continue
		}
		why := o.why(e)
		if why == "" {
			used[c.TimingCache(e.Meta.Key)] = true
			continue
		}
		if !o.DryRun {
			gone, err := c.remove(e.ID, o)
			if errors.Is(err, syscall.EWOULDBLOCK) {
				busy = true
				continue
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if !gone {
				continue
			}
		}
		removed = append(removed, Removed{e.Path, e.Size, why})
	}
	if !busy { // a builder may be about to use one
		r, err := c.removeTimings(used, o.DryRun)
		removed = append(removed, r...)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return removed, explain(c.dir, fmt.Errorf("remove engines: %w", err))
	}
	return removed, nil
}

// why says why an entry goes; empty if it stays.
func (o GCOptions) why(e Entry) string {
	age := time.Since(e.Used)
	switch {
	case e.Problem != "":
		return e.Problem
	case o.Keep != nil && o.Keep(e):
		return ""
	case o.MaxAge == 0:
		return "not kept"
	case age > o.MaxAge:
		return fmt.Sprintf("not used for %v", age.Round(time.Minute))
	}
	return ""
}

// remove removes an entry under its lock, if it still ought to go then.
func (c *Cache) remove(id string, o GCOptions) (bool, error) {
	f, err := c.tryLock(id)
	if err != nil {
		return false, err
	}
	defer f.Close()
	// A builder may have ended in between and made it whole. Our lock is not a builder's.
	e := c.entry(id)
	e.Building = nil
	gone := e.Meta == nil || o.why(e) != "" // a builder's leavings have no metadata that Keep could look at
	var errs []error
	for _, s := range suffixes { // metadata first: without it there is no entry; the lock last
		if gone || s == ".lock" {
			errs = append(errs, os.RemoveAll(c.path(id, s)))
		}
	}
	return gone, errors.Join(errs...)
}

// removeTimings removes timing caches that are not used.
func (c *Cache) removeTimings(used map[string]bool, dry bool) ([]Removed, error) {
	files, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	var removed []Removed
	var errs []error
	for _, f := range files {
		path := filepath.Join(c.dir, f.Name())
		if !strings.HasPrefix(f.Name(), "timing-") || !strings.HasSuffix(f.Name(), ".cache") || used[path] {
			continue
		}
		size := sizeOf(path)
		if !dry {
			if err := os.Remove(path); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		removed = append(removed, Removed{path, size, "no engine is left that was built with it"})
	}
	return removed, errors.Join(errs...)
}
