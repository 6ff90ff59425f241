package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const size = 1 << 20

func TestWhole(t *testing.T) {
	h := newHub(t, size)
	o := quick(t, h)
	o.Dir = filepath.Join(o.Dir, "made", "on", "the", "way")
	var steps []Progress
	o.Progress = func(p Progress) { steps = append(steps, p) }
	r := mustPull(t, h, entry(), o)
	if r.Verified != ByServer || r.Resumed != 0 || r.Existing || r.Commit != "0123abcd" || r.Source != h.URL+"/owner/repo/resolve/main/sub/model.pt" {
		t.Errorf("result %+v", r)
	}
	if len(steps) < 2 || steps[0] != (Progress{Downloading, 0, size}) || steps[len(steps)-1] != (Progress{Downloading, size, size}) {
		t.Errorf("progress %v", steps)
	}
	if requests, sent := h.seen(); len(requests) != 1 || sent != size || requests[0].URL.Path != "/owner/repo/resolve/main/sub/model.pt" {
		t.Errorf("%d requests, %d bytes", len(requests), sent)
	}
}

func TestDropsResume(t *testing.T) {
	h := newHub(t, size, drop(200_000), drop(1), drop(300_000), drop(0), drop(250_000))
	o := quick(t, h)
	o.Retries = 2 // fewer than the drops: those that bring something do not count
	r := mustPull(t, h, entry(), o)
	if r.Verified != ByServer || r.Resumed != 0 {
		t.Errorf("result %+v", r)
	}
	requests, _ := h.seen()
	var ranges []string
	for _, q := range requests {
		ranges = append(ranges, q.Header.Get("Range"))
	}
	if want := []string{"", "bytes=200000-", "bytes=200001-", "bytes=500001-", "bytes=500001-", "bytes=750001-"}; !slices.Equal(ranges, want) {
		t.Errorf("ranges %q, want %q", ranges, want)
	}
	if got := requests[1].Header.Get("If-Range"); got != `"one"` {
		t.Errorf("If-Range %q", got)
	}
}

func TestGivesUp(t *testing.T) {
	h := newHub(t, size, drop(100_000), drop(0), drop(0), drop(0))
	o := quick(t, h)
	o.Retries = 2
	_, err := Pull(context.Background(), entry(), o)
	if err == nil || !strings.Contains(err.Error(), "given up after 3 tries: connection") || !strings.Contains(err.Error(), "100000 bytes are kept") {
		t.Fatalf("error %v", err)
	}
	h.steps = nil
	if r := mustPull(t, h, entry(), o); r.Resumed != 100_000 {
		t.Errorf("resumed %d", r.Resumed)
	}
}

func TestRangeIgnored(t *testing.T) {
	h := newHub(t, size, drop(200_000), ignoreRange)
	r := mustPull(t, h, entry(), quick(t, h))
	if r.Resumed != 0 || r.Verified != ByServer {
		t.Errorf("result %+v", r)
	}
	if _, sent := h.seen(); sent < size+200_000 {
		t.Errorf("%d bytes sent", sent)
	}
}

func TestFileChanges(t *testing.T) {
	for name, step := range map[string]func(h *hub, w http.ResponseWriter, r *http.Request){
		"whole file in answer": (*hub).serve,
		// A server that knows ranges, but not the condition they come with.
		"range in answer": func(h *hub, w http.ResponseWriter, r *http.Request) {
			r = r.Clone(r.Context())
			r.Header.Del("If-Range")
			h.serve(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, size)
			h.steps = append(h.steps, drop(200_000), func(h *hub, w http.ResponseWriter, r *http.Request) {
				h.set(payload(2, size-7), `"two"`)
				h.mu.Lock()
				h.linked = `"` + digest(h.data) + `"`
				h.mu.Unlock()
				step(h, w, r)
			})
			if r := mustPull(t, h, entry(), quick(t, h)); r.Verified != ByServer {
				t.Errorf("result %+v", r)
			}
		})
	}
}

func TestFileChangesBetweenPulls(t *testing.T) {
	h := newHub(t, size, drop(200_000))
	h.linked = ""
	o := quick(t, h)
	o.Retries = -1
	if _, err := Pull(context.Background(), entry(), o); err == nil {
		t.Fatal("pulled")
	}
	h.set(payload(2, size), `"two"`)
	if r := mustPull(t, h, entry(), o); r.Resumed != 0 || r.Verified != NotVerified {
		t.Errorf("result %+v", r)
	}
}

