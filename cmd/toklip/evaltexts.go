package main

import (
	"io"

	"github.com/toklip/toklip/cmd/toklip/texttower"
)

// openTexts makes ready to embed texts; the tower is loaded at the first that is not cached.
func (f *backendFlags) openTexts(opened *openedModel, stderr io.Writer) (*texttower.Direct, error) {
	cache, err := texttower.OpenCache("")
	if err != nil {
		return nil, err
	}
	return texttower.NewDirect(texttower.Options{
		Dir: opened.dir, Manifest: opened.manifest, Cache: cache, Library: f.library, Threads: f.threads, Logger: warnings(stderr),
	})
}
