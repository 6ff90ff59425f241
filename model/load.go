package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
)

// ErrCorrupt is wrapped by errors about a folder whose files do not match its manifest.
var ErrCorrupt = errors.New("model folder is damaged")

// Load reads the manifest of a model folder and checks that the folder is complete: no unknown key, a
// format version this program knows, sensible values, every file there with the size it should have.
// Contents are compared by [Manifest.Verify].
func Load(dir string) (*Manifest, error) {
	path := filepath.Join(dir, ManifestFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load model %q: it has no %s; a model folder is made by: toklip model import CHECKPOINT --out %s: %w",
			dir, ManifestFile, dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("load model %q: %w", dir, err)
	}
	m, err := parseManifest(string(text))
	if err != nil {
		return nil, fmt.Errorf("load model %q: %s: %w", dir, ManifestFile, err)
	}
	for _, f := range m.Files() {
		info, err := os.Stat(f.Path(dir))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("load model %q: %w: file %q is missing; import the checkpoint again", dir, ErrCorrupt, f.Name)
		case err != nil:
			return nil, fmt.Errorf("load model %q: %w", dir, err)
		case info.Size() != f.Size:
			return nil, fmt.Errorf("load model %q: %w: file %q has %d bytes, %s says %d; import the checkpoint again",
				dir, ErrCorrupt, f.Name, info.Size(), ManifestFile, f.Size)
		}
	}
	return m, nil
}

// parseManifest decodes a manifest strictly.
func parseManifest(text string) (*Manifest, error) {
	// The version comes first: a newer manifest should be called newer, not faulty.
	var version struct {
		FormatVersion *int `toml:"format_version"`
	}
	if _, err := toml.Decode(text, &version); err != nil {
		return nil, describeTOML(err)
	}
	switch {
	case version.FormatVersion == nil:
		return nil, errors.New(`key "format_version" is missing`)
	case *version.FormatVersion > FormatVersion:
		return nil, fmt.Errorf("format_version = %d: this program reads up to %d; use a newer toklip or import the checkpoint again",
			*version.FormatVersion, FormatVersion)
	}
	m := &Manifest{}
	meta, err := toml.Decode(text, m)
	if err != nil {
		return nil, describeTOML(err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("unknown key %q", unknown[0])
	}
	return m, m.validate()
}

func describeTOML(err error) error {
	var p toml.ParseError
	if errors.As(err, &p) {
		return fmt.Errorf("line %d: %s", p.Position.Line, p.Message)
	}
	return err
}

// validate finds values that no importer writes.
func (m *Manifest) validate() error {
	// The bounds are far above any model's, and far below where products of a few of them would overflow.
	const large, larger = 1 << 14, 1 << 20
	numbers := []struct {
		key   string
		value int
		most  int
	}{
		{"format_version", m.FormatVersion, FormatVersion},
		{"image.size", m.Image.Size, 1 << 12}, {"tokens.rows", m.Tokens.Rows, large}, {"tokens.cols", m.Tokens.Cols, large},
		{"tokens.codebook", m.Tokens.Codebook, larger}, {"tokens.codebook_dim", m.Tokens.CodebookDim, large}, {"tokens.bits", m.Tokens.Bits, 32},
		{"encoder.feature_dim", m.Encoder.FeatureDim, large}, {"encoder.embedding_dim", m.Encoder.EmbeddingDim, large},
		{"encoder.depth", m.Encoder.Depth, large}, {"encoder.heads", m.Encoder.Heads, large},
	}
	for _, n := range numbers {
		if n.value < 1 {
			return fmt.Errorf("%s = %d: must be at least 1", n.key, n.value)
		}
		if n.value > n.most {
			return fmt.Errorf("%s = %d: must be at most %d", n.key, n.value, n.most)
		}
	}
	if m.Tokens.Bits != bitsFor(m.Tokens.Codebook) {
		return fmt.Errorf("tokens.bits = %d: a codebook of %d entries takes %d", m.Tokens.Bits, m.Tokens.Codebook, bitsFor(m.Tokens.Codebook))
	}
	switch m.Image.Resize {
	case "squash", "shortest", "longest":
	default:
		return fmt.Errorf(`image.resize = %q: must be "squash", "shortest" or "longest"`, m.Image.Resize)
	}
	for i, s := range m.Image.Std {
		if !(s > 0) || math.IsInf(s, 0) { // NaN too
			return fmt.Errorf("image.std[%d] = %v: must be above 0", i, s)
		}
		if v := m.Image.Mean[i]; math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("image.mean[%d] = %v: must be a number", i, v)
		}
	}
	for _, h := range []struct{ key, value string }{
		{"model_hash", m.ModelHash}, {"codebook_hash", m.CodebookHash}, {"embedding_space", m.EmbeddingSpace},
	} {
		if h.value == "" {
			return fmt.Errorf("key %q is missing", h.key)
		}
	}
	if len(m.Graphs) == 0 {
		return errors.New("no [[graph]] is listed")
	}
	if err := m.validateText(); err != nil {
		return err
	}
	for _, f := range m.Files() {
		if f.Name == "" || f.Name != filepath.Base(f.Name) || strings.HasPrefix(f.Name, ".") {
			return fmt.Errorf("file %q: must be the name of a file in the model folder", f.Name)
		}
	}
	return nil
}

