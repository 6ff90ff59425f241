package npy

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// archive zips members; a method other than zip.Store or zip.Deflate is written raw under that number.
func archive(t testing.TB, method uint16, members ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	z.RegisterCompressor(99, func(w io.Writer) (io.WriteCloser, error) { return nopCloser{w}, nil })
	for i := 0; i < len(members); i += 2 {
		w, err := z.CreateHeader(&zip.FileHeader{Name: members[i].(string), Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(members[i+1].([]byte)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func TestNPZ(t *testing.T) {
	one := file(1, "{'descr': '<i4', 'fortran_order': False, 'shape': (1,), }", []byte{5, 0, 0, 0})
	for _, method := range []uint16{zip.Store, zip.Deflate} {
		data := archive(t, method, "a.npy", one, "sub/b.npy", one)
		arrays, err := ReadNPZ(bytes.NewReader(data), int64(len(data)))
		if err != nil || len(arrays) != 2 || arrays["sub/b"] == nil {
			t.Fatalf("method %d: %v, %v", method, arrays, err)
		}
		if v, err := arrays["a"].Int64(); err != nil || !slices.Equal(v, []int64{5}) {
			t.Errorf("method %d: %v, %v", method, v, err)
		}
	}
	damaged := archive(t, zip.Store, "a.npy", one)
	damaged[bytes.Index(damaged, []byte("}\x05"))+1] = 6
	for name, c := range map[string]struct {
		data []byte
		text string
	}{
		"no zip":      {one, "not a valid zip"},
		"other file":  {archive(t, zip.Store, "a.txt", one), `"a.txt" is no .npy file`},
		"twice":       {archive(t, zip.Store, "a.npy", one, "a.npy", one), `two members are called "a.npy"`},
		"bad array":   {archive(t, zip.Deflate, "a.npy", one[:20]), `member "a.npy": not a valid NumPy file`},
		"checksum":    {damaged, "checksum"},
		"method":      {archive(t, 99, "a.npy", one), "unsupported compression"},
		"cut archive": {archive(t, zip.Store, "a.npy", one)[:60], "not a valid zip"},
	} {
		arrays, err := ReadNPZ(bytes.NewReader(c.data), int64(len(c.data)))
		if err == nil || !strings.Contains(err.Error(), c.text) || arrays != nil {
			t.Errorf("%s: %v, error %v; want %q", name, arrays, err, c.text)
		}
	}
}

// FuzzReadNPZ holds that nothing is returned on error and no more than deflate can pack into the file.
func FuzzReadNPZ(f *testing.F) {
	one := file(1, "{'descr': '<i4', 'fortran_order': False, 'shape': (1,), }", []byte{5, 0, 0, 0})
	f.Add(archive(f, zip.Store, "a.npy", one))
	f.Add(archive(f, zip.Deflate, "a.npy", one, "b.npy", one))
	f.Fuzz(func(t *testing.T, data []byte) {
		arrays, err := ReadNPZ(bytes.NewReader(data), int64(len(data)))
		if err != nil && arrays != nil {
			t.Fatalf("arrays beside the error %v", err)
		}
		for name, a := range arrays {
			if len(a.Bytes()) > len(data)*deflateRatio {
				t.Fatalf("%q: %d bytes from a file of %d", name, len(a.Bytes()), len(data))
			}
		}
	})
}

func TestSaveNPZ(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.npz")
	ids, err := New([]int{2, 2}, []int32{1, -2, 3, 4})
	if err != nil {
		t.Fatal(err)
	}
	halves, err := NewHalf([]int{3}, []float32{1, -0.1, 65504})
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for range 2 {
		if err := SaveNPZ(path, map[string]*Array{"ids": ids, "halves": halves}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(b, first) {
			t.Error("equal arrays gave other bytes")
		}
		first = b
	}
	got, err := LoadNPZ(path)
	if err != nil || len(got) != 2 {
		t.Fatalf("%d arrays, %v", len(got), err)
	}
	if !reflect.DeepEqual(got["ids"], ids) || !reflect.DeepEqual(got["halves"], halves) {
		t.Errorf("read back %+v and %+v", got["ids"], got["halves"])
	}
	if v, err := got["halves"].Float32(); err != nil || v[0] != 1 || v[1] != -0.099975586 || v[2] != 65504 {
		t.Errorf("halves %v, %v", v, err)
	}
	if _, err := NewHalf([]int{1}, []float32{65520}); err == nil {
		t.Error("65520 went into float16")
	}
	if _, err := NewHalf([]int{2}, []float32{1}); err == nil {
		t.Error("one value filled a shape of two")
	}
	if err := SaveNPZ(filepath.Join(t.TempDir(), "no", "x.npz"), nil); err == nil {
		t.Error("a file was written into no folder")
	}
}
