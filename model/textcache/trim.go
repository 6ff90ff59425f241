package textcache

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// abandonedAfter is how old a file gets that a process which died was writing.
const abandonedAfter = time.Hour

// blocks rounds a size up to what a file takes on the disk.
func blocks(size int64) int64 {
	const block = 4096
	return (size + block - 1) / block * block
}

// trim measures the folder and removes what was not used for longest until it is well below its bound. Two processes may do so at
// once: that a file is gone already is what was wanted.
func (c *Cache) trim() {
	if !c.sweep.TryLock() {
		return
	}
	defer c.sweep.Unlock()
	c.written.Store(0)
	type file struct {
		path string
		size int64
		used time.Time
	}
	var files []file
	total := int64(0)
	_ = filepath.WalkDir(c.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // what cannot be read cannot be removed
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		switch name := entry.Name(); {
		case strings.HasPrefix(name, temporary) && time.Since(info.ModTime()) > abandonedAfter:
			_ = os.Remove(path)
		case strings.HasSuffix(name, suffix):
			files = append(files, file{path, blocks(info.Size()), info.ModTime()})
			total += blocks(info.Size())
		}
		return nil
	})
	if total <= c.limit {
		return
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(a.used.Compare(b.used), strings.Compare(a.path, b.path)) })
	for _, f := range files {
		if total <= c.limit*7/8 {
			return
		}
		if os.Remove(f.path) == nil {
			total -= f.size
		}
	}
}
