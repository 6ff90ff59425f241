package pull

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	copyBytes     = 1 << 18 // read and written at once
	madeProgress  = 1 << 16 // bytes after which a broken try does not count as a failure
	spareSpace    = 64 << 20
	progressEvery = 100 * time.Millisecond
)

// errStalled is the cause of a try's end when nothing arrived for too long.
var errStalled = errors.New("nothing arrived")

// redirectError is a redirect that is not followed.
type redirectError struct{ reason string }

func (e *redirectError) Error() string { return e.reason }

// download is one call of Pull.
type download struct {
	entry     Entry
	o         Options
	endpoint  *url.URL
	url       string
	dest      string
	part      *part
	transport http.RoundTripper

	resumed  int64 // bytes of an earlier pull still in use
	answered bool  // any server has answered
	checked  bool  // dest was compared with the server's file and is another
	found    bool  // dest is the server's file
	reported time.Time

	// Of the file that results.
	sha256, commit string
	size           int64
}

func (d *download) result(by Verification) Result {
	return Result{
		Path: d.dest, Size: d.size, SHA256: d.sha256, Verified: by, Source: d.url,
		Commit: d.commit, Resumed: d.resumed, Existing: d.found,
	}
}

// wanted is the hash to compare with and where it comes from.
func (d *download) wanted() (string, Verification) {
	if d.entry.SHA256 != "" {
		return strings.ToLower(d.entry.SHA256), ByCatalogue
	}
	if d.part.state.SHA256 != "" {
		return strings.ToLower(d.part.state.SHA256), ByServer
	}
	return "", NotVerified
}

// report returns a function that tells the caller of progress, not too often.
func (d *download) report(phase Phase) func(done, total int64) {
	d.reported = time.Time{}
	return func(done, total int64) {
		now := time.Now()
		if done != total && now.Sub(d.reported) < progressEvery {
			return
		}
		d.reported = now
		d.o.Progress(Progress{Phase: phase, Done: done, Total: total})
	}
}

// existing reports whether dest is there already with this hash.
func (d *download) existing(ctx context.Context, want string) (bool, error) {
	info, err := os.Stat(d.dest)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	got, err := hashFile(ctx, d.dest, info.Size(), d.report(Checking))
	if err != nil {
		return false, fmt.Errorf("check %q: %w", d.dest, err)
	}
	if !strings.EqualFold(got, want) {
		return false, nil
	}
	d.found, d.sha256, d.size = true, got, info.Size()
	return true, nil
}

// untilWhole tries until the part is whole, an error is final or patience ends.
func (d *download) untilWhole(ctx context.Context) error {
	for failures, restarts := 0, 0; ; {
		before := d.part.size
		err := d.try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var t *transientError
		if !errors.As(err, &t) {
			return err
		}
		if t.restart {
			if restarts++; restarts > maxRestarts {
				return fmt.Errorf("given up after starting over %d times: %w", maxRestarts, err)
			}
			d.o.Logger.Info("download starts over", "file", d.entry.File, "reason", err)
			continue
		}
		if d.part.size-before >= madeProgress {
			failures = 0
		}
		failures++
		limit := max(d.o.Retries, 0)
		if !d.answered {
			limit = min(limit, retriesUnanswered)
		}
		if failures > limit {
			return fmt.Errorf("given up after %d tries: %w", failures, err)
		}
		pause := max(d.backoff(failures), t.after)
		d.o.Logger.Warn("download interrupted", "file", d.entry.File, "error", err, "bytes", d.part.size, "retry_in", pause)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// backoff is the pause before a retry: doubled each time, a quarter up or down at random so that
// many machines that lost the same server do not come back in the same moment.
func (d *download) backoff(failure int) time.Duration {
	pause := d.o.Backoff
	for i := 1; i < failure && pause < d.o.MaxBackoff; i++ {
		pause *= 2
	}
	pause = min(pause, d.o.MaxBackoff)
	return pause*3/4 + rand.N(pause/2+1)
}

// try makes one request and takes what it brings. nil means that the part is whole or dest was already.
func (d *download) try(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	stall := time.AfterFunc(d.o.StallTimeout, func() { cancel(errStalled) })
	defer stall.Stop()

	said := answer{size: -1}
	req, err := d.request(ctx)
	if err != nil {
		return err
	}
	client := http.Client{Transport: d.transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		return d.redirect(next, via, &said)
	}}
	resp, err := client.Do(req)
	if err != nil {
		return d.connectionError(ctx, err)
	}
	defer resp.Body.Close()
	d.answered = true
	own := d.own(resp.Request.URL)
	if own {
		said.note(resp.Header)
	}
	said.etag = strongETag(resp.Header.Get("ETag"))
	if want := strings.ToLower(d.entry.SHA256); resp.StatusCode < 300 && want != "" && said.sha256 != "" && said.sha256 != want {
		return &ChecksumError{Name: d.entry.Name, Want: want, Got: said.sha256, By: ByCatalogue, Announced: true}
	}

	if c := resp.Header.Get("Content-Encoding"); resp.StatusCode < 300 && c != "" && c != "identity" {
		return fmt.Errorf("%s sent %s compressed (%q), which was not asked for", resp.Request.URL.Host, d.entry.File, c)
	}

	var whole int64 // length of the whole file, -1 if nobody tells
	switch resp.StatusCode {
	case http.StatusOK:
		if whole, err = d.fromStart(resp, said); err != nil {
			return err
		}
		if !d.checked && said.sha256 != "" && d.sameSize(whole) {
			// Reading the file on the disk may take longer than the server waits.
			resp.Body.Close()
			stall.Stop()
			d.checked = true
			if done, err := d.existing(parent, said.sha256); err != nil || done {
				d.commit, d.resumed = said.commit, 0
				return err
			}
			return restart("%q is another file of the same size", d.dest)
		}
		d.resumed = 0
		if err := d.space(whole); err != nil {
			return err
		}
		s := state{URL: d.url, ETag: said.etag, Linked: said.linked, SHA256: said.sha256, Size: whole, Commit: said.commit}
		if err := d.part.begin(s); err != nil {
			return err
		}
	case http.StatusPartialContent:
		if whole, err = d.fromMiddle(resp, said); err != nil {
			return err
		}
		if err := d.space(whole); err != nil {
			return err
		}
		if d.part.state.SHA256 == "" {
			d.part.state.SHA256 = said.sha256
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return d.beyondEnd(resp, said, own)
	default:
		if resp.StatusCode < 300 {
			return fmt.Errorf("%s answered %q, which is no file", resp.Request.URL.Host, resp.Status)
		}
		return statusError(resp, d.entry, own, d.o.Token != "", time.Now())
	}
	return d.take(ctx, resp.Body, whole, stall)
}

// request asks for the file from where the part ends.
func (d *download) request(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "toklip")
	req.Header.Set("Accept-Encoding", "identity")
	if d.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+d.o.Token)
	}
	if d.part.size > 0 && d.part.state.resumable(d.entry.SHA256) {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(d.part.size, 10)+"-")
		if d.part.state.ETag != "" {
			req.Header.Set("If-Range", d.part.state.ETag)
		}
	}
	return req, nil
}

