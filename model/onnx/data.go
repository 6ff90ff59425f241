package onnx

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
)

// Alignment of every tensor in a data file: a page, so that a runtime can map it in place.
const Alignment = 4096

// DataFile is the external data of one or more graphs, written front to back. One goroutine at a time.
type DataFile struct {
	path string
	file *os.File
	buf  *bufio.Writer
	sum  hash.Hash
	size int64
}

// FileInfo is what a finished file came to.
type FileInfo struct {
	Name   string // without folder
	Size   int64  // bytes
	SHA256 string // hexadecimal
}

// CreateData begins a data file; it must not exist.
func CreateData(path string) (*DataFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create weights file: %w", err)
	}
	sum := sha256.New()
	return &DataFile{path: path, file: f, sum: sum, buf: bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)}, nil
}

// Append streams one tensor into the file: fill writes exactly the bytes that type and shape ask for,
// little-endian. The result describes where they went, ready for [Graph.Initializer].
func (d *DataFile) Append(name string, t DType, shape []int64, fill func(io.Writer) error) (Tensor, error) {
	out := Tensor{Name: name, Type: t, Shape: shape, File: filepath.Base(d.path)}
	n, err := out.Elements()
	if err != nil {
		return Tensor{}, err
	}
	out.Length = n * t.Size()
	if pad := -d.size & (Alignment - 1); pad > 0 {
		if _, err := d.buf.Write(make([]byte, pad)); err != nil {
			return Tensor{}, fmt.Errorf("write weights %q: %w", name, err)
		}
		d.size += pad
	}
	out.Offset = d.size
	w := &countingWriter{w: d.buf}
	if err := fill(w); err != nil {
		return Tensor{}, fmt.Errorf("write weights %q: %w", name, err)
	}
	d.size += w.n
	if w.n != out.Length {
		return Tensor{}, fmt.Errorf("write weights %q: %d bytes came for %s%v, which takes %d", name, w.n, t, shape, out.Length)
	}
	return out, nil
}

// Close writes what is left, makes it durable and says what the file came to. After an error the
// file is of no use; removing it is the caller's business.
func (d *DataFile) Close() (FileInfo, error) {
	err := d.buf.Flush()
	if err == nil {
		err = d.file.Sync()
	}
	if err = errors.Join(err, d.file.Close()); err != nil {
		return FileInfo{}, fmt.Errorf("finish weights file: %w", err)
	}
	return FileInfo{Name: filepath.Base(d.path), Size: d.size, SHA256: hex.EncodeToString(d.sum.Sum(nil))}, nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
