package pull

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrLicenseNotAccepted is what a [LicenseError] wraps.
	ErrLicenseNotAccepted = errors.New("license not accepted")
	// ErrChecksum is what a [ChecksumError] wraps.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrNotFound is wrapped where the server has no such repository, revision or file.
	ErrNotFound = errors.New("not found")
	// ErrAccess is wrapped where the server wants a login or an accepted agreement.
	ErrAccess = errors.New("access refused")
	// ErrDiskSpace is wrapped where the file would not fit the disk.
	ErrDiskSpace = errors.New("not enough free disk space")
	// ErrBusy is wrapped where another process pulls the same file into the same folder.
	ErrBusy = errors.New("another download of this file is under way")
)

// LicenseError says that the terms of a file were not accepted. Nothing was downloaded.
type LicenseError struct {
	Entry Entry
}

func (e *LicenseError) Error() string {
	l := e.Entry.License
	if l.Name == "" {
		return fmt.Sprintf("%v: the terms of %s are not known to this program; read them at %s, then accept them", ErrLicenseNotAccepted, e.Entry.Name, l.URL)
	}
	return fmt.Sprintf("%v: %s from %s comes under %s: %s Read %s, then accept it", ErrLicenseNotAccepted, e.Entry.Name, e.Entry.Source, l.Name, l.Summary, l.URL)
}

// Unwrap is [ErrLicenseNotAccepted].
func (e *LicenseError) Unwrap() error { return ErrLicenseNotAccepted }

// ChecksumError says that a file is not the one that was meant.
type ChecksumError struct {
	Name      string
	Want, Got string       // SHA-256, hexadecimal
	By        Verification // where Want comes from
	Announced bool         // Got is what the server announces: nothing was downloaded
}

func (e *ChecksumError) Error() string {
	if e.Announced {
		return fmt.Sprintf("%v: the server announces SHA-256 %s for %s, the catalogue says %s: the published file was changed; nothing was downloaded", ErrChecksum, e.Got, e.Name, e.Want)
	}
	from := "the catalogue says"
	if e.By == ByServer {
		from = "the server announced"
	}
	return fmt.Sprintf("%v: %s has SHA-256 %s, %s %s; the download was removed, try again", ErrChecksum, e.Name, e.Got, from, e.Want)
}

// Unwrap is [ErrChecksum].
func (e *ChecksumError) Unwrap() error { return ErrChecksum }

// transientError is a failure that another try may cure. All others are final.
type transientError struct {
	err     error
	after   time.Duration // the server asked to wait this long
	restart bool          // try again at once: what was kept turned out to be of no use
}

func (e *transientError) Error() string { return e.err.Error() }
func (e *transientError) Unwrap() error { return e.err }

func transient(format string, args ...any) error {
	return &transientError{err: fmt.Errorf(format, args...)}
}

func restart(format string, args ...any) error {
	return &transientError{err: fmt.Errorf(format, args...), restart: true}
}

// statusError words an answer that is no file. own says whether the endpoint itself gave it, and not
// a host that it redirected to: there the address was wrong or expired, and a new one may work.
func statusError(resp *http.Response, e Entry, own, token bool, now time.Time) error {
	code := resp.StatusCode
	reason := resp.Header.Get("X-Error-Code") // such as GatedRepo, RepoNotFound, RevisionNotFound, EntryNotFound
	status := resp.Status
	if reason != "" {
		status += ", " + reason
	}
	host := resp.Request.URL.Host
	switch {
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500:
		return &transientError{err: fmt.Errorf("%s answered %q", host, status), after: retryAfter(resp.Header.Get("Retry-After"), now)}
	case !own:
		return transient("%s, where the download was redirected to, answered %q", host, status)
	case code == http.StatusNotFound, code == http.StatusGone, reason == "RepoNotFound":
		what := fmt.Sprintf("file %q at revision %q of repository %q", e.File, e.revision(), e.Repo)
		if reason == "RepoNotFound" {
			what = fmt.Sprintf("repository %q, or it is private", e.Repo)
		}
		return fmt.Errorf("%w: %s has no %s (it answered %q); look at %s", ErrNotFound, host, what, status, e.Source)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		hint := "set an access token in HF_TOKEN"
		if token {
			hint = "the access token given was not enough"
		}
		return fmt.Errorf("%w: %s answered %q for %s: log in and accept the publisher's conditions at %s; %s", ErrAccess, host, status, e.Repo, e.Source, hint)
	}
	return fmt.Errorf("%s answered %q for %s", host, status, e.Name)
}
