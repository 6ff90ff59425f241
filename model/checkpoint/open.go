package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Open opens a checkpoint of either format, told by its content and not by its name: the result is a
// [*Safetensors] or a [*Torch]. Errors name the file and, where it is something else that often lies in a
// checkpoint's place, what it is.
func Open(path string) (Reader, error) {
	m, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %q: %w", path, err)
	}
	r, err := open(path, m)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("checkpoint %q: %w", path, err), m.close())
	}
	return r, nil
}

func open(path string, m *mapping) (Reader, error) {
	var start []byte
	if err := m.view(func(data []byte) error { start = bytes.Clone(data[:min(len(data), 64)]); return nil }); err != nil {
		return nil, err
	}
	switch {
	case safetensorsStart(start): // first, for its length may begin with the same bytes as another format
	case bytes.HasPrefix(start, []byte("PK\x03\x04")), bytes.HasPrefix(start, []byte("PK\x05\x06")):
		return typed(readTorch(path, m))
	default:
		if err := foreign(start); err != nil {
			return nil, err
		}
	}
	return typed(readSafetensors(path, m))
}

// safetensorsStart says whether a file begins with a plausible length and a brace. No zip file and no
// pickle does.
func safetensorsStart(start []byte) bool {
	return len(start) > 8 && start[8] == '{' && binary.LittleEndian.Uint64(start) <= maxHeader
}

// typed keeps a nil pointer from becoming a non-nil Reader.
func typed[T Reader](r T, err error) (Reader, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// foreign recognises files that are no checkpoint this package reads.
func foreign(start []byte) error {
	has := func(prefix string) bool { return bytes.HasPrefix(start, []byte(prefix)) }
	switch {
	case len(start) == 0:
		return errors.New("the file is empty")
	case has("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"):
		return errors.New("written by torch.save before PyTorch 1.6, or with its zip format switched off; " +
			"re-save it: torch.save(torch.load(FILE, map_location='cpu'), NEW)")
	case has("\x80\x02"), has("\x80\x03"), has("\x80\x04"), has("\x80\x05"):
		return errors.New("a bare pickle, not a zip file as torch.save writes it; re-save the weights with torch.save or as safetensors")
	case has("version https://git-lfs"):
		return errors.New("a Git LFS pointer, not the checkpoint itself; fetch it with: git lfs pull")
	case has("<!DOCTYPE"), has("<!doctype"), has("<html"), has("<HTML"):
		return errors.New("a web page, not a checkpoint; the download went wrong")
	case has("GGUF"):
		return errors.New("a GGUF file; only safetensors and torch checkpoints are read")
	case has("\x89HDF"):
		return errors.New("an HDF5 file; only safetensors and torch checkpoints are read")
	}
	return nil
}
