// Package pull downloads published checkpoints: resumed after any interruption, verified, and only
// after their license was accepted.
//
// [Find] turns a name into an [Entry], which holds source and license for the user to see; [Pull]
// downloads it:
//
//	entry, err := pull.Find("TokLIP_S_256")
//	...
//	result, err := pull.Pull(ctx, entry, pull.Options{Dir: dir, AcceptLicense: yes, Progress: show})
//
// While it is not whole, a file FILE is called FILE.part, and FILE.part.json beside it says what it
// is a part of. Both stay when a pull is cancelled or gives up; the next one goes on from there if the
// server still has the same file (its ETag tells). FILE appears in one step, whole, hashed and on
// the disk. Its SHA-256 is compared with the catalogue's, else with the one that the server announces
// for large files; [Result.Verified] says which, or that nothing was there to compare with.
//
// Connections that drop or stall and servers that are overloaded are tried again with growing
// pauses. Proxies are taken from the environment (HTTPS_PROXY, NO_PROXY).
package pull

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Options say how to pull. The zero value of every field but Dir and AcceptLicense is a sensible default.
type Options struct {
	Dir           string         // folder to write to, made if missing; empty: the current one
	AcceptLicense bool           // the user has accepted the entry's license
	Endpoint      string         // http or https address; empty: [DefaultEndpoint]
	Token         string         // access token, sent to the endpoint's host alone and only over https or to this machine
	Progress      func(Progress) // called on the goroutine of Pull, ten times a second at most beside first and last; may be nil
	Logger        *slog.Logger   // told of retries; nil: nobody

	Retries      int           // tries after the first without progress to speak of; 0: 8, negative: none
	Backoff      time.Duration // pause before the first retry, doubled each time; 0: 1 s
	MaxBackoff   time.Duration // longest such pause; 0: 1 min
	StallTimeout time.Duration // a connection without a byte for so long is given up; 0: 1 min

	// For tests.
	transport http.RoundTripper
	free      func(dir string) (int64, error)
}

// Phase is what a pull is doing.
type Phase uint8

// The phases.
const (
	Downloading Phase = iota // bytes arrive
	Checking                 // bytes that were there already are hashed
)

// Progress is how far a pull is. Done can fall when a download has to start over.
type Progress struct {
	Phase       Phase
	Done, Total int64 // bytes; Total is -1 while unknown
}

// Verification is what a file's hash was compared with.
type Verification uint8

// The kinds of verification.
const (
	NotVerified Verification = iota // nothing to compare with
	ByServer                        // the SHA-256 announced by the server, over its own connection
	ByCatalogue                     // the SHA-256 in the entry
)

// String says it in words.
func (v Verification) String() string {
	switch v {
	case ByServer:
		return "SHA-256 as the server announced"
	case ByCatalogue:
		return "SHA-256 as in the catalogue"
	}
	return "not verified: neither catalogue nor server tell a SHA-256"
}

// Result is a file that was pulled.
type Result struct {
	Path     string
	Size     int64        // bytes
	SHA256   string       // hexadecimal, of the file on the disk
	Verified Verification // what SHA256 was compared with
	Source   string       // URL asked for, before any redirect
	Commit   string       // of the repository, if the server told; empty otherwise
	Resumed  int64        // bytes taken over from an earlier pull
	Existing bool         // the file was there already, whole; nothing was downloaded
}

const (
	// Without any answer so far the network is more likely down than flaky.
	retriesUnanswered = 3
	// A file that changes this often during one pull will not come to rest.
	maxRestarts = 5
)

// Pull downloads the file of an entry into o.Dir. It returns when the file is whole, verified and on
// the disk, when ctx ends, or when trying further is no use; after the latter two what has arrived is
// kept for the next call, except after a [ChecksumError]. See the Err variables for the errors to tell
// apart. Several pulls at once are fine; of the same file into the same folder the second gets [ErrBusy].
func Pull(ctx context.Context, e Entry, o Options) (Result, error) {
	if err := e.check(); err != nil {
		return Result{}, fmt.Errorf("pull %q: %w", e.Name, err)
	}
	if !o.AcceptLicense {
		return Result{}, &LicenseError{Entry: e}
	}
	endpoint, err := o.complete()
	if err != nil {
		return Result{}, fmt.Errorf("pull %q: %w", e.Name, err)
	}
	r, err := pull(ctx, e, o, endpoint)
	if err != nil {
		return Result{}, fmt.Errorf("pull %q: %w", e.Name, err)
	}
	return r, nil
}

// complete fills in the defaults.
func (o *Options) complete() (*url.URL, error) {
	if o.Endpoint == "" {
		o.Endpoint = DefaultEndpoint
	}
	if o.Dir == "" {
		o.Dir = "."
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Retries == 0 {
		o.Retries = 8
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{{&o.Backoff, time.Second}, {&o.MaxBackoff, time.Minute}, {&o.StallTimeout, time.Minute}} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	if o.free == nil {
		o.free = freeSpace
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("endpoint %q is not an address such as %s", o.Endpoint, DefaultEndpoint)
	}
	if o.Token != "" && u.Scheme == "http" && !loopback(u.Hostname()) {
		o.Logger.Warn("access token not sent: the endpoint is not encrypted", "endpoint", o.Endpoint)
		o.Token = ""
	}
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func pull(ctx context.Context, e Entry, o Options, endpoint *url.URL) (_ Result, err error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return Result{}, err
	}
	d := &download{
		entry: e, o: o, endpoint: endpoint, url: e.URL(o.Endpoint),
		dest: filepath.Join(o.Dir, e.BaseName()),
	}
	if info, err := os.Stat(d.dest); err == nil && !info.Mode().IsRegular() {
		return Result{}, fmt.Errorf("%q is in the way: not a regular file", d.dest)
	}
	if e.SHA256 != "" { // needs no server
		if done, err := d.existing(ctx, e.SHA256); err != nil || done {
			return d.result(ByCatalogue), err
		}
	}
	if d.part, err = openPart(d.dest); err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, d.part.close()) }()
	if err := d.part.takeOver(ctx, d.url, e.SHA256, d.report(Checking)); err != nil {
		return Result{}, fmt.Errorf("read %q again: %w", d.dest+partEnding, err)
	}
	d.resumed = d.part.size

	transport := o.transport
	if transport == nil {
		t := newTransport(o.StallTimeout)
		defer t.CloseIdleConnections()
		transport = t
	}
	d.transport = transport
	if err := d.untilWhole(ctx); err != nil {
		if d.part.size > 0 {
			return Result{}, fmt.Errorf("%w (%d bytes are kept in %q; the next pull goes on from there)", err, d.part.size, d.dest+partEnding)
		}
		return Result{}, err
	}
	if d.found {
		return d.result(ByServer), d.part.discard()
	}
	return d.settle()
}

// settle verifies the whole part and gives it its name.
func (d *download) settle() (Result, error) {
	want, by := d.wanted()
	d.sha256, d.size = d.part.hex(), d.part.size
	if want != "" && want != d.sha256 {
		err := &ChecksumError{Name: d.entry.Name, Want: want, Got: d.sha256, By: by}
		return Result{}, errors.Join(err, d.part.discard())
	}
	d.commit = d.part.state.Commit
	if err := d.part.finish(); err != nil {
		return Result{}, err
	}
	return d.result(by), nil
}

// newTransport is Go's usual one, proxies by the environment among it, with a bound on the wait for an
// answer. Compression is off: a length and a range of compressed bytes would mean something else.
func newTransport(wait time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: wait,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true,
	}
}
