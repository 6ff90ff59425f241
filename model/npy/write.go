package npy

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

// WriteFloat32 writes data, of the given shape in C order, as a float32 .npy file at path. The file
// is written under another name in the same folder and renamed, so that readers see the old file or the
// whole new one, and an error leaves the old. It is not forced to the disk: a power cut may lose it.
func WriteFloat32(path string, shape []int, data []float32) error {
	if err := checkShape(shape, len(data), Float32); err != nil {
		return fmt.Errorf("write array %q: %w", path, err)
	}
	return replaceFile(path, func(f *os.File) error { return encodeFloat32(f, shape, data) })
}

func encodeFloat32(w io.Writer, shape []int, data []float32) error {
	if _, err := w.Write(formatHeader(Float32, shape)); err != nil {
		return err
	}
	buf := make([]byte, 0, min(4*len(data), scratchBytes))
	for len(data) > 0 {
		n := min(len(data), cap(buf)/4)
		buf = buf[:0]
		for _, v := range data[:n] {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// replaceFile has write fill a new file that then takes the place of path.
func replaceFile(path string, write func(*os.File) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write array %q: %w", path, err)
		}
	}()
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil { // CreateTemp keeps files to their owner
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
