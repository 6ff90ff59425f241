package checkpoint

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Torch is a checkpoint as torch.save writes it since PyTorch 1.6: a zip file of one pickle, which describes
// the tensors, and one stored file for each block of values.
//
// The pickle is read by a machine that knows tensors, storages and plain values; whatever else it names is
// refused with an error that names it, and nothing is executed. The tensors are those of the first dictionary
// that holds any, among the values of "ema", "model" and "state_dict" (the order of LlamaGen's loaders) and the
// top level itself. Numbers, strings and optimizer states beside them are skipped. "module." and "_orig_mod."
// are taken off if all names carry them.
//
// The zip file's checksum of the pickle is verified; those of the values are not, because that would read
// the whole file.
type Torch struct{ store }

var _ Reader = (*Torch)(nil)

func readTorch(path string, m *mapping) (*Torch, error) {
	var entries []entry
	err := m.view(func(data []byte) error {
		var err error
		entries, err = parseTorch(data)
		m.used(residentBytes) // the directory lies all over the file
		return err
	})
	if err != nil {
		return nil, err
	}
	s, err := newStore(path, m, entries)
	if err != nil {
		return nil, err
	}
	return &Torch{*s}, nil
}

// parseTorch lists the tensors of a whole torch file, in the order of the dictionary.
func parseTorch(file []byte) ([]entry, error) {
	z, err := openArchive(file)
	if err != nil {
		return nil, err
	}
	if order, err := z.text("byteorder"); err != nil {
		return nil, err
	} else if order != "" && order != "little" {
		return nil, fmt.Errorf("written on a machine of byte order %q; only little is read", order)
	}
	pickle, err := z.read(z.prefix+"data.pkl", maxPickle)
	if err != nil {
		return nil, err
	}
	root, err := unpickle(pickle)
	if err != nil {
		return nil, err
	}
	weights, err := unwrap(root)
	if err != nil {
		return nil, err
	}
	var out []entry
	for i, key := range weights.keys {
		name, ok := key.(string)
		t, is := weights.values[i].(*tensor)
		if !ok || !is {
			continue // a counter or a setting beside the weights
		}
		e, err := z.entry(name, t)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		out = append(out, e)
	}
	return out, nil
}

// unwrap finds the dictionary with the weights.
func unwrap(root any) (*pydict, error) {
	top, ok := root.(*pydict)
	if !ok {
		return nil, fmt.Errorf("the pickle holds %s instead of a dictionary of tensors", describe(root))
	}
	for _, key := range []string{"ema", "model", "state_dict"} {
		if d, ok := top.lookup(key).(*pydict); ok && d.hasTensor() {
			return d, nil
		}
	}
	if top.hasTensor() {
		return top, nil
	}
	names := []string{}
	for _, k := range top.keys {
		if s, ok := k.(string); ok && len(names) < 8 {
			names = append(names, s)
		}
	}
	return nil, fmt.Errorf("no tensors at the top level or under ema, model or state_dict; the dictionary has the keys %q", names)
}

func (d *pydict) hasTensor() bool {
	return slices.ContainsFunc(d.values, func(v any) bool { _, ok := v.(*tensor); return ok })
}

// archive is the zip file around the pickle.
type archive struct {
	size   int64
	files  map[string]*zip.File
	prefix string // the folder everything lies in, with its slash
}

func openArchive(file []byte) (*archive, error) {
	r, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if errors.Is(err, zip.ErrFormat) {
		return nil, fmt.Errorf("truncated: no zip directory at the end of the %d bytes", len(file))
	}
	if err != nil {
		return nil, fmt.Errorf("zip directory: %w", err)
	}
	z := &archive{size: int64(len(file)), files: make(map[string]*zip.File, len(r.File))}
	pickles := 0
	for _, f := range r.File {
		if _, twice := z.files[f.Name]; twice {
			return nil, fmt.Errorf("zip directory: %q is there twice", f.Name)
		}
		z.files[f.Name] = f
		if folder, name, ok := strings.Cut(f.Name, "/"); ok && name == "data.pkl" {
			z.prefix = folder + "/"
			pickles++
		}
	}
	if pickles != 1 {
		return nil, fmt.Errorf("a zip file with %d entries of the form NAME/data.pkl; torch.save writes one", pickles)
	}
	if z.files[z.prefix+"constants.pkl"] != nil {
		return nil, errors.New("a TorchScript program, not a checkpoint; save the weights alone: torch.save(model.state_dict(), FILE)")
	}
	return z, nil
}

// text is the trimmed content of a small file; empty if it is not there.
func (z *archive) text(name string) (string, error) {
	if z.files[z.prefix+name] == nil {
		return "", nil
	}
	b, err := z.read(z.prefix+name, 256)
	return strings.TrimSpace(string(b)), err
}

// read is the content of a file of at most limit bytes; its checksum is verified.
func (z *archive) read(name string, limit int64) ([]byte, error) {
	f := z.files[name]
	if f.UncompressedSize64 > uint64(limit) {
		return nil, fmt.Errorf("zip entry %q has %d bytes, more than the %d allowed", name, f.UncompressedSize64, limit)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("zip entry %q: %w", name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("zip entry %q: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("zip entry %q has more than the %d bytes allowed", name, limit)
	}
	return b, nil
}

// entry finds a tensor's values in the file.
func (z *archive) entry(name string, t *tensor) (entry, error) {
	file := z.prefix + "data/" + t.storage.key
	f := z.files[file]
	if f == nil {
		return entry{}, fmt.Errorf("truncated: zip entry %q with its values is missing", file)
	}
	if f.Method != zip.Store {
		return entry{}, fmt.Errorf("zip entry %q is compressed, and only stored values are read; re-save it: "+
			"torch.save(torch.load(FILE, map_location='cpu'), NEW)", file)
	}
	size := t.storage.dtype.Size()
	if have := f.UncompressedSize64; have != uint64(t.storage.count*size) || have != f.CompressedSize64 {
		return entry{}, fmt.Errorf("%d elements of %v need %d bytes, zip entry %q has %d",
			t.storage.count, t.storage.dtype, t.storage.count*size, file, have)
	}
	start, err := f.DataOffset()
	if err != nil {
		return entry{}, fmt.Errorf("zip entry %q: %w", file, err)
	}
	if start < 0 || start > z.size || t.storage.count*size > z.size-start {
		return entry{}, fmt.Errorf("truncated: zip entry %q ends at byte %d, the file has %d", file, start+t.storage.count*size, z.size)
	}
	e := entry{
		info:   Info{Name: name, DType: t.storage.dtype, Shape: t.shape},
		offset: start + t.offset*size,
	}
	if !t.contiguous() {
		e.strides = t.strides
	}
	return e, nil
}
