package pull

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub is a server of one file that does as it is told: the n-th request is answered by the n-th step,
// those after the last by serve.
type hub struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	data     []byte
	etag     string
	linked   string // X-Linked-Etag
	steps    []func(h *hub, w http.ResponseWriter, r *http.Request)
	requests []*http.Request
	sent     int64
}

func newHub(t *testing.T, size int, steps ...func(h *hub, w http.ResponseWriter, r *http.Request)) *hub {
	h := &hub{t: t, steps: steps}
	h.set(payload(1, size), `"one"`)
	h.linked = `"` + digest(h.data) + `"`
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

// payload is bytes that do not repeat, so that a part in the wrong place shows.
func payload(seed uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (h *hub) set(data []byte, etag string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.data, h.etag = data, etag
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	n := len(h.requests)
	h.requests = append(h.requests, r)
	step := (*hub).serve
	if n < len(h.steps) {
		step = h.steps[n]
	}
	h.mu.Unlock()
	step(h, &counter{ResponseWriter: w, hub: h}, r)
}

// serve answers as it should, ranges and their conditions included.
func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	data, etag, linked := h.data, h.etag, h.linked
	h.mu.Unlock()
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	if linked != "" {
		w.Header().Set("X-Linked-Etag", linked)
	}
	w.Header().Set("X-Repo-Commit", "0123abcd")
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// write sends bytes whose loss, where a client has heard enough, is the test's business.
func (h *hub) write(w http.ResponseWriter, b []byte) {
	if n, err := w.Write(b); err != nil {
		h.t.Logf("server: %d of %d bytes written: %v", n, len(b), err)
	}
}

// seen returns the requests so far and the bytes sent.
func (h *hub) seen() ([]*http.Request, int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*http.Request(nil), h.requests...), h.sent
}

// counter counts bytes of bodies.
type counter struct {
	http.ResponseWriter
	hub *hub
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.hub.mu.Lock()
	c.hub.sent += int64(n)
	c.hub.mu.Unlock()
	return n, err
}

// cut lets so many bytes through and calls end before the next.
type cut struct {
	http.ResponseWriter
	left int
	end  func()
}

func (c *cut) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b[:min(len(b), c.left)])
	c.left -= n
	if err == nil && n < len(b) {
		if err := http.NewResponseController(c.ResponseWriter).Flush(); err != nil {
			return n, err
		}
		c.end()
		return n, http.ErrAbortHandler
	}
	return n, err
}

func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// drop serves so many bytes and then breaks the connection.
func drop(after int) func(h *hub, w http.ResponseWriter, r *http.Request) {
	return func(h *hub, w http.ResponseWriter, r *http.Request) {
		h.serve(&cut{ResponseWriter: w, left: after, end: func() { panic(http.ErrAbortHandler) }}, r)
	}
}

// hang serves so many bytes and then nothing until the client is gone.
func hang(after int) func(h *hub, w http.ResponseWriter, r *http.Request) {
	return func(h *hub, w http.ResponseWriter, r *http.Request) {
		h.serve(&cut{ResponseWriter: w, left: after, end: func() { <-r.Context().Done() }}, r)
	}
}

// refuse answers with a status and headers in pairs.
func refuse(status int, header ...string) func(h *hub, w http.ResponseWriter, r *http.Request) {
	return func(_ *hub, w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

// ignoreRange serves the whole file to any request.
func ignoreRange(h *hub, w http.ResponseWriter, r *http.Request) {
	r = r.Clone(r.Context())
	r.Header.Del("Range")
	h.serve(w, r)
}

// entry is the file of the hubs.
func entry() Entry {
	return Entry{
		Name: "test", Repo: "owner/repo", File: "sub/model.pt", Source: "https://example.com/owner/repo",
		License: License{Name: "Test Terms", Summary: "Not for the moon.", URL: "https://example.com/license"},
	}
}

// quick are options that do not keep a test waiting.
func quick(t *testing.T, h *hub) Options {
	return Options{
		Dir: t.TempDir(), AcceptLicense: true, Endpoint: h.URL,
		Backoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond, StallTimeout: 10 * time.Second,
	}
}

// mustPull pulls and checks that the file is the hub's and nothing lies beside it.
func mustPull(t *testing.T, h *hub, e Entry, o Options) Result {
	t.Helper()
	r, err := Pull(context.Background(), e, o)
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, h, o, r)
	return r
}

func checkFile(t *testing.T, h *hub, o Options, r Result) {
	t.Helper()
	h.mu.Lock()
	want := h.data
	h.mu.Unlock()
	got, err := os.ReadFile(r.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("the file of %d bytes is not the server's of %d", len(got), len(want))
	}
	if r.Path != filepath.Join(o.Dir, "model.pt") || r.Size != int64(len(want)) || r.SHA256 != digest(want) {
		t.Errorf("result %+v of %d bytes with SHA-256 %s", r, len(want), digest(want))
	}
	if names := list(t, o.Dir); len(names) != 1 {
		t.Errorf("in the folder: %v", names)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func partSize(t *testing.T, o Options) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(o.Dir, "model.pt"+partEnding))
	if os.IsNotExist(err) {
		return -1
	}
	if err != nil {
		t.Error(err)
		return -1
	}
	return info.Size()
}
