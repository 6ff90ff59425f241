package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/texttower"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/textcache"
)

// textFlags are the flags of commands that embed texts, beside those that say which model and library.
type textFlags struct{ cache string }

func (f *textFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.cache, "text-cache", "", "`folder` that keeps embeddings of texts, so that the text tower runs for each once; by default in the user's cache, "+texttower.NoCache+": nothing is kept")
	_ = cmd.MarkFlagDirname("text-cache")
}

// open makes ready to embed texts; the tower is loaded at the first that is not kept.
func (f *textFlags) open(dir string, manifest *model.Manifest, library string, threads int, stderr io.Writer) (*texttower.Direct, error) {
	cache, err := texttower.OpenCache(f.cache)
	if err != nil {
		if f.cache != "" {
			return nil, fmt.Errorf("--text-cache: %w", err)
		}
		fmt.Fprintf(stderr, "note: embeddings of texts are not kept: %v\n", err)
	}
	return openTexts(dir, manifest, cache, library, threads, stderr)
}

// openTexts makes ready to embed texts, which are kept in a cache or, if that is nil, nowhere.
func openTexts(dir string, manifest *model.Manifest, cache *textcache.Cache, library string, threads int, stderr io.Writer) (*texttower.Direct, error) {
	return texttower.NewDirect(texttower.Options{Dir: dir, Manifest: manifest, Cache: cache, Library: library, Threads: threads, Logger: warnings(stderr)})
}
