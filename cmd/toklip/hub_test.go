package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// hub serves the reference checkpoints as a model hub does, from repositories that each have their own faults:
// a/steady, a/dropping (two connections break), a/stalling (the first answer stops half way), a/lying (announces
// another SHA-256). It notes the range of every request.
type hub struct {
	folder string

	mu     sync.Mutex
	ranges []string
}

type hubKey struct{}

// startHub starts one for a script, which finds it as $HUB.
func startHub(env *testscript.Env) error {
	h := &hub{folder: filepath.Join(env.Getenv("REF"), "golden")}
	server := httptest.NewServer(h)
	env.Defer(server.Close)
	env.Setenv("HUB", server.URL)
	env.Values[hubKey{}] = h
	return nil
}

// ServeHTTP answers /OWNER/REPOSITORY/resolve/REVISION/FILE.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) != 5 || parts[0] != "a" || parts[2] != "resolve" {
		http.NotFound(w, r)
		return
	}
	content, err := os.ReadFile(filepath.Join(h.folder, filepath.Base(parts[4])))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	h.mu.Lock()
	h.ranges = append(h.ranges, r.Header.Get("Range"))
	count := len(h.ranges)
	h.mu.Unlock()

	sum := sha256.Sum256(content)
	if parts[1] == "lying" {
		sum[0] ^= 1
	}
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	w.Header().Set("X-Linked-Etag", `"`+hex.EncodeToString(sum[:])+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	switch {
	case parts[1] == "dropping" && count <= 2:
		w = &cutWriter{ResponseWriter: w, left: 500_000, end: func() {}}
	case parts[1] == "stalling" && count == 1:
		w = &cutWriter{ResponseWriter: w, left: 1_000_000, end: func() { <-r.Context().Done() }}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// cutWriter lets so many bytes through; then it calls end and breaks the connection.
type cutWriter struct {
	http.ResponseWriter
	left int
	end  func()
}

func (c *cutWriter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b[:min(len(b), c.left)])
	c.left -= n
	if err == nil && n < len(b) {
		_ = http.NewResponseController(c.ResponseWriter).Flush() // the client may be gone
		c.end()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// cmdRequests checks the ranges that the hub was asked for, "-" for none: requests RANGE...
func cmdRequests(ts *testscript.TestScript, neg bool, args []string) {
	h := ts.Value(hubKey{}).(*hub)
	h.mu.Lock()
	defer h.mu.Unlock()
	var got []string
	for _, r := range h.ranges {
		if r == "" {
			r = "-"
		}
		got = append(got, r)
	}
	if neg || fmt.Sprint(got) != fmt.Sprint(args) {
		ts.Fatalf("the hub was asked for the ranges %v, want %v", got, args)
	}
}
