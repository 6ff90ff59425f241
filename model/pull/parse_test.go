package pull

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCatalogue(t *testing.T) {
	for _, e := range Catalogue() {
		if err := e.check(); err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		if e.License.Name == "" || e.License.Summary == "" || !strings.HasPrefix(e.License.URL, "https://") || !strings.HasPrefix(e.Source, "https://") {
			t.Errorf("%s: source %q, license %+v", e.Name, e.Source, e.License)
		}
		if found, err := Find(strings.ToLower(e.Name)); err != nil || found != e {
			t.Errorf("%s: found %+v, %v", e.Name, found, err)
		}
	}
	s, err := Find("TokLIP_S_256")
	if err != nil || s.URL(DefaultEndpoint+"/") != "https://huggingface.co/TencentARC/TokLIP/resolve/main/TokLIP_S_256.pt" || s.ImageSize != 256 ||
		!strings.Contains(s.License.Summary, "not intended for use within the European Union") {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestFind(t *testing.T) {
	e, err := Find("owner/re.po@refs/pr/1:a b/c#d.pt")
	if err != nil || e.Revision != "refs/pr/1" || e.URL("http://x") != "http://x/owner/re.po/resolve/refs%2Fpr%2F1/a%20b/c%23d.pt" || e.BaseName() != "c#d.pt" {
		t.Errorf("%+v, %s, %v", e, e.URL("http://x"), err)
	}
	for name, text := range map[string]string{
		"nonsense":            "TokLIP_S_256, TokLIP_L_384, vq_ds16_t2i, or owner/repository:file",
		"":                    "unknown model",
		"owner:file":          "owner/name",
		"a/b/c:file":          "owner/name",
		"../b:file":           "owner/name",
		"a/b:":                "not a path inside",
		"a/b:/etc/passwd":     "not a path inside",
		"a/b:x/../y":          "not a path inside",
		"a/b:x\ny":            "not a path inside",
		"a/b@:x":              "no revision after",
		"a/b@..:x":            "not a branch",
		"a/b:x/" + long(201):  "more than 200 bytes",
		"https://a.b/c/d:e.f": "owner/name",
	} {
		if e, err := Find(name); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %+v, error %v; want %q", name, e, err, text)
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "99999999999": maxRetryAfter,
		now.Add(9 * time.Second).Format(http.TimeFormat):  9 * time.Second,
		now.Add(-9 * time.Second).Format(http.TimeFormat): 0,
		now.Add(9 * time.Hour).Format(http.TimeFormat):    maxRetryAfter,
	} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	d := &download{o: Options{Backoff: time.Second, MaxBackoff: time.Minute}}
	for failure, want := range map[int]time.Duration{1: time.Second, 3: 4 * time.Second, 6: 32 * time.Second, 7: time.Minute, 500: time.Minute} {
		for range 100 {
			if got := d.backoff(failure); got < want*3/4 || got > want*5/4 {
				t.Fatalf("failure %d: %v, want about %v", failure, got, want)
			}
		}
	}
	patient := &download{o: Options{Backoff: time.Hour, MaxBackoff: 24 * time.Hour}}
	if got := patient.backoff(29); got < 18*time.Hour || got > 30*time.Hour { // doubled 28 times it would not fit
		t.Errorf("failure 29, beginning with an hour: %v, want about a day", got)
	}
	if known, unknown := ofWhole(5, 9), ofWhole(5, -1); known != "5 of 9" || unknown != "5" {
		t.Errorf("%q and %q", known, unknown)
	}
}

func TestAnswerHash(t *testing.T) {
	sha := digest([]byte("x"))
	for _, c := range []struct {
		header []string
		want   string
	}{
		{[]string{"X-Linked-Etag", `"` + sha + `"`}, sha},
		{[]string{"Etag", strings.ToUpper(`"` + sha + `"`)}, sha},
		{[]string{"Etag", `W/"` + sha + `"`}, sha},
		{[]string{"Etag", `"` + sha + `"`, "X-Xet-Hash", sha}, ""},
		{[]string{"Etag", `"da39a3ee5e6b4b0d3255bfef95601890afd80709"`}, ""}, // git's own hash of a small file
		{[]string{"X-Linked-Etag", `"` + sha + `"`, "Etag", `"` + digest(nil) + `"`}, sha},
	} {
		h := http.Header{}
		for i := 0; i < len(c.header); i += 2 {
			h.Set(c.header[i], c.header[i+1])
		}
		a := answer{size: -1}
		if a.note(h); a.sha256 != c.want {
			t.Errorf("%v: %q, want %q", c.header, a.sha256, c.want)
		}
	}
}

// FuzzFind holds that whatever is accepted stays inside its repository's URL and inside the folder written to.
func FuzzFind(f *testing.F) {
	for _, s := range []string{"TokLIP_S_256", "owner/repo:file", "o/r@v1:a/b c.pt", "a/b:../x", "a/b@refs/pr/1:x?y#z%2f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		e, err := Find(name)
		if err != nil {
			if e != (Entry{}) {
				t.Fatalf("%+v beside the error %v", e, err)
			}
			return
		}
		u, err := url.Parse(e.URL("https://host"))
		if err != nil || u.Host != "host" || u.RawQuery != "" || u.Fragment != "" || u.Path != "/"+e.Repo+"/resolve/"+e.revision()+"/"+e.File {
			t.Fatalf("%q became %v, %v", name, u, err)
		}
		if dest := filepath.Join("dir", e.BaseName()); filepath.Dir(dest) != "dir" {
			t.Fatalf("%q would be written to %q", name, dest)
		}
	})
}

// FuzzContentRange holds that an accepted range is one, and that its canonical form reads the same.
func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "items 0-9/10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, ok := contentRange(s)
		if !ok {
			return
		}
		if first == -1 {
			if last != -1 || total < 0 {
				t.Fatalf("%q: %d-%d/%d", s, first, last, total)
			}
		} else if first < 0 || last < first || total >= 0 && total <= last {
			t.Fatalf("%q: %d-%d/%d", s, first, last, total)
		}
	})
}

// FuzzState holds that an accepted state survives writing, and carries no tag that a header could not.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"url":"u","etag":"\"e\"","size":3}`))
	f.Add([]byte(`{"url":"u","sha256":"00","size":-2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState(b)
		if err != nil {
			if s != (state{}) {
				t.Fatalf("%+v beside the error %v", s, err)
			}
			return
		}
		if s.ETag != "" {
			r, err := http.NewRequest(http.MethodGet, "http://x", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("If-Range", s.ETag)
			var w strings.Builder
			if err := r.Write(&w); err != nil || strings.Count(w.String(), "\r\n") != 5 {
				t.Fatalf("tag %q makes the request %q, %v", s.ETag, w.String(), err)
			}
		}
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseState(out)
		if err != nil || again != s {
			t.Fatalf("%+v came back as %+v, %v", s, again, err)
		}
	})
}
