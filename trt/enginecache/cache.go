package enginecache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Cache is a folder of plans. It may be used from any goroutine and by any number of processes.
type Cache struct{ dir string }

// Open opens the cache in a folder, which is made if it is not there. A folder that cannot be written
// can be loaded from.
func Open(dir string) (*Cache, error) {
	if dir == "" {
		return nil, errors.New("open engine cache: no folder given")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open engine cache %q: %w", dir, err)
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return nil, explain(abs, fmt.Errorf("open engine cache: %w", err))
	}
	return &Cache{abs}, nil
}

// DefaultDir is where plans are kept unless told otherwise: the first of engines in the folder that
// systemd gave a service as its CacheDirectory ($CACHE_DIRECTORY), toklip/engines in $XDG_CACHE_HOME,
// .cache/toklip/engines in the home directory, and /var/cache/toklip/engines without one.
func DefaultDir() string {
	// systemd gives a list where a unit has several; the first one is the unit's main folder.
	if dir, _, _ := strings.Cut(os.Getenv("CACHE_DIRECTORY"), ":"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "engines")
	}
	// The XDG specification says that relative paths are to be ignored.
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "toklip", "engines")
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "toklip", "engines")
	}
	return "/var/cache/toklip/engines"
}

// Dir is the cache's folder, an absolute path.
func (c *Cache) Dir() string { return c.dir }

// PlanPath is where the plan of a key lies, if it is there.
func (c *Cache) PlanPath(k Key) string { return c.path(k.ID(), ".plan") }

// TimingCache is the path of the timing cache for the key's library and GPU. Builders may share it: the
// one that ends last writes it.
func (c *Cache) TimingCache(k Key) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{k.Family, k.Version, k.GPU, fmt.Sprint(k.SM, k.Driver, k.DLACore)}, "\n")))
	return filepath.Join(c.dir, fmt.Sprintf("timing-%s-%s.cache", safe(k.Family), hex.EncodeToString(sum[:8])))
}

// safe keeps what a file name may have.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, s)
}

// Free is how many bytes the cache's file system has left for us.
func (c *Cache) Free() (uint64, error) {
	n, err := free(c.dir)
	if err != nil {
		return 0, fmt.Errorf("engine cache %s: %w", c.dir, err)
	}
	return n, nil
}

func free(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}

func (c *Cache) path(id, suffix string) string { return filepath.Join(c.dir, id+suffix) }

// explain adds what to do to an error of a write.
func explain(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		left := "no space"
		if n, err := free(dir); err == nil {
			left = fmt.Sprintf("%d MB", n>>20)
		}
		return fmt.Errorf("%w (%s left in %s: free some, for example with toklip engine gc, or choose another folder for engines)", err, left, dir)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w (user %d cannot write to %s: change its owner or choose another folder for engines)", err, os.Getuid(), dir)
	}
	return err
}