// own reports whether a URL is at the endpoint itself.
func (d *download) own(u *url.URL) bool {
	return u.Scheme == d.endpoint.Scheme && u.Host == d.endpoint.Host
}

// redirect looks at every redirect on the way, which is where the endpoint tells the hash.
func (d *download) redirect(next *http.Request, via []*http.Request, said *answer) error {
	last := via[len(via)-1]
	if d.own(last.URL) && next.Response != nil {
		said.note(next.Response.Header)
	}
	if len(via) >= 10 {
		return &redirectError{"stopped after 10 redirects"}
	}
	if next.URL.Scheme != "https" && (next.URL.Scheme != "http" || last.URL.Scheme == "https") {
		return &redirectError{fmt.Sprintf("%s redirects to %s, which is not encrypted", last.URL.Host, next.URL.Host)}
	}
	if !d.own(next.URL) {
		// Go itself would still send it to other ports and to hosts below the endpoint's name.
		next.Header.Del("Authorization")
	}
	next.Header.Del("Referer")
	return nil
}

// connectionError words a request without an answer. Addresses redirected to are signed, so that only their host is shown.
func (d *download) connectionError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		return transient("%w for %v", errStalled, d.o.StallTimeout)
	}
	var redirect *redirectError
	if errors.As(err, &redirect) {
		d.answered = true
		return redirect
	}
	host := d.endpoint.Host
	var ue *url.Error
	if errors.As(err, &ue) {
		if u, parseErr := url.Parse(ue.URL); parseErr == nil && u.Host != "" {
			host = u.Host
		}
		err = ue.Err
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return fmt.Errorf("%s is not trusted: %w; check the clock, the CA certificates and any proxy in between", host, err)
	}
	return transient("connection to %s: %w", host, err)
}

// fromStart checks an answer that holds the whole file, and returns the file's length.
func (d *download) fromStart(resp *http.Response, said answer) (int64, error) {
	host := resp.Request.URL.Host
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && kind == "text/html" && !strings.HasSuffix(d.entry.File, ".html") {
		return 0, fmt.Errorf("%s sent a web page instead of %s: is there a proxy or a login page in between?", host, d.entry.File)
	}
	whole := resp.ContentLength
	switch {
	case whole < 0 && said.size >= 0:
		whole = said.size
	case said.size >= 0 && whole != said.size:
		return 0, transient("%s sends %d bytes, but the file has %d", host, whole, said.size)
	}
	if whole < 0 && said.sha256 == "" && d.entry.SHA256 == "" && resp.ProtoMajor < 2 && len(resp.TransferEncoding) == 0 {
		return 0, fmt.Errorf("%s tells neither length nor hash of %s, so that a cut would not show", host, d.entry.File)
	}
	if whole == 0 {
		return 0, fmt.Errorf("%s sends an empty file as %s", host, d.entry.File)
	}
	return whole, nil
}

