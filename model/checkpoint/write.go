package checkpoint

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf16"
	"unsafe"
)

// writeElements is how many elements pass from a reader to a file at a time.
const writeElements = 1 << 20

// WriteSafetensors writes every tensor of r as float32 in the safetensors format, streamed, a few megabytes
// at a time. The bytes depend on nothing but names, shapes and values: the header is what Python's
// json.dumps writes, padded with spaces to eight bytes. progress, if not nil, is called from the same
// goroutine with bytes done and bytes in all. Cancelling ctx ends it between two pieces.
func WriteSafetensors(ctx context.Context, w io.Writer, r Reader, progress func(done, total int64)) error {
	infos := r.Tensors()
	head, total, err := writeHeader(infos)
	if err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	if _, err := w.Write(head); err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	values := make([]float32, writeElements)
	done := int64(len(head))
	total += done
	for _, info := range infos {
		for at, n := int64(0), info.Len(); at < n; {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("write safetensors: %w", err)
			}
			part := values[:min(n-at, writeElements)]
			if err := r.ReadFloat32(info.Name, part, at); err != nil {
				return fmt.Errorf("write safetensors: %w", err)
			}
			if _, err := w.Write(littleEndian(part)); err != nil {
				return fmt.Errorf("write safetensors: tensor %q: %w", info.Name, err)
			}
			at += int64(len(part))
			done += 4 * int64(len(part))
			if progress != nil {
				progress(done, total)
			}
		}
	}
	return nil
}

// WriteSafetensorsFile is [WriteSafetensors] to a file, which appears complete or not at all.
func WriteSafetensorsFile(ctx context.Context, path string, r Reader, progress func(done, total int64)) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := WriteSafetensors(ctx, f, r, progress); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if err := f.Chmod(0o644); err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	return nil
}

// writeHeader is the length and the padded header, and the number of bytes of all values.
func writeHeader(infos []Info) ([]byte, int64, error) {
	head := append(make([]byte, 8), '{')
	at := int64(0)
	for i, info := range infos {
		if i > 0 {
			head = append(head, ", "...)
		}
		n, err := elements(info.Shape)
		if err != nil {
			return nil, 0, fmt.Errorf("tensor %q: %w", info.Name, err)
		}
		if at > math.MaxInt64-4*n {
			return nil, 0, fmt.Errorf("tensor %q: the file would grow beyond 2^63 bytes", info.Name)
		}
		head = appendJSON(head, info.Name)
		head = append(head, `: {"dtype": "F32", "shape": [`...)
		for d, size := range info.Shape {
			if d > 0 {
				head = append(head, ", "...)
			}
			head = strconv.AppendInt(head, size, 10)
		}
		head = fmt.Appendf(head, `], "data_offsets": [%d, %d]}`, at, at+4*n)
		at += 4 * n
	}
	head = append(head, '}')
	for len(head)%8 != 0 {
		head = append(head, ' ')
	}
	binary.LittleEndian.PutUint64(head, uint64(len(head)-8))
	return head, at, nil
}

// appendJSON quotes a string as json.dumps does: everything outside of ASCII is escaped.
func appendJSON(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == '\b':
			b = append(b, `\b`...)
		case r == '\f':
			b = append(b, `\f`...)
		case r < 0x20 || r > 0x7e && r < 0x10000:
			b = fmt.Appendf(b, `\u%04x`, r)
		case r >= 0x10000:
			hi, lo := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
		default:
			b = append(b, byte(r))
		}
	}
	return append(b, '"')
}

// littleEndian is the values as bytes: the same memory where the machine stores them so.
func littleEndian(values []float32) []byte {
	if len(values) == 0 {
		return nil
	}
	if hostLittle() {
		return unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), 4*len(values))
	}
	out := make([]byte, 0, 4*len(values))
	for _, v := range values {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return out
}
