package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCancelThenResume(t *testing.T) {
	h := newHub(t, size, hang(400_000))
	o := quick(t, h)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for ctx.Err() == nil && partSize(t, o) < 1000 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err := Pull(ctx, entry(), o)
	kept := partSize(t, o)
	if !errors.Is(err, context.Canceled) || kept <= 0 || !strings.Contains(err.Error(), "are kept") {
		t.Fatalf("error %v, %d bytes kept", err, kept)
	}
	// Cancelled again, while what was kept is hashed: nothing is lost.
	if _, err := Pull(ctx, entry(), o); !errors.Is(err, context.Canceled) || partSize(t, o) != kept {
		t.Fatalf("error %v, %d bytes kept, before %d", err, partSize(t, o), kept)
	}
	var phases []Phase
	o.Progress = func(p Progress) { phases = append(phases, p.Phase) }
	r := mustPull(t, h, entry(), o)
	requests, _ := h.seen()
	if want := fmt.Sprintf("bytes=%d-", kept); r.Resumed != kept || r.Verified != ByServer || requests[len(requests)-1].Header.Get("Range") != want {
		t.Errorf("result %+v; %d bytes were kept, then %q was asked for", r, kept, requests[len(requests)-1].Header.Get("Range"))
	}
	if phases[0] != Checking || phases[len(phases)-1] != Downloading {
		t.Errorf("phases %v", phases)
	}
}

