package npy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// file puts a .npy file together by hand.
func file(major byte, header string, values []byte) []byte {
	b := append([]byte("\x93NUMPY"), major, 0)
	if major == 1 {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(header)))
	} else {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(header)))
	}
	return append(append(b, header...), values...)
}

func TestWriteReadRanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.npy")
	data := make([]float32, 7*5*3*1009) // beyond one scratch buffer
	for i := range data {
		data[i] = float32(i) - 0.25
	}
	data[3] = float32(math.Inf(-1))
	if err := WriteFloat32(path, []int{7, 5, 3, 1009}, data); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if !slices.Equal(r.Shape(), []int{7, 5, 3, 1009}) || r.DType() != Float32 || r.Len() != len(data) {
		t.Fatalf("shape %v of %s, %d elements", r.Shape(), r.DType(), r.Len())
	}
	row := make([]float32, len(data)/7)
	for i := range 7 {
		if err := r.ReadFloat32(row, int64(i*len(row))); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(row, data[i*len(row):(i+1)*len(row)]) {
			t.Fatalf("row %d differs", i)
		}
	}
	if n := testing.AllocsPerRun(10, func() {
		if err := r.ReadFloat32(row, 5); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a read", n)
	}
	for _, offset := range []int64{-1, int64(len(data)) - int64(len(row)) + 1, math.MaxInt64} {
		if err := r.ReadFloat32(row, offset); err == nil {
			t.Errorf("offset %d was read", offset)
		}
	}
	if err := r.ReadFloat32(nil, int64(len(data))); err != nil {
		t.Errorf("nothing at the end: %v", err)
	}
	whole, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := whole.Float32(); err != nil || !slices.Equal(got, data) {
		t.Errorf("loaded whole: %v, differs", err)
	}
}

