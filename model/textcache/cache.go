// Package textcache keeps text embeddings on disk, so that a restart with known labels never loads the text tower.
//
// An embedding is a file of its own, named by a hash of what made it and of the text:
//
//	ab/abcdef….embedding   magic, tower, text, float32 values, SHA-256 over all before; see [encode]
//
// Files appear whole or not at all. One that is damaged, cut or of another text does not count and is removed. Where the
// folder grows beyond its bound, what was not used for longest goes.
package textcache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// DefaultMaxBytes is the bound of a cache unless told otherwise: 32 000 embeddings of a published model, which take two blocks of a disk each.
const DefaultMaxBytes = 256 << 20

// suffix of an embedding's file, and prefix of one that is being written.
const (
	suffix    = ".embedding"
	temporary = ".new-"
)

// touchAfter is how old the note of an embedding's last use may get: reading writes to the disk once a day.
const touchAfter = 24 * time.Hour

// Options of a cache.
type Options struct {
	MaxBytes int64 // bound of all files together; 0: DefaultMaxBytes
}

// Cache is a folder of embeddings. It may be used from any goroutine and by any number of processes.
type Cache struct {
	dir     string
	limit   int64
	written atomic.Int64 // since the folder was last measured; starts so that the first write measures it
	sweep   sync.Mutex
}

// Open opens the cache in a folder, which is made if it is not there. One that cannot be written can be read.
func Open(dir string, opts Options) (*Cache, error) {
	if dir == "" {
		return nil, errors.New("open text cache: no folder given")
	}
	if opts.MaxBytes < 0 {
		return nil, fmt.Errorf("open text cache: a bound of %d bytes", opts.MaxBytes)
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = DefaultMaxBytes
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open text cache %q: %w", dir, err)
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return nil, explain(abs, fmt.Errorf("open text cache: %w", err))
	}
	c := &Cache{dir: abs, limit: opts.MaxBytes}
	c.written.Store(opts.MaxBytes)
	return c, nil
}

// Dir is the cache's folder, an absolute path.
func (c *Cache) Dir() string { return c.dir }

// Get finds the embedding of a text that a tower made. tower names everything but the text that the values depend on; both are
// compared byte by byte.
func (c *Cache) Get(tower, text string) (embedding []float32, ok bool) {
	path := c.path(tower, text)
	f, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, false
	}
	if info.Size() <= maxFile {
		content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
		if err != nil {
			return nil, false // of the disk, not of the file: it stays
		}
		embedding, err = decode(content, tower, text)
		if err == nil {
			if now := time.Now(); now.Sub(info.ModTime()) > touchAfter {
				_ = os.Chtimes(path, now, now) // a cache that cannot be written is of use all the same
			}
			return embedding, true
		}
	}
	_ = os.Remove(path) // likewise
	return nil, false
}

// Put stores an embedding, whose values must be finite.
func (c *Cache) Put(tower, text string, embedding []float32) error {
	content, err := encode(tower, text, embedding)
	if err != nil {
		return fmt.Errorf("store text embedding: %w", err)
	}
	if err := c.write(c.path(tower, text), content); err != nil {
		return explain(c.dir, fmt.Errorf("store text embedding: %w", err))
	}
	// A file takes whole blocks.
	if c.written.Add(blocks(int64(len(content)))) >= c.limit/16 {
		c.trim()
	}
	return nil
}

// write makes a file that is there whole or not at all. It is not forced to the disk: what a power cut leaves of it is recognised.
func (c *Cache) write(path string, content []byte) (err error) {
	folder := filepath.Dir(path)
	f, err := os.CreateTemp(folder, temporary)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		f, err = os.CreateTemp(folder, temporary)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (c *Cache) path(tower, text string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s%s", len(tower), tower, text)
	name := hex.EncodeToString(h.Sum(nil)[:16])
	return filepath.Join(c.dir, name[:2], name+suffix)
}

// explain adds what to do to an error of a write.
func explain(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w (free some space for %s, or choose another folder for text embeddings)", err, dir)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w (user %d cannot write to %s: change its owner or choose another folder for text embeddings)", err, os.Getuid(), dir)
	}
	return err
}