// TestWholePart is a machine that lost power between the last byte and the renaming.
func TestWholePart(t *testing.T) {
	for name, step := range map[string]func(h *hub, w http.ResponseWriter, r *http.Request){"416": (*hub).serve, "200": ignoreRange} {
		h := newHub(t, size, step)
		o := quick(t, h)
		leave(t, o, h.data, state{URL: entry().URL(h.URL), ETag: `"one"`, Size: size, SHA256: digest(h.data)})
		if r := mustPull(t, h, entry(), o); name == "416" && r.Resumed != size {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// The same, but the file on the server is a longer one by now, or a shorter one.
	for _, now := range []int{size + 5, size - 5} {
		h := newHub(t, now, func(h *hub, w http.ResponseWriter, r *http.Request) {
			r = r.Clone(r.Context())
			r.Header.Del("If-Range")
			h.serve(w, r)
		})
		o := quick(t, h)
		leave(t, o, payload(3, size), state{URL: entry().URL(h.URL), ETag: `"old"`, Size: size})
		if r := mustPull(t, h, entry(), o); r.Resumed != 0 {
			t.Errorf("%d bytes: %+v", now, r)
		}
	}
}

// leave writes what an earlier pull would have left.
func leave(t *testing.T, o Options, data []byte, s state) {
	t.Helper()
	p, err := openPart(filepath.Join(o.Dir, "model.pt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.begin(s); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
}

func TestPartOfNoUse(t *testing.T) {
	h := newHub(t, size)
	url := entry().URL(h.URL)
	for name, s := range map[string]state{
		"other file": {URL: url + "x", ETag: `"one"`, Size: size},
		"too long":   {URL: url, ETag: `"one"`, Size: 50_000},
		"no tag":     {URL: url, Size: size},
	} {
		o := quick(t, h)
		leave(t, o, h.data[:100_000], s)
		if r := mustPull(t, h, entry(), o); r.Resumed != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	o := quick(t, h)
	leave(t, o, h.data[:100_000], state{URL: url, ETag: `"one"`, Size: size})
	if err := os.WriteFile(filepath.Join(o.Dir, "model.pt"+stateEnding), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := mustPull(t, h, entry(), o); r.Resumed != 0 {
		t.Errorf("damaged state: %+v", r)
	}
	// Bytes that a fault of the disk changed show in the hash.
	damaged := slices.Clone(h.data[:100_000])
	damaged[0] ^= 1
	o = quick(t, h)
	leave(t, o, damaged, state{URL: url, ETag: `"one"`, Size: size})
	if _, err := Pull(context.Background(), entry(), o); !errors.Is(err, ErrChecksum) {
		t.Errorf("damaged part: %v", err)
	}
	mustPull(t, h, entry(), o)
}

func TestWeakTag(t *testing.T) {
	h := newHub(t, size, drop(100_000))
	h.etag, h.linked = `W/"one"`, ""
	mustPull(t, h, entry(), quick(t, h))
	requests, _ := h.seen()
	if got := requests[1].Header.Get("Range"); got != "" {
		t.Errorf("range %q tied to nothing", got)
	}
}

func TestExisting(t *testing.T) {
	h := newHub(t, size)
	o := quick(t, h)
	path := filepath.Join(o.Dir, "model.pt")
	mustPull(t, h, entry(), o)
	if r := mustPull(t, h, entry(), o); !r.Existing || r.Verified != ByServer {
		t.Errorf("again: %+v", r)
	}
	known := entry()
	known.SHA256 = strings.ToUpper(digest(h.data))
	before, _ := h.seen()
	if r := mustPull(t, h, known, o); !r.Existing || r.Verified != ByCatalogue {
		t.Errorf("known hash: %+v", r)
	}
	if after, _ := h.seen(); len(after) != len(before) {
		t.Error("the server was asked for a file that is there")
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte{1}, size), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := mustPull(t, h, entry(), o); r.Existing {
		t.Errorf("another file of the same size: %+v", r)
	}
	if r := mustPull(t, h, known, o); !r.Existing {
		t.Errorf("replaced: %+v", r)
	}
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(context.Background(), entry(), o); err == nil || !strings.Contains(err.Error(), "is in the way") {
		t.Errorf("a folder in the way: %v", err)
	}
}

func TestDiskSpace(t *testing.T) {
	h := newHub(t, size)
	o := quick(t, h)
	o.free = func(string) (int64, error) { return size - 1 + spareSpace, nil }
	_, err := Pull(context.Background(), entry(), o)
	if !errors.Is(err, ErrDiskSpace) || !strings.Contains(err.Error(), o.Dir) {
		t.Errorf("error %v", err)
	}
	leave(t, o, h.data[:100_000], state{URL: entry().URL(h.URL), ETag: `"one"`, Size: size})
	mustPull(t, h, entry(), o) // the rest fits
	if free, err := freeSpace(o.Dir); err != nil || free <= 0 {
		t.Errorf("free space %d, %v", free, err)
	}
}

func TestBusy(t *testing.T) {
	h := newHub(t, size)
	o := quick(t, h)
	p, err := openPart(filepath.Join(o.Dir, "model.pt"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(context.Background(), entry(), o); !errors.Is(err, ErrBusy) {
		t.Errorf("error %v", err)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	mustPull(t, h, entry(), o)
}

func TestLicense(t *testing.T) {
	h := newHub(t, size)
	o := quick(t, h)
	o.AcceptLicense = false
	_, err := Pull(context.Background(), entry(), o)
	var refused *LicenseError
	if !errors.As(err, &refused) || !errors.Is(err, ErrLicenseNotAccepted) || refused.Entry.License.Name != "Test Terms" {
		t.Fatalf("error %v", err)
	}
	for _, text := range []string{"test", "https://example.com/owner/repo", "Test Terms", "Not for the moon.", "https://example.com/license"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q lacks %q", err, text)
		}
	}
	free, err := Find("a/b:c.pt")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(context.Background(), free, o); !errors.Is(err, ErrLicenseNotAccepted) || !strings.Contains(err.Error(), "not known to this program; read them at https://huggingface.co/a/b") {
		t.Errorf("error %v", err)
	}
	if requests, _ := h.seen(); len(requests) != 0 || len(list(t, o.Dir)) != 0 {
		t.Error("something was done before the license was accepted")
	}
}

func TestBadOptions(t *testing.T) {
	for _, endpoint := range []string{"huggingface.co", "ftp://a", "https://", "https://a?b=c", "https://user:pass@a", "://"} {
		if _, err := Pull(context.Background(), entry(), Options{AcceptLicense: true, Endpoint: endpoint, Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "is not an address") {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
	}
	e := entry()
	e.File = "../../etc/passwd"
	if _, err := Pull(context.Background(), e, Options{AcceptLicense: true, Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "not a path inside") {
		t.Errorf("file outside: %v", err)
	}
}
