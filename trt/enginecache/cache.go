package enginecache

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// Reason says why a plan has to be built.
type Reason string

const (
	Absent    Reason = "absent"    // there is none, nor was there one for the same graph
	Truncated Reason = "truncated" // the file is shorter than it was
	Corrupt   Reason = "corrupt"   // the content is not what was written
	Foreign   Reason = "foreign"   // the file is no plan of this library's family, or of another entry
	Outdated  Reason = "outdated"  // library, GPU, driver, model or options are others than when it was built
)

// Unusable is the error of Load.
type Unusable struct {
	Key    Key
	Reason Reason
	Detail string // a sentence for the log: "rebuild because ..." goes before it
	Err    error  // of the system, or nil
}

func (u *Unusable) Error() string { return "engine cache: " + u.Detail }

// Unwrap gives the error of the system.
func (u *Unusable) Unwrap() error { return u.Err }

// Metadata is what KEY.json holds.
type Metadata struct {
	Format       int             `json:"format"`
	ID           string          `json:"id"`
	Key          Key             `json:"key"`
	PlanSize     int64           `json:"plan_size"` // bytes
	PlanSHA256   string          `json:"plan_sha256"`
	Created      time.Time       `json:"created"`
	BuildSeconds float64         `json:"build_seconds"`
	TensorRT     string          `json:"tensorrt"` // that built it, for people
	Report       json.RawMessage `json:"report,omitempty"`
}

// Build says how a plan was made.
type Build struct {
	Duration time.Duration
	TensorRT string          // version, for people
	Report   json.RawMessage // what was found when it was judged, if it was; kept as it is
}

// Cache is a folder of plans. It may be used from any goroutine and by any number of processes.
type Cache struct{ dir string }

// Open opens the cache in a folder, which is made if it is not there.
func Open(dir string) (*Cache, error) { return &Cache{dir}, nil }

// DefaultDir is where plans are kept unless told otherwise: the first of engines in the folder that
// systemd gave a service as its CacheDirectory ($CACHE_DIRECTORY), toklip/engines in $XDG_CACHE_HOME,
// .cache/toklip/engines in the home directory, and /var/cache/toklip/engines without one.
func DefaultDir() string { return "" }

// Dir is the cache's folder.
func (c *Cache) Dir() string { return c.dir }

// TimingCache is the path of the timing cache for the key's library and GPU.
func (c *Cache) TimingCache(k Key) string { return "" }

// Plan is a plan in memory.
type Plan struct {
	Bytes []byte // mapped from the file, read only; until Close
	Meta  Metadata
}

// Close unmaps the plan.
func (p *Plan) Close() error { return nil }

// Load maps the plan of a key after checking its size, its header and its SHA-256. An error is an
// *Unusable.
func (c *Cache) Load(k Key) (*Plan, error) { return nil, &Unusable{Key: k, Reason: Absent} }

// SetReport replaces the report of an entry.
func (c *Cache) SetReport(ctx context.Context, k Key, report json.RawMessage) error {
	return errors.ErrUnsupported
}

// Holder says who builds a plan.
type Holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
	What  string    `json:"what"` // command line
}

// Lock is the right to build the plan of a key.
type Lock struct{}

// Lock waits until nobody else builds the plan of the key. waiting, which may be nil, is called with
// whoever holds it, once for each that is waited for.
func (c *Cache) Lock(ctx context.Context, k Key, waiting func(Holder)) (*Lock, error) {
	return nil, errors.ErrUnsupported
}

// PlanPath is where the builder writes the plan: a path in a folder of its own, removed by Close.
func (l *Lock) PlanPath() string { return "" }

// Dir is that folder: everything the builder writes beside the plan goes there too.
func (l *Lock) Dir() string { return "" }

// Commit puts the plan at PlanPath into the cache: it is hashed, synced and renamed, and its metadata
// written. On an error the entry is what it was before.
func (l *Lock) Commit(b Build) (Metadata, error) { return Metadata{}, errors.ErrUnsupported }

// Close gives up the lock and removes what was not committed. It is idempotent.
func (l *Lock) Close() error { return nil }

// Entry is one entry of the cache.
type Entry struct {
	ID       string    `json:"id"`
	Meta     *Metadata `json:"meta,omitempty"` // nil if KEY.json is missing or damaged
	Path     string    `json:"path"`           // of the plan
	Size     int64     `json:"size"`           // bytes of all its files
	Used     time.Time `json:"used"`           // last loaded or built
	Building *Holder   `json:"building,omitempty"`
	Problem  string    `json:"problem,omitempty"` // why Load would refuse it; content is not hashed for it
}

// List gives all entries, the last used first.
func (c *Cache) List() ([]Entry, error) { return nil, errors.ErrUnsupported }

// Find gives the entry whose ID begins with prefix. It is an error if there is none or more than one.
func (c *Cache) Find(prefix string) (Entry, error) { return Entry{}, errors.ErrUnsupported }

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
	Path string `json:"path"`
	Size int64  `json:"size"` // bytes
	Why  string `json:"why"`
}

// GC removes entries.
func (c *Cache) GC(o GCOptions) ([]Removed, error) { return nil, errors.ErrUnsupported }
