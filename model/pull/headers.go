package pull

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answer is what a server and the endpoint that redirected to it say of a file.
type answer struct {
	etag   string // strong, of the final answer: what a range request may be tied to; else empty
	linked string // the endpoint's own tag of the file
	sha256 string // lower case, where the endpoint told it
	size   int64  // bytes, as the endpoint told it; -1 unknown
	commit string // of the repository
}

// note takes over what an answer of the endpoint itself says; the first word counts.
func (a *answer) note(h http.Header) {
	if a.linked == "" {
		a.linked = h.Get("X-Linked-Etag")
	}
	// Of a large file the endpoint gives the SHA-256, as X-Linked-Etag beside a redirect or as ETag.
	// An ETag of another host may be any hash: storage behind the endpoint has tags of 64 digits
	// that are no SHA-256. So has the endpoint, which then repeats it in X-Xet-Hash.
	for _, tag := range []string{h.Get("X-Linked-Etag"), h.Get("ETag")} {
		digits := strings.ToLower(strings.Trim(strings.TrimPrefix(tag, "W/"), `"`))
		if a.sha256 == "" && isSHA256(digits) && !strings.EqualFold(digits, h.Get("X-Xet-Hash")) {
			a.sha256 = digits
		}
	}
	if n, err := strconv.ParseInt(h.Get("X-Linked-Size"), 10, 64); err == nil && n >= 0 && a.size < 0 {
		a.size = n
	}
	if c := h.Get("X-Repo-Commit"); a.commit == "" && plainName(c) {
		a.commit = c
	}
}

// strongETag is the tag if a range may be tied to it (RFC 9110, 13.1.5: not if it is weak), else empty.
func strongETag(tag string) string {
	if len(tag) < 3 || len(tag) > 256 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return ""
	}
	for _, c := range []byte(tag[1 : len(tag)-1]) {
		if c < 0x21 || c == '"' || c == 0x7f { // RFC 9110, 8.8.3
			return ""
		}
	}
	return tag
}

// contentRange reads "bytes first-last/total" or, in a refusal, "bytes */total". total is -1 for "*",
// first and last are -1 in a refusal.
func contentRange(s string) (first, last, total int64, ok bool) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	if !ok {
		return 0, 0, 0, false
	}
	span, whole, ok := strings.Cut(rest, "/")
	if !ok {
		return 0, 0, 0, false
	}
	total = -1
	if whole != "*" {
		if total, ok = decimal(whole); !ok {
			return 0, 0, 0, false
		}
	}
	if span == "*" {
		return -1, -1, total, total >= 0
	}
	from, to, ok := strings.Cut(span, "-")
	if !ok {
		return 0, 0, 0, false
	}
	first, ok1 := decimal(from)
	last, ok2 := decimal(to)
	if !ok1 || !ok2 || last < first || total >= 0 && last >= total {
		return 0, 0, 0, false
	}
	return first, last, total, true
}

func decimal(s string) (int64, bool) {
	if s == "" || s[0] == '+' || s[0] == '-' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// maxRetryAfter bounds how long a server can make us wait.
const maxRetryAfter = 5 * time.Minute

// retryAfter reads a number of seconds or a date; 0 for anything else.
func retryAfter(s string, now time.Time) time.Duration {
	if n, ok := decimal(s); ok {
		return time.Duration(min(n, int64(maxRetryAfter/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
