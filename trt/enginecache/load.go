package enginecache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

// Reason says why a plan has to be built.
type Reason string

const (
	Absent    Reason = "absent"    // there is none, nor was there one for the same graph
	Truncated Reason = "truncated" // the file is shorter than it was
	Corrupt   Reason = "corrupt"   // a file is damaged, missing or cannot be read
	Foreign   Reason = "foreign"   // a file is of another entry or of another family of TensorRT
	Outdated  Reason = "outdated"  // library, GPU, driver, model or options are others than when it was built
)

// Unusable is the error of Load: why the plan has to be built.
type Unusable struct {
	Key    Key
	Reason Reason
	// Detail ends the sentence "engine is rebuilt because", such as "its plan /x.plan is truncated: 10
	// of 20 bytes are left".
	Detail string
	Err    error // of the system, or nil
}

func (u *Unusable) Error() string {
	return fmt.Sprintf("engine for %s in %s: %s", u.Key.Role, u.Key.Precision, u.Detail)
}

// Unwrap gives the error of the system.
func (u *Unusable) Unwrap() error { return u.Err }

// Plan is a plan in memory.
type Plan struct {
	Bytes []byte // mapped from the file, read only; until Close
	Meta  Metadata

	once sync.Once
	err  error
}

// Close unmaps the plan. Calling it again does nothing.
func (p *Plan) Close() error {
	p.once.Do(func() {
		if p.Bytes != nil {
			p.err = syscall.Munmap(p.Bytes)
			p.Bytes = nil
		}
	})
	return p.err
}

// Load maps the plan of a key after checking its header, its size and its SHA-256. An error is an
// *Unusable. It needs no lock: whoever replaces a plan renames a new file over it.
func (c *Cache) Load(k Key) (*Plan, error) {
	id := k.ID()
	unusable := func(r Reason, err error, format string, args ...any) (*Plan, error) {
		return nil, &Unusable{k, r, fmt.Sprintf(format, args...), err}
	}
	m, err := c.readMetadata(id)
	switch path := c.path(id, ".json"); {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(c.path(id, ".plan")); err == nil {
			return unusable(Corrupt, nil, "its metadata %s is missing", path)
		}
		return nil, c.whyAbsent(k)
	case errors.Is(err, errForeign):
		return unusable(Foreign, err, "its metadata %s is foreign: %v", path, err)
	case err != nil:
		return unusable(Corrupt, err, "its metadata %s is corrupt: %v", path, err)
	}

	p, err := loadPlan(c.path(id, ".plan"), m)
	if err != nil {
		return nil, err
	}
	// Metadata's time of change is the entry's time of use. In a folder that cannot be written it stays.
	now := time.Now()
	_ = os.Chtimes(c.path(id, ".json"), now, now)
	return p, nil
}

// loadPlan maps a plan that is what its metadata say.
func loadPlan(path string, m *Metadata) (*Plan, error) {
	unusable := func(r Reason, err error, format string, args ...any) (*Plan, error) {
		return nil, &Unusable{m.Key, r, fmt.Sprintf(format, args...), err}
	}
	f, err := os.Open(path)
	if err != nil {
		return unusable(Corrupt, err, "its plan cannot be opened: %v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return unusable(Corrupt, err, "its plan cannot be read: %v", err)
	}
	h, err := readHeader(f)
	if err != nil {
		return unusable(Corrupt, err, "its plan cannot be read: %v", err)
	}
	if size := info.Size(); size < m.PlanSize {
		return unusable(Truncated, nil, "its plan %s is truncated: %d of %d bytes are left", path, size, m.PlanSize)
	}
	if h != m.PlanHeader {
		switch {
		case h.Tag == "": // damaged, which the hash would tell in a minute
			return unusable(Corrupt, nil, "its plan %s is corrupt: it is %v, not %v", path, h, m.PlanHeader)
		case h.Tag != m.PlanHeader.Tag:
			return unusable(Foreign, nil, "its plan %s is foreign: it is %v, not %v", path, h, m.PlanHeader)
		}
		return unusable(Outdated, nil, "its plan %s is outdated: it is %v, not %v", path, h, m.PlanHeader)
	}
	if size := info.Size(); size > m.PlanSize {
		return unusable(Corrupt, nil, "its plan %s is corrupt: it has %d bytes instead of %d", path, size, m.PlanSize)
	}
	// Read first, mapped then: an error of the disk under a mapping would end the process.
	sum, err := hashFile(f)
	if err != nil {
		return unusable(Corrupt, err, "its plan cannot be read: %v", err)
	}
	if sum != m.PlanSHA256 {
		return unusable(Corrupt, nil, "its plan %s is corrupt: its SHA-256 is %s, not %s", path, sum, m.PlanSHA256)
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(m.PlanSize), syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		return unusable(Corrupt, err, "its plan %s cannot be mapped: %v", path, err)
	}
	return &Plan{Bytes: b, Meta: *m}, nil
}

// whyAbsent tells an engine that was never built from one that was built in other circumstances.
func (c *Cache) whyAbsent(k Key) error {
	entries, err := c.List()
	if err != nil {
		return &Unusable{k, Absent, fmt.Sprintf("there is none, and the cache cannot be read: %v", err), err}
	}
	for _, e := range entries { // the last used first
		if o := e.Meta; o != nil && o.Key.ONNX == k.ONNX && o.Key.Role == k.Role && o.Key.Precision == k.Precision {
			return &Unusable{k, Outdated, fmt.Sprintf("the one of %s is outdated: %s", o.Created.Format(time.DateOnly), o.Key.difference(k)), nil}
		}
	}
	for _, e := range entries {
		if o := e.Meta; o != nil && o.Key.Role == k.Role && o.Key.Precision == k.Precision {
			return &Unusable{k, Absent, "there is none for this model yet", nil}
		}
	}
	return &Unusable{k, Absent, "there is none yet", nil}
}

// hashFile is the SHA-256 of a whole file in hex.
func hashFile(f *os.File) (string, error) {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, io.NewSectionReader(f, 0, 1<<62), make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
