package pull

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Endings of what lies beside the wanted file while it is not whole.
const (
	partEnding  = ".part"      // the bytes so far
	stateEnding = ".part.json" // what they are a part of
)

// state says what a part belongs to.
type state struct {
	URL    string `json:"url"`
	ETag   string `json:"etag,omitempty"`   // strong tag of the host that sent the bytes
	Linked string `json:"linked,omitempty"` // the endpoint's tag
	SHA256 string `json:"sha256,omitempty"` // as the endpoint announced it
	Size   int64  `json:"size"`             // of the whole file; -1 unknown
	Commit string `json:"commit,omitempty"`
}

// maxStateBytes is far above what saveState writes.
const maxStateBytes = 1 << 14

// parseState reads a state file; whatever is not one is refused.
func parseState(b []byte) (state, error) {
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return state{}, err
	}
	if s.URL == "" || s.Size < -1 || s.ETag != strongETag(s.ETag) || s.SHA256 != "" && !isSHA256(s.SHA256) {
		return state{}, errors.New("values out of range")
	}
	return s, nil
}

// resumable reports whether more bytes can be asked for safely: a tag ties the range to the same
// file, or a hash tells afterwards.
func (s state) resumable(known string) bool { return s.ETag != "" || s.SHA256 != "" || known != "" }

// part is the unfinished file, its length and hash so far.
type part struct {
	dest  string
	file  *os.File
	sum   hash.Hash
	size  int64
	state state
}

// openPart opens or begins the part of dest and locks it.
func openPart(dest string) (*part, error) {
	name := dest + partEnding
	for range 10 {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		ok, err := lock(f)
		if err == nil && !ok {
			err = fmt.Errorf("%w: %q is in use", ErrBusy, name)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		// Between opening and locking its owner may have finished and renamed it.
		mine, err := f.Stat()
		if err == nil {
			var now os.FileInfo
			if now, err = os.Lstat(name); err == nil && os.SameFile(mine, now) {
				return &part{dest: dest, file: f, sum: sha256.New()}, nil
			}
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: %q comes and goes", ErrBusy, name)
}

// takeOver hashes what an earlier run left, if it belongs to url; else the part begins empty.
func (p *part) takeOver(ctx context.Context, url, known string, progress func(done, total int64)) error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	s, err := readState(p.dest + stateEnding)
	if err != nil || s.URL != url || info.Size() == 0 || s.Size >= 0 && info.Size() > s.Size || !s.resumable(known) {
		return p.clear()
	}
	if err := hashInto(ctx, p.sum, p.file, info.Size(), progress); err != nil {
		return err
	}
	p.size, p.state = info.Size(), s
	return nil
}

func readState(path string) (state, error) {
	f, err := os.Open(path)
	if err != nil {
		return state{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStateBytes))
	if err != nil {
		return state{}, err
	}
	return parseState(b)
}

// clear empties the part.
func (p *part) clear() error {
	// The state goes first: bytes without it are never taken over, the other way round they might be.
	if err := os.Remove(p.dest + stateEnding); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.sum.Reset()
	p.size, p.state = 0, state{}
	return nil
}

// begin empties the part and records what it will be.
func (p *part) begin(s state) error {
	if err := p.clear(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.dest+stateEnding, append(b, '\n'), 0o644); err != nil {
		return err
	}
	p.state = s
	return nil
}

// Write appends to the part.
func (p *part) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.sum.Write(b[:n])
	p.size += int64(n)
	return n, err
}

// hex is the SHA-256 of the part so far.
func (p *part) hex() string { return hex.EncodeToString(p.sum.Sum(nil)) }

// finish puts the part in the place of dest, on the disk for good.
func (p *part) finish() error {
	if err := p.file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(p.dest+partEnding, p.dest); err != nil {
		return err
	}
	if err := os.Remove(p.dest + stateEnding); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir, err := os.Open(filepath.Dir(p.dest))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// discard removes the part.
func (p *part) discard() error {
	return errors.Join(p.clear(), os.Remove(p.dest+partEnding))
}

// close ends the use of the part and gives up the lock; an empty one is of no use to anybody.
func (p *part) close() error {
	var err error
	mine, mineErr := p.file.Stat()
	now, nowErr := os.Lstat(p.dest + partEnding)
	if mineErr == nil && nowErr == nil && mine.Size() == 0 && os.SameFile(mine, now) {
		err = p.discard()
	}
	return errors.Join(err, p.file.Close())
}

// hashInto reads size bytes of r into sum, stopping when ctx ends.
func hashInto(ctx context.Context, sum io.Writer, r io.Reader, size int64, progress func(done, total int64)) error {
	buf := make([]byte, copyBytes)
	for done := int64(0); done < size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), size-done)])
		if err != nil {
			return err
		}
		if _, err := sum.Write(buf[:n]); err != nil {
			return err
		}
		done += int64(n)
		progress(done, size)
	}
	return nil
}

// hashFile is the SHA-256 of a file of the given size.
func hashFile(ctx context.Context, path string, size int64, progress func(done, total int64)) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if err := hashInto(ctx, sum, f, size, progress); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