// fromMiddle checks an answer that goes on where the part ends, and returns the whole file's length.
func (d *download) fromMiddle(resp *http.Response, said answer) (int64, error) {
	first, last, total, ok := contentRange(resp.Header.Get("Content-Range"))
	s := d.part.state
	reason := ""
	switch {
	case resp.Request.Header.Get("Range") == "":
		return 0, fmt.Errorf("%s sent a part of %s without being asked to", resp.Request.URL.Host, d.entry.File)
	case !ok || first != d.part.size:
		reason = fmt.Sprintf("asked for bytes from %d, got %q", d.part.size, resp.Header.Get("Content-Range"))
	case s.Size >= 0 && total >= 0 && total != s.Size:
		reason = fmt.Sprintf("the file had %d bytes and now has %d", s.Size, total)
	case changed(s.ETag, said.etag), changed(s.Linked, said.linked), changed(s.SHA256, said.sha256):
		reason = "the file was changed on the server"
	}
	if reason != "" {
		d.resumed = 0
		if err := d.part.clear(); err != nil {
			return 0, err
		}
		return 0, restart("%s", reason)
	}
	if total >= 0 {
		return total, nil
	}
	if s.Size >= 0 {
		return s.Size, nil
	}
	return last + 1, nil
}

func changed(before, now string) bool {
	return before != "" && now != "" && !strings.EqualFold(before, now)
}

// beyondEnd deals with a server that has nothing after the part's end: the part is whole already, or of no use.
func (d *download) beyondEnd(resp *http.Response, said answer, own bool) error {
	if resp.Request.Header.Get("Range") == "" {
		return statusError(resp, d.entry, own, d.o.Token != "", time.Now())
	}
	_, _, total, ok := contentRange(resp.Header.Get("Content-Range"))
	s := d.part.state
	if ok && total == d.part.size && !changed(s.ETag, said.etag) && !changed(s.Linked, said.linked) && !changed(s.SHA256, said.sha256) {
		d.report(Downloading)(total, total)
		return nil
	}
	size := d.part.size
	d.resumed = 0
	if err := d.part.clear(); err != nil {
		return err
	}
	return restart("the part of %d bytes does not belong to the server's file", size)
}

// sameSize reports whether dest is there with this size, so that comparing hashes is worth the reading.
func (d *download) sameSize(size int64) bool {
	info, err := os.Stat(d.dest)
	return err == nil && info.Size() == size
}

// space checks that the rest of the file fits the disk, before it is downloaded. What the part has
// is on the disk already, or makes room when it is emptied.
func (d *download) space(whole int64) error {
	if whole < 0 {
		return nil
	}
	more := whole - d.part.size
	free, err := d.o.free(d.o.Dir)
	if err != nil {
		d.o.Logger.Debug("free disk space unknown", "dir", d.o.Dir, "error", err)
		return nil
	}
	if more+spareSpace > free {
		return fmt.Errorf("%w: %s needs %d more MB in %q, %d MB are free", ErrDiskSpace, d.entry.File, (more+spareSpace)/1e6, d.o.Dir, free/1e6)
	}
	return nil
}

// take writes the body to the part until the file is whole.
func (d *download) take(ctx context.Context, body io.Reader, whole int64, stall *time.Timer) error {
	report := d.report(Downloading)
	report(d.part.size, whole)
	buf := make([]byte, copyBytes)
	for {
		stall.Reset(d.o.StallTimeout)
		n, err := body.Read(buf)
		stall.Stop() // a slow disk is not a slow server
		if whole >= 0 && d.part.size+int64(n) > whole {
			size := d.part.size + int64(n)
			if err := d.part.clear(); err != nil {
				return err
			}
			d.resumed = 0
			return transient("%d bytes arrived of a file of %d", size, whole)
		}
		if n > 0 {
			if _, err := d.part.Write(buf[:n]); err != nil {
				return err
			}
			report(d.part.size, whole)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if errors.Is(context.Cause(ctx), errStalled) {
				return transient("%w for %v after %d bytes", errStalled, d.o.StallTimeout, d.part.size)
			}
			return transient("connection lost after %s bytes: %w", ofWhole(d.part.size, whole), err)
		}
	}
	if whole >= 0 && d.part.size < whole {
		return transient("connection ended after %s bytes", ofWhole(d.part.size, whole))
	}
	report(d.part.size, d.part.size)
	return nil
}

// ofWhole is "5 of 9", or "5" where the whole is not known.
func ofWhole(size, whole int64) string {
	if whole < 0 {
		return strconv.FormatInt(size, 10)
	}
	return fmt.Sprintf("%d of %d", size, whole)
}
