package texttower

import (
	"path/filepath"

	"github.com/toklip/toklip/model/textcache"
	"github.com/toklip/toklip/trt/enginecache"
)

// NoCache, in place of a cache's folder, means that embeddings are not kept.
const NoCache = "none"

// OpenCache opens the cache of text embeddings in a folder. Empty means the folder text beside that of engines: in the service's
// CacheDirectory under systemd, else in the user's cache. The cache of [NoCache] is nil.
func OpenCache(dir string) (*textcache.Cache, error) {
	switch dir {
	case NoCache:
		return nil, nil
	case "":
		dir = filepath.Join(filepath.Dir(enginecache.DefaultDir()), "text")
	}
	return textcache.Open(dir, textcache.Options{})
}
