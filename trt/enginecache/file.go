package enginecache

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// MetadataPath is where the metadata of a plan file outside the cache lie: NAME.json beside NAME.plan.
func MetadataPath(plan string) string { return strings.TrimSuffix(plan, ".plan") + ".json" }

// Describe writes the metadata of a plan file outside the cache, which somebody carries to where it runs.
func Describe(plan string, k Key, b Build) (Metadata, error) {
	m, err := describePlan(plan, k, b)
	if err != nil {
		return Metadata{}, fmt.Errorf("describe plan %s: %w", plan, err)
	}
	text, err := m.encode()
	if err != nil {
		return Metadata{}, err
	}
	path := MetadataPath(plan)
	// Renamed, so that nobody reads half of it.
	if err = writeSynced(path+".part", text); err == nil {
		err = os.Rename(path+".part", path)
	}
	if err != nil {
		return Metadata{}, explain(filepath.Dir(plan), fmt.Errorf("describe plan %s: %w", plan, err))
	}
	return *m, nil
}

// LoadFile maps a plan file outside the cache that Describe described, if fits takes its key: it gives what does not fit, or
// nothing. The plan is checked as those of the cache are, and only then. The error wraps fs.ErrNotExist where there is no such
// plan.
func LoadFile(plan string, fits func(Key) string) (*Plan, error) {
	m, err := ReadMetadata(plan)
	if err != nil {
		return nil, err
	}
	if why := fits(m.Key); why != "" {
		return nil, fmt.Errorf("plan %s does not fit: %s", plan, why)
	}
	return loadPlan(plan, m)
}

// ReadMetadata reads what Describe wrote of a plan file. The error wraps fs.ErrNotExist where it wrote nothing.
func ReadMetadata(plan string) (*Metadata, error) {
	path := MetadataPath(plan)
	b, err := readLimited(path)
	if err != nil {
		return nil, fmt.Errorf("plan %s: its metadata: %w", plan, err)
	}
	m, err := parseAny(b)
	if err != nil {
		return nil, fmt.Errorf("plan %s: its metadata %s: %w", plan, path, err)
	}
	return m, nil
}
