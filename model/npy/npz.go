package npy

import (
	"archive/zip"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// deflateRatio is the most that deflate can gain; a member that claims more is damaged or a trap.
const deflateRatio = 1032

// LoadNPZ reads every array of the .npz file at path (numpy.savez and savez_compressed), by name
// without ".npy". Members that are no arrays, doubled names, damaged checksums and more than
// [MaxArchiveBytes] are errors; then nothing is returned.
func LoadNPZ(path string) (map[string]*Array, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, fmt.Errorf("open arrays %q: %w", path, err)
	}
	defer z.Close()
	arrays, err := readArchive(&z.Reader)
	if err != nil {
		return nil, fmt.Errorf("read arrays %q: %w", path, err)
	}
	return arrays, nil
}

// ReadNPZ is [LoadNPZ] of a file of the given size in bytes behind r.
func ReadNPZ(r io.ReaderAt, size int64) (map[string]*Array, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("read arrays: %w", err)
	}
	return readArchive(z)
}

func readArchive(z *zip.Reader) (map[string]*Array, error) {
	if len(z.File) > MaxArchiveFiles {
		return nil, fmt.Errorf("%w: %d members, at most %d are read", ErrFormat, len(z.File), MaxArchiveFiles)
	}
	var total uint64
	for _, m := range z.File {
		if m.UncompressedSize64 > MaxArchiveBytes || m.UncompressedSize64/deflateRatio > m.CompressedSize64 {
			return nil, fmt.Errorf("%w: member %q claims %d bytes from %d compressed", ErrFormat, m.Name, m.UncompressedSize64, m.CompressedSize64)
		}
		total += m.UncompressedSize64
		if total > MaxArchiveBytes {
			return nil, fmt.Errorf("%w: more than %d bytes of arrays; keep large ones in .npy files", ErrUnsupported, MaxArchiveBytes)
		}
	}
	arrays := make(map[string]*Array, len(z.File))
	for _, m := range z.File {
		name, ok := strings.CutSuffix(m.Name, ".npy")
		if !ok {
			return nil, fmt.Errorf("%w: member %q is no .npy file", ErrFormat, m.Name)
		}
		if arrays[name] != nil {
			return nil, fmt.Errorf("%w: two members are called %q", ErrFormat, m.Name)
		}
		a, err := readMember(m)
		if err != nil {
			return nil, fmt.Errorf("member %q: %w", m.Name, err)
		}
		arrays[name] = a
	}
	return arrays, nil
}

// readMember reads to the end, where the zip reader compares the checksum.
func readMember(m *zip.File) (*Array, error) {
	r, err := m.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// The zip reader itself stops a member that inflates to more than its directory says.
	return Read(r)
}

// SaveNPZ writes arrays as an .npz file at path, in the order of their names and not compressed, replacing a file there in
// one step as [WriteFloat32] does. Equal arrays give equal bytes.
func SaveNPZ(path string, arrays map[string]*Array) error {
	return replaceFile(path, func(f *os.File) error {
		z := zip.NewWriter(f)
		for _, name := range slices.Sorted(maps.Keys(arrays)) {
			w, err := z.CreateHeader(&zip.FileHeader{Name: name + ".npy", Method: zip.Store})
			if err != nil {
				return err
			}
			if _, err := arrays[name].WriteTo(w); err != nil {
				return err
			}
		}
		return z.Close()
	})
}