// Files lists every file of the folder but the manifest, each once.
func (m *Manifest) Files() []File {
	var out []File
	seen := map[string]bool{}
	add := func(f File) {
		if !seen[f.Name] {
			seen[f.Name] = true
			out = append(out, f)
		}
	}
	for _, g := range m.Graphs {
		add(g.File)
		for _, d := range g.Data {
			add(d)
		}
	}
	if m.Text.Tokenizer != nil {
		add(*m.Text.Tokenizer)
	}
	if m.Codebook != nil {
		add(*m.Codebook)
	}
	if m.Reference != nil {
		add(m.Reference.File)
	}
	return out
}

// Verify compares every file of the folder with the manifest's hashes. It reads all weights (a second for
// two gigabytes); progress, which may be nil, gets bytes done and bytes in all. An error that wraps
// [ErrCorrupt] names the first file that differs.
func (m *Manifest) Verify(ctx context.Context, dir string, progress func(done, total int64)) error {
	var done, total int64
	for _, f := range m.Files() {
		total += f.Size
	}
	for _, f := range m.Files() {
		sum, err := hashFile(ctx, f.Path(dir), func(n int64) {
			done += n
			if progress != nil {
				progress(done, total)
			}
		})
		if err != nil {
			return err
		}
		if sum != f.SHA256 {
			return fmt.Errorf("verify model %q: %w: file %q has SHA-256 %s, %s says %s; import the checkpoint again",
				dir, ErrCorrupt, f.Name, sum, ManifestFile, f.SHA256)
		}
	}
	return nil
}

// write stores the manifest in dir, which has none.
func (m *Manifest) write(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, ManifestFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return m.encode(f)
}

// replace puts the manifest in the place of the one in dir, in one step that a power cut does not undo half.
func (m *Manifest) replace(dir string) error {
	if err := m.validate(); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	f, err := os.CreateTemp(dir, "."+ManifestFile+".*")
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	defer os.Remove(f.Name()) // fails once the file has its name
	if err := f.Chmod(0o644); err != nil {
		return errors.Join(fmt.Errorf("write manifest: %w", err), f.Close())
	}
	if err := m.encode(f); err != nil {
		return err
	}
	// The files that the manifest names must have their names before it has its own.
	if err := syncFolder(dir); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, ManifestFile)); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := syncFolder(dir); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// encode writes the manifest into a file, which it makes durable and closes.
func (m *Manifest) encode(f *os.File) error {
	_, err := f.WriteString("# Written by toklip model import. Hashes bind it to the files beside it; change nothing by hand.\n")
	if err == nil {
		e := toml.NewEncoder(f)
		e.Indent = ""
		err = e.Encode(m)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}