// The same length, and one of the two tags alone to tell: bytes of two files must not be put together.
func TestFileChangesInTagAlone(t *testing.T) {
	for name, tagged := range map[string]bool{"etag": true, "linked": false} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, size)
			tag := func(h *hub, seed uint64) {
				data := payload(seed, size)
				h.set(data, "")
				h.mu.Lock()
				defer h.mu.Unlock()
				h.linked = `"` + digest(data) + `"`
				if tagged {
					h.etag, h.linked = fmt.Sprintf(`"%d"`, seed), ""
				}
			}
			tag(h, 1)
			h.steps = append(h.steps, drop(200_000), func(h *hub, w http.ResponseWriter, r *http.Request) {
				tag(h, 2)
				r = r.Clone(r.Context())
				r.Header.Del("If-Range")
				h.serve(w, r)
			})
			mustPull(t, h, entry(), quick(t, h))
		})
	}
}

// A file that is another at every request never comes to rest.
func TestFileKeepsChanging(t *testing.T) {
	h := newHub(t, size)
	for i := range 40 {
		h.steps = append(h.steps, func(h *hub, w http.ResponseWriter, r *http.Request) {
			h.set(payload(uint64(i), size+i), fmt.Sprintf(`"%d"`, i))
			h.mu.Lock()
			h.linked = ""
			h.mu.Unlock()
			r = r.Clone(r.Context())
			r.Header.Del("If-Range")
			drop(100_000)(h, w, r)
		})
	}
	_, err := Pull(context.Background(), entry(), quick(t, h))
	if err == nil || !strings.Contains(err.Error(), "starting over 5 times") {
		t.Errorf("error %v", err)
	}
}

func TestFinalAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		step  func(h *hub, w http.ResponseWriter, r *http.Request)
		is    error
		texts []string
	}{
		"no file":       {refuse(404, "X-Error-Code", "EntryNotFound"), ErrNotFound, []string{`"sub/model.pt"`, `"main"`, `"owner/repo"`, "EntryNotFound"}},
		"no repository": {refuse(401, "X-Error-Code", "RepoNotFound"), ErrNotFound, []string{`repository "owner/repo", or it is private`}},
		"gated":         {refuse(401, "X-Error-Code", "GatedRepo"), ErrAccess, []string{"https://example.com/owner/repo", "HF_TOKEN", "accept"}},
		"forbidden":     {refuse(403), ErrAccess, []string{"HF_TOKEN"}},
		"416":           {refuse(416), nil, []string{"416"}},
		"no content":    {refuse(204), nil, []string{"204", "no file"}},
		"not modified":  {refuse(304), nil, []string{"304"}},
		"web page":      {func(_ *hub, w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>Log in") }, nil, []string{"web page"}},
		"empty":         {refuse(200, "Content-Length", "0", "Content-Type", "x/y"), nil, []string{"empty file"}},
		"compressed":    {refuse(200, "Content-Length", "9", "Content-Encoding", "gzip"), nil, []string{`"gzip"`}},
		"unasked part":  {refuse(206, "Content-Range", "bytes 0-8/9", "Content-Length", "9"), nil, []string{"without being asked"}},
		"loop": {func(_ *hub, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, nil, []string{"10 redirects"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, size)
			for range 12 {
				h.steps = append(h.steps, c.step)
			}
			o := quick(t, h)
			_, err := Pull(context.Background(), entry(), o)
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("error %v, want %v", err, c.is)
			}
			for _, text := range append(c.texts, `pull "test"`) {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %q lacks %q", err, text)
				}
			}
			if requests, _ := h.seen(); len(requests) != 1 && name != "loop" {
				t.Errorf("%d requests", len(requests))
			}
			if names := list(t, o.Dir); len(names) != 0 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
}

func TestOverload(t *testing.T) {
	h := newHub(t, size, refuse(500), refuse(503), refuse(429, "Retry-After", "1"))
	start := time.Now()
	mustPull(t, h, entry(), quick(t, h))
	if d := time.Since(start); d < time.Second {
		t.Errorf("done after %v, although the server asked for 1 s", d)
	}
}

func TestUnreachable(t *testing.T) {
	h := newHub(t, size)
	o := quick(t, h)
	h.Close()
	_, err := Pull(context.Background(), entry(), o)
	if err == nil || !strings.Contains(err.Error(), "given up after 4 tries") || !strings.Contains(err.Error(), "connection to 127.0.0.1") {
		t.Errorf("error %v", err)
	}
	if names := list(t, o.Dir); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

// TestRedirect is the public server's way: the hash beside a redirect to storage on another host,
// whose ETag looks like a SHA-256 and is none.
func TestRedirect(t *testing.T) {
	storage := newHub(t, size, drop(300_000))
	storage.linked = `"` + digest([]byte("a lie")) + `"`
	storage.set(storage.data, `"`+digest([]byte("another hash"))+`"`)
	h := newHub(t, size)
	for range 2 {
		h.steps = append(h.steps, func(h *hub, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Linked-Etag", `"`+digest(h.data)+`"`)
			w.Header().Set("X-Linked-Size", fmt.Sprint(len(h.data)))
			w.Header().Set("X-Repo-Commit", "fedc")
			http.Redirect(w, r, storage.URL+"/blob?signature=secret", http.StatusFound)
		})
	}
	o := quick(t, h)
	o.Token = "hf_token"
	r := mustPull(t, h, entry(), o)
	if r.Verified != ByServer || r.Commit != "fedc" {
		t.Errorf("result %+v", r)
	}
	asked, _ := h.seen()
	if len(asked) != 2 || asked[0].Header.Get("Authorization") != "Bearer hf_token" {
		t.Errorf("%d requests to the endpoint, authorization %q", len(asked), asked[0].Header.Get("Authorization"))
	}
	fetched, _ := storage.seen()
	if len(fetched) != 2 || fetched[1].Header.Get("Range") != "bytes=300000-" {
		t.Errorf("%d requests to the storage", len(fetched))
	}
	for _, q := range fetched {
		if q.Header.Get("Authorization") != "" || q.Header.Get("Referer") != "" {
			t.Errorf("the storage was sent %v", q.Header)
		}
	}
}

// An address at the storage that has expired is asked for again at the endpoint.
func TestRedirectExpired(t *testing.T) {
	storage := newHub(t, size, refuse(403))
	h := newHub(t, size)
	for range 2 {
		h.steps = append(h.steps, func(h *hub, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, storage.URL+"/blob", http.StatusFound)
		})
	}
	if r := mustPull(t, h, entry(), quick(t, h)); r.Verified != NotVerified {
		t.Errorf("result %+v: another host's hash was believed", r)
	}
}

func TestRedirectToPlain(t *testing.T) {
	plain := newHub(t, size)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+"/blob", http.StatusFound)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // the first try ends in the handshake, as it should
	s.StartTLS()
	t.Cleanup(s.Close)
	o := quick(t, plain)
	o.Endpoint = s.URL
	_, err := Pull(context.Background(), entry(), o)
	if err == nil || !strings.Contains(err.Error(), "is not trusted") {
		t.Errorf("a certificate of nobody: %v", err)
	}
	o.transport = s.Client().Transport
	_, err = Pull(context.Background(), entry(), o)
	if err == nil || !strings.Contains(err.Error(), "not encrypted") {
		t.Errorf("error %v", err)
	}
	if requests, _ := plain.seen(); len(requests) != 0 {
		t.Error("the redirect was followed")
	}
}

func TestTokenOverPlain(t *testing.T) {
	o := Options{Endpoint: "http://mirror.example", Token: "hf_token"}
	if _, err := o.complete(); err != nil || o.Token != "" {
		t.Errorf("token %q, %v", o.Token, err)
	}
	o = Options{Endpoint: "https://mirror.example", Token: "hf_token"}
	if _, err := o.complete(); err != nil || o.Token == "" {
		t.Errorf("token %q, %v", o.Token, err)
	}
}

func TestWrongBytes(t *testing.T) {
	h := newHub(t, size)
	right := h.data
	wrong := slices.Clone(right)
	wrong[size/2] ^= 1
	h.set(wrong, `"one"`)
	known := entry()
	known.SHA256 = digest(right)
	for name, c := range map[string]struct {
		entry Entry
		by    Verification
	}{"server": {entry(), ByServer}, "catalogue": {known, ByCatalogue}} {
		t.Run(name, func(t *testing.T) {
			o := quick(t, h)
			_, err := Pull(context.Background(), c.entry, o)
			var sum *ChecksumError
			if !errors.As(err, &sum) || !errors.Is(err, ErrChecksum) || sum.Want != digest(right) || sum.Got != digest(wrong) || sum.By != c.by {
				t.Fatalf("error %+v", err)
			}
			if !strings.Contains(err.Error(), sum.Want) || !strings.Contains(err.Error(), sum.Got) {
				t.Errorf("error %q lacks a hash", err)
			}
			if names := list(t, o.Dir); len(names) != 0 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
}

func TestAnnouncedIsNotKnown(t *testing.T) {
	h := newHub(t, size)
	e := entry()
	e.SHA256 = digest([]byte("the file as it was"))
	_, err := Pull(context.Background(), e, quick(t, h))
	var sum *ChecksumError
	if !errors.As(err, &sum) || !sum.Announced || sum.Want != e.SHA256 || sum.Got != digest(h.data) {
		t.Errorf("error %v", err)
	}
}

func TestStall(t *testing.T) {
	h := newHub(t, size, hang(200_000), func(_ *hub, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	o := quick(t, h)
	o.StallTimeout = 150 * time.Millisecond
	mustPull(t, h, entry(), o)
	requests, _ := h.seen()
	if len(requests) != 3 || requests[2].Header.Get("Range") != "bytes=200000-" {
		t.Errorf("%d requests", len(requests))
	}
}

func TestWrongLength(t *testing.T) {
	long := func(h *hub, w http.ResponseWriter, r *http.Request) { // announces more than it has
		w.Header().Set("Content-Length", fmt.Sprint(size+9))
		w.Header().Set("X-Linked-Etag", h.linked)
		h.write(w, h.data)
	}
	h := newHub(t, size, long, long, long, long)
	o := quick(t, h)
	o.Retries = 2
	if _, err := Pull(context.Background(), entry(), o); err == nil || !strings.Contains(err.Error(), "given up after") {
		t.Errorf("too long: %v", err)
	}
	short := func(h *hub, w http.ResponseWriter, r *http.Request) { // announces less than the endpoint says
		w.Header().Set("Content-Length", fmt.Sprint(size-9))
		w.Header().Set("X-Linked-Size", fmt.Sprint(size))
		h.write(w, h.data[:size-9])
	}
	h = newHub(t, size, short, short, short)
	o = quick(t, h)
	o.Retries = 2
	if _, err := Pull(context.Background(), entry(), o); err == nil || !strings.Contains(err.Error(), "sends 1048567 bytes, but the file has 1048576") {
		t.Errorf("too short: %v", err)
	}
	more := func(h *hub, w http.ResponseWriter, r *http.Request) { // no length, and more than the endpoint says
		w.Header().Set("X-Linked-Size", fmt.Sprint(size-9))
		h.write(w, h.data)
	}
	h = newHub(t, size, more, more, more)
	o = quick(t, h)
	o.Retries = 2
	if _, err := Pull(context.Background(), entry(), o); err == nil || !strings.Contains(err.Error(), "of a file of 1048567") {
		t.Errorf("more than announced: %v", err)
	}
}

func TestNoLength(t *testing.T) {
	chunked := func(h *hub, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "x/y")
		h.write(w, h.data[:1000])
		http.NewResponseController(w).Flush()
		h.write(w, h.data[1000:])
	}
	h := newHub(t, size, chunked)
	if r := mustPull(t, h, entry(), quick(t, h)); r.Verified != NotVerified {
		t.Errorf("result %+v", r)
	}
	bare := func(h *hub, w http.ResponseWriter, r *http.Request) { // HTTP/1.0: ends where the connection does
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			h.t.Error(err)
			return
		}
		fmt.Fprintf(c, "HTTP/1.0 200 OK\r\nContent-Type: x/y\r\n\r\nhalf a file")
		c.Close()
	}
	h = newHub(t, size, bare)
	if _, err := Pull(context.Background(), entry(), quick(t, h)); err == nil || !strings.Contains(err.Error(), "neither length nor hash") {
		t.Errorf("error %v", err)
	}
}
