package pull

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// DefaultEndpoint is where published checkpoints live.
const DefaultEndpoint = "https://huggingface.co"

// DefaultRevision is what a name without a revision means.
const DefaultRevision = "main"

// Entry is one file that can be pulled. Entries are plain values.
type Entry struct {
	Name      string  // in the catalogue; owner/repo:file for others
	Repo      string  // owner/repository
	Revision  string  // branch, tag or commit; empty: [DefaultRevision]
	File      string  // path inside the repository
	SHA256    string  // hexadecimal, of the published file; empty where it is not known
	ImageSize int     // edge of the images the model sees, pixels; 0 where it is not fixed or not known
	Source    string  // page where the file is published
	License   License // terms of the file
}

// License names the terms of a file. The texts are the publisher's; read them at URL.
type License struct {
	Name    string // empty: not known to this program
	Summary string // what a user has to know before accepting, in a sentence or two
	URL     string // the full text
}

// Catalogue returns the files known by name. No hashes of them were known when it was written, so
// that they are verified against what the server announces.
func Catalogue() []Entry {
	toklip := License{
		Name: "License Terms of TokLIP (Tencent)",
		Summary: "Tencent's own terms for code, parameters and weights. They say that TokLIP is not intended for use within the European Union. " +
			"Parts of it come under terms of their own (SigLIP 2: Apache-2.0, LlamaGen's VQ tokenizer: MIT).",
		URL: "https://github.com/TencentARC/TokLIP/blob/main/LICENSE",
	}
	return []Entry{
		{
			Name: "TokLIP_S_256", Repo: "TencentARC/TokLIP", Revision: DefaultRevision, File: "TokLIP_S_256.pt", ImageSize: 256,
			Source: DefaultEndpoint + "/TencentARC/TokLIP", License: toklip,
		},
		{
			Name: "TokLIP_L_384", Repo: "TencentARC/TokLIP", Revision: DefaultRevision, File: "TokLIP_L_384.pt", ImageSize: 384,
			Source: DefaultEndpoint + "/TencentARC/TokLIP", License: toklip,
		},
		{
			// Fully convolutional: any multiple of 16 pixels.
			Name: "vq_ds16_t2i", Repo: "peizesun/llamagen_t2i", Revision: DefaultRevision, File: "vq_ds16_t2i.pt",
			Source: DefaultEndpoint + "/peizesun/llamagen_t2i",
			License: License{
				Name:    "MIT",
				Summary: "LlamaGen's VQ tokenizer: free to use, change and distribute as long as the copyright notice stays with it.",
				URL:     "https://github.com/FoundationVision/LlamaGen/blob/main/LICENSE",
			},
		},
	}
}

// Find returns the entry of the catalogue called name, in any case, or the one that a free name
// owner/repository[@revision]:path/to/file describes. An unknown name is an error that lists the known ones.
func Find(name string) (Entry, error) {
	known := make([]string, 0, 3)
	for _, e := range Catalogue() {
		if strings.EqualFold(e.Name, name) {
			return e, nil
		}
		known = append(known, e.Name)
	}
	repo, file, ok := strings.Cut(name, ":")
	if !ok {
		return Entry{}, fmt.Errorf("unknown model %q: give one of %s, or owner/repository:file", name, strings.Join(known, ", "))
	}
	repo, revision, tagged := strings.Cut(repo, "@")
	if !tagged {
		revision = DefaultRevision
	} else if revision == "" {
		return Entry{}, fmt.Errorf("model %q: no revision after '@'; give a branch, tag or commit, or leave the '@' out", name)
	}
	e := Entry{Name: name, Repo: repo, Revision: revision, File: file, Source: DefaultEndpoint + "/" + repo}
	if err := e.check(); err != nil {
		return Entry{}, fmt.Errorf("model %q: %w; the form is owner/repository[@revision]:path/to/file", name, err)
	}
	e.License.URL = e.Source
	return e, nil
}

// URL is where the file is downloaded from, below an endpoint such as [DefaultEndpoint].
func (e Entry) URL(endpoint string) string {
	segments := strings.Split(e.File, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return strings.TrimRight(endpoint, "/") + "/" + e.Repo + "/resolve/" + url.PathEscape(e.revision()) + "/" + strings.Join(segments, "/")
}

func (e Entry) revision() string {
	if e.Revision == "" {
		return DefaultRevision
	}
	return e.Revision
}

// BaseName is the name the file takes on this machine.
func (e Entry) BaseName() string { return path.Base(e.File) }

// check refuses what would lead out of a repository's URL or out of the folder written to.
func (e Entry) check() error {
	owner, repo, ok := strings.Cut(e.Repo, "/")
	if !ok || !plainName(owner) || !plainName(repo) {
		return fmt.Errorf("repository %q is not owner/name of letters, digits, '-', '_' and '.'", e.Repo)
	}
	for _, s := range strings.Split(e.revision(), "/") {
		if !plainName(s) {
			return fmt.Errorf("revision %q is not a branch, tag or commit", e.Revision)
		}
	}
	for _, s := range strings.Split(e.File, "/") {
		if s == "" || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == '\ufffd' }) {
			return fmt.Errorf("file %q is not a path inside the repository", e.File)
		}
	}
	if len(e.BaseName()) > 200 { // leaves room for .part.json within a name's 255 bytes
		return fmt.Errorf("file name %q has more than 200 bytes", e.BaseName())
	}
	if e.SHA256 != "" && !isSHA256(e.SHA256) {
		return fmt.Errorf("SHA-256 %q is not 64 hexadecimal digits", e.SHA256)
	}
	return nil
}

// plainName reports whether s can stand in a URL and in a message as it is.
func plainName(s string) bool {
	if s == "" || len(s) > 100 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// isSHA256 reports whether s is 64 hexadecimal digits.
func isSHA256(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 64
}
