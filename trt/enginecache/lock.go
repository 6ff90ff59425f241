package enginecache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// lockInterval is how often a lock that somebody else holds is tried.
const lockInterval = 100 * time.Millisecond

// Holder says who builds a plan.
type Holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
	What  string    `json:"what"` // command line
}

// String says who it is.
func (h Holder) String() string {
	if h.PID == 0 {
		return "an unknown process"
	}
	return fmt.Sprintf("process %d on %s (%s), since %s", h.PID, h.Host, h.What, h.Since.Format(time.DateTime))
}

// Lock is the right to build the plan of a key. It is used by one goroutine at a time.
type Lock struct {
	cache *Cache
	key   Key
	id    string
	file  *os.File // KEY.lock, locked

	once sync.Once
	err  error
}

// Lock waits until nobody else builds the plan of the key, in whatever process, or until ctx ends.
// waiting, which may be nil, is called with whoever holds it, once for each that is waited for.
//
// Load may find the plan once the lock is had: another builder made it.
func (c *Cache) Lock(ctx context.Context, k Key, waiting func(Holder)) (*Lock, error) {
	id := k.ID()
	fail := func(err error) (*Lock, error) {
		return nil, explain(c.dir, fmt.Errorf("lock engine %s: %w", id, err))
	}
	var told Holder
	for {
		if err := context.Cause(ctx); err != nil {
			return fail(fmt.Errorf("held by %v: %w", told, err))
		}
		file, err := c.tryLock(id)
		if err == nil {
			l := &Lock{cache: c, key: k, id: id, file: file}
			if err := l.begin(); err != nil {
				return fail(errors.Join(err, l.Close()))
			}
			return l, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fail(err)
		}
		if h := c.holder(id); h != told && h.PID != 0 {
			told = h
			if waiting != nil {
				waiting(h)
			}
		}
		timer := time.NewTimer(lockInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// tryLock locks KEY.lock, making it if need be. EWOULDBLOCK if somebody has it.
func (c *Cache) tryLock(id string) (*os.File, error) {
	path := c.path(id, ".lock")
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		if err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			f.Close()
			return nil, err
		}
		// Whoever had the lock may have removed the file after we opened it: then ours locks nothing.
		if same(f, path) {
			return f, nil
		}
		f.Close()
	}
}

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// same reports whether an open file is the one at path.
func same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// holder reads who holds a lock; the zero Holder if that cannot be told, or is only being written.
func (c *Cache) holder(id string) Holder {
	var h Holder
	f, err := os.Open(c.path(id, ".lock"))
	if err != nil {
		return h
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil || json.Unmarshal(b, &h) != nil {
		return Holder{}
	}
	return h
}

// building reports who holds the lock of an entry, if anybody does. It never makes a file.
func (c *Cache) building(id string) (Holder, bool) {
	f, err := os.Open(c.path(id, ".lock"))
	if err != nil {
		return Holder{}, false
	}
	defer f.Close()
	if err := flock(f, syscall.LOCK_SH|syscall.LOCK_NB); err == nil {
		return Holder{}, false
	}
	return c.holder(id), true
}

// begin says who holds the lock and makes the folder to build in.
func (l *Lock) begin() error {
	host, _ := os.Hostname()
	b, err := json.Marshal(Holder{PID: os.Getpid(), Host: host, Since: time.Now().Truncate(time.Second), What: strings.Join(os.Args, " ")})
	if err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	if _, err := l.file.WriteAt(b, 0); err != nil {
		return err
	}
	// A builder that was killed left its folder.
	if err := os.RemoveAll(l.Dir()); err != nil {
		return err
	}
	return os.Mkdir(l.Dir(), 0o755)
}

// Dir is the folder to build in: what the builder writes beside the plan goes there too. Close removes
// it.
func (l *Lock) Dir() string { return l.cache.path(l.id, ".build") }

// PlanPath is where the builder writes the plan, in Dir.
func (l *Lock) PlanPath() string { return filepath.Join(l.Dir(), "plan") }

// Build says how a plan was made.
type Build struct {
	Duration time.Duration
	TensorRT string // version, for people
	// Report is what was found when the engine was judged, if it was: JSON, kept as it is.
	Report []byte
}

// Commit puts the plan at PlanPath into the cache: it is hashed, synced and renamed, and its metadata
// written. On an error the entry is what it was before, or gone.
func (l *Lock) Commit(b Build) (Metadata, error) {
	m, err := l.commit(b)
	if err != nil {
		return Metadata{}, explain(l.cache.dir, fmt.Errorf("keep engine %s: %w", l.id, err))
	}
	return *m, nil
}

func (l *Lock) commit(b Build) (*Metadata, error) {
	if l.file == nil {
		return nil, errors.New("its lock was given up")
	}
	if b.Report != nil && !json.Valid(b.Report) {
		return nil, errors.New("its report is no JSON")
	}
	m, err := describePlan(l.PlanPath(), l.key, b)
	if err != nil {
		return nil, err
	}
	// Everything that may run out of space is written before anything is renamed.
	text, err := l.writeMetadata(m)
	if err != nil {
		return nil, err
	}
	plan := l.cache.path(l.id, ".plan")
	if err := os.Rename(l.PlanPath(), plan); err != nil {
		return nil, err
	}
	// Between the two a reader finds a plan that does not fit its metadata: corrupt, to be built again;
	// it then waits for this lock and finds it whole.
	if err := os.Rename(text, l.cache.path(l.id, ".json")); err != nil {
		return nil, errors.Join(err, os.Remove(plan))
	}
	return m, syncDir(l.cache.dir)
}

// describePlan makes the metadata of a plan that was just built, and syncs it.
func describePlan(path string, k Key, b Build) (*Metadata, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the builder left no plan: %w", err)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("the builder left an empty plan, %s", path)
	}
	header, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	sum, err := hashFile(f)
	if err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return &Metadata{
		Format: metadataFormat, ID: k.ID(), Key: k.normal(), PlanSize: info.Size(), PlanSHA256: sum, PlanHeader: header,
		Created: time.Now().UTC().Truncate(time.Second), BuildSeconds: b.Duration.Seconds(), TensorRT: b.TensorRT, Report: b.Report,
	}, nil
}

// writeMetadata writes KEY.json into the folder to build in and returns its path.
func (l *Lock) writeMetadata(m *Metadata) (string, error) {
	b, err := m.encode()
	if err != nil {
		return "", err
	}
	path := filepath.Join(l.Dir(), "metadata.json")
	return path, writeSynced(path, b)
}

// writeSynced writes a file to the disk.
func writeSynced(path string, b []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes renames in a folder last.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Close gives up the lock and removes what was not committed. Calling it again does nothing.
func (l *Lock) Close() error {
	l.once.Do(func() {
		err := os.RemoveAll(l.Dir())
		// While it is locked: whoever waits for it notices that the file is another one.
		if e := os.Remove(l.cache.path(l.id, ".lock")); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		if err = errors.Join(err, l.file.Close()); err != nil {
			l.err = fmt.Errorf("unlock engine %s: %w", l.id, err)
		}
		l.file = nil
	})
	return l.err
}

// SetReport replaces the report, which is JSON, of an entry that is there.
func (c *Cache) SetReport(ctx context.Context, k Key, report []byte) error {
	if !json.Valid(report) {
		return fmt.Errorf("report of engine %s is no JSON", k.ID())
	}
	l, err := c.Lock(ctx, k, nil)
	if err != nil {
		return err
	}
	err = l.setReport(report)
	if err = errors.Join(err, l.Close()); err != nil {
		return explain(c.dir, fmt.Errorf("keep report of engine %s: %w", l.id, err))
	}
	return nil
}

func (l *Lock) setReport(report []byte) error {
	m, err := l.cache.readMetadata(l.id)
	if err != nil {
		return err
	}
	m.Report = report
	text, err := l.writeMetadata(m)
	if err != nil {
		return err
	}
	if err := os.Rename(text, l.cache.path(l.id, ".json")); err != nil {
		return err
	}
	return syncDir(l.cache.dir)
}