func TestAllTypes(t *testing.T) {
	half := []byte{0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0x00, 0x7c, 0xff, 0x7b, 0x00, 0x80} // 1, -2, 2^-24, inf, 65504, -0
	a, err := Read(bytes.NewReader(file(1, "{'descr': '<f2', 'fortran_order': False, 'shape': (6,)}\n", half)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Float32()
	if err != nil {
		t.Fatal(err)
	}
	if want := []float32{1, -2, 1.0 / (1 << 24), float32(math.Inf(1)), 65504, 0}; !slices.Equal(got, want) || !math.Signbit(float64(got[5])) {
		t.Errorf("float16: %v, want %v", got, want)
	}
	roundTrip(t, []float32{0, 1.5, float32(math.Inf(1))})
	roundTrip(t, []float64{0, -1e300})
	roundTrip(t, []int32{math.MinInt32, 7})
	roundTrip(t, []int64{math.MinInt64, 7})
	roundTrip(t, []uint8{0, 255})
	roundTrip(t, []bool{true, false})
}

func roundTrip[T Element](t *testing.T, data []T) {
	t.Helper()
	a, err := New([]int{1, len(data)}, data)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.npy")
	if err := a.Save(path); err != nil {
		t.Fatal(err)
	}
	b, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) || !slices.Equal(a.Shape(), b.Shape()) || a.DType() != b.DType() {
		t.Errorf("%T: %+v became %+v", data, a, b)
	}
	back := make([]T, len(data))
	if _, err := binary.Decode(b.Bytes(), binary.LittleEndian, back); err != nil || !slices.Equal(back, data) {
		t.Errorf("%T: %v became %v, %v", data, data, back, err)
	}
}

func TestConversions(t *testing.T) {
	wide, err := New(nil, []int64{1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wide.Int32(); !errors.Is(err, ErrType) || !strings.Contains(err.Error(), "1099511627776") {
		t.Errorf("a value beyond int32: %v", err)
	}
	if v, err := wide.Int64(); err != nil || v[0] != 1<<40 || wide.Len() != 1 || len(wide.Shape()) != 0 {
		t.Errorf("scalar: %v, %v", v, err)
	}
	if _, err := wide.Float32(); !errors.Is(err, ErrType) {
		t.Errorf("float32 of int64: %v", err)
	}
	doubles, err := New([]int{1}, []float64{0.5})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := doubles.Int64(); !errors.Is(err, ErrType) {
		t.Errorf("whole numbers of float64: %v", err)
	}
	if v, err := doubles.Float32(); err != nil || v[0] != 0.5 {
		t.Errorf("float32 of float64: %v, %v", v, err)
	}
	if _, err := New([]int{2, 2}, []float32{1, 2, 3}); err == nil {
		t.Error("3 values took the shape 2x2")
	}
}

func TestHeaderForms(t *testing.T) {
	four := make([]byte, 16)
	for _, c := range []struct {
		major  byte
		header string
		shape  []int
	}{
		{1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }          \n", []int{4}},
		{2, "{'shape': (2, 2), 'fortran_order': False, 'descr': '<f4'}\n", []int{2, 2}},
		{3, `{"descr": "<f4","fortran_order":False,"shape":(2,2,)}`, []int{2, 2}},
		{1, "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 4, 1), }\n", []int{1, 4, 1}}, // order without effect
	} {
		a, err := Read(bytes.NewReader(file(c.major, c.header, four)))
		if err != nil || !slices.Equal(a.Shape(), c.shape) {
			t.Errorf("%q: %+v, %v", c.header, a, err)
		}
	}
	empty, err := Read(bytes.NewReader(file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999999999), }", nil)))
	if err != nil || empty.Len() != 0 {
		t.Errorf("empty array: %+v, %v", empty, err)
	}
}

func TestRefused(t *testing.T) {
	const ok = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n"
	four := make([]byte, 16)
	with := func(old, new string) []byte { return file(1, strings.Replace(ok, old, new, 1), four) }
	for name, c := range map[string]struct {
		data []byte
		is   error
		text string
	}{
		"empty":            {nil, ErrFormat, "ends before the header"},
		"magic":            {[]byte("PK\x03\x04 a zip"), ErrFormat, "begins with"},
		"version":          {append([]byte("\x93NUMPY\x04\x00"), four...), ErrUnsupported, "version 4.0"},
		"header cut":       {file(1, ok, nil)[:30], ErrFormat, "inside the header"},
		"header size":      {[]byte("\x93NUMPY\x02\x00\xff\xff\xff\x7f"), ErrFormat, "2147483647 bytes"},
		"values cut":       {file(1, ok, four[:15]), ErrFormat, "15 bytes into its values, the header says 16"},
		"values surplus":   {file(1, ok, append(four, 0)), ErrFormat, "goes on after the 16 bytes"},
		"huge claim":       {with("(4,)", "(4000000000, 1000)"), ErrFormat, "16 bytes into its values"},
		"overflow":         {with("(4,)", "(4000000000, 4000000000)"), ErrFormat, "larger than any memory"},
		"number overflow":  {with("(4,)", "(99999999999999999999,)"), ErrFormat, "expected a dimension"},
		"negative":         {with("(4,)", "(-4,)"), ErrFormat, "expected a dimension"},
		"not a tuple":      {with("(4,)", "(4)"), ErrFormat, "not a tuple"},
		"two commas":       {with("(4,)", "(4,,)"), ErrFormat, "expected a dimension"},
		"no comma":         {with("(4,)", "(2 2)"), ErrFormat, "expected a comma"},
		"dimensions":       {with("(4,)", "("+strings.Repeat("1,", 33)+")"), ErrFormat, "more than 32"},
		"expression":       {with("(4,)", "__import__('os')"), ErrFormat, `expected '('`},
		"fortran":          {with("False, 'shape': (4,)", "True, 'shape': (2, 2)"), ErrUnsupported, "ascontiguousarray"},
		"big-endian":       {with("<f4", ">f4"), ErrUnsupported, "big-endian"},
		"objects":          {with("<f4", "|O"), ErrUnsupported, "Python objects"},
		"records":          {with("'<f4'", "[('x', '<f4')]"), ErrUnsupported, "structured"},
		"complex":          {with("<f4", "<c8"), ErrUnsupported, `"<c8"`},
		"unknown key":      {with("'descr'", "'desc'"), ErrFormat, `unknown key "desc"`},
		"doubled key":      {with("'shape'", "'descr': '<f4', 'shape'"), ErrFormat, "stands twice"},
		"missing key":      {with("'fortran_order': False, ", ""), ErrFormat, `"fortran_order" is missing`},
		"trailing":         {with("}", "} + {}"), ErrFormat, "follows the dictionary"},
		"zero byte":        {with("}", "}\x00"), ErrFormat, "zero byte"},
		"escape":           {with("<f4", `<\x664`), ErrFormat, "backslash"},
		"boolean":          {with("False", "None"), ErrFormat, "True or False"},
		"bool value":       {file(1, "{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", []byte{1, 2}), ErrFormat, "element 1 of a bool"},
		"version 3, UTF-8": {file(3, "\xff"+ok, four), ErrFormat, "not UTF-8"},
	} {
		a, err := Read(bytes.NewReader(c.data))
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) || a != nil {
			t.Errorf("%s: %+v, error %q; want %q with %q", name, a, err, c.is, c.text)
		}
	}
}

// TestHugeClaim proves that a small file cannot take much memory.
func TestHugeClaim(t *testing.T) {
	data := file(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }", make([]byte, 100))
	path := filepath.Join(t.TempDir(), "a.npy")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Read(bytes.NewReader(data)); err == nil {
		t.Error("read")
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "needs 8000000000000 bytes of values, the file has 100") {
		t.Errorf("load: %v", err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("%d bytes were allocated", got)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none.npy")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder: %v", err)
	}
	ints, err := New([]int{2}, []int64{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ints.npy")
	if err := ints.Save(path); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.ReadFloat32(make([]float32, 1), 0); !errors.Is(err, ErrType) {
		t.Errorf("float32 of int64: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestFailedWriteLeavesOld covers the rename: the old file stays, no temporary one is left behind.
func TestFailedWriteLeavesOld(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.npy")
	if err := WriteFloat32(path, []int{2}, []float32{1, 2}); err != nil {
		t.Fatal(err)
	}
	if err := WriteFloat32(path, []int{3}, []float32{1, 2}); err == nil || !strings.Contains(err.Error(), "3 elements, 2 values") {
		t.Errorf("wrong shape: %v", err)
	}
	failure := errors.New("disk full")
	if err := replaceFile(path, func(f *os.File) error {
		if _, err := f.WriteString("half"); err != nil {
			return err
		}
		return failure
	}); !errors.Is(err, failure) {
		t.Errorf("failed write: %v", err)
	}
	a, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := a.Float32(); err != nil || !slices.Equal(v, []float32{1, 2}) {
		t.Errorf("old file: %v, %v", v, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
}

// FuzzRead holds that nothing is returned on error, that what is read was in the file, and that
// writing it again reads back the same.
func FuzzRead(f *testing.F) {
	f.Add(file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n", make([]byte, 8)))
	f.Add(file(2, "{'descr': '<i8', 'fortran_order': True, 'shape': (), }", make([]byte, 8)))
	f.Add(file(3, `{"descr":"|b1","fortran_order":False,"shape":(0,7)}`, nil))
	f.Add(file(1, "{'descr': '<f2', 'fortran_order': False, 'shape': (99999999, 99999), }", make([]byte, 8)))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Read(bytes.NewReader(data))
		if err != nil {
			if a != nil {
				t.Fatalf("an array beside the error %v", err)
			}
			return
		}
		if !bytes.HasSuffix(data, a.Bytes()) || len(a.Bytes()) != a.Len()*a.DType().Size() {
			t.Fatalf("%d bytes of values from a file of %d", len(a.Bytes()), len(data))
		}
		if _, err := a.Float32(); (err == nil) != a.DType().isFloat() {
			t.Fatalf("float32 of %s: %v", a.DType(), err)
		}
		if _, err := a.Int64(); (err == nil) == a.DType().isFloat() {
			t.Fatalf("int64 of %s: %v", a.DType(), err)
		}
		var again bytes.Buffer
		if _, err := a.WriteTo(&again); err != nil {
			t.Fatal(err)
		}
		b, err := Read(&again)
		if err != nil || b.DType() != a.DType() || !slices.Equal(b.Shape(), a.Shape()) || !bytes.Equal(b.Bytes(), a.Bytes()) {
			t.Fatalf("%+v came back as %+v, %v", a, b, err)
		}
	})
}

func BenchmarkReadFloat32(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.npy")
	data := make([]float32, 3*256*256)
	for i := range data {
		data[i] = float32(i)
	}
	if err := WriteFloat32(path, []int{1, 3, 256, 256}, data); err != nil {
		b.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	got := make([]float32, len(data))
	b.SetBytes(int64(4 * len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := r.ReadFloat32(got, 0); err != nil {
			b.Fatal(err)
		}
	}
	if !slices.Equal(got, data) {
		b.Fatal("values differ")
	}
}

// A named pipe or a folder in an array's place is refused at once.
func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe} {
		if _, err := Open(path); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("error %v", err)
		}
	}
}
