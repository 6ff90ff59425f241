package checkpoint

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// pickler writes pickles as torch.save does, and as it never would.
type pickler struct{ bytes.Buffer }

func newPickle() *pickler { return (&pickler{}).op("\x80\x02") }

func (p *pickler) op(s string) *pickler { p.WriteString(s); return p }

func (p *pickler) str(s string) *pickler {
	p.WriteByte('X')
	p.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
	return p.op(s)
}

func (p *pickler) int(n int64) *pickler {
	p.WriteString("\x8a\x08")
	p.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	return p
}

func (p *pickler) ints(n ...int64) *pickler {
	p.op("(")
	for _, v := range n {
		p.int(v)
	}
	return p.op("t")
}

func (p *pickler) global(module, name string) *pickler {
	return p.op("c" + module + "\n" + name + "\n")
}

// view is a tensor as a pickle describes it.
type view struct {
	class, key     string
	count, offset  int64
	shape, strides []int64
}

func (p *pickler) tensor(v view) *pickler {
	p.global("torch._utils", "_rebuild_tensor_v2").op("(")
	p.op("(").str("storage").global("torch", v.class).str(v.key).str("cpu").int(v.count).op("tQ")
	p.int(v.offset).ints(v.shape...).ints(v.strides...).op("\x89").global("collections", "OrderedDict").op(")R")
	return p.op("tR")
}

func (p *pickler) stop() []byte { return p.op(".").Bytes() }

// zipEntry is a file of an archive.
type zipEntry struct {
	name   string
	data   []byte
	method uint16
}

// torchZip is a torch file of a pickle and of storages.
func torchZip(t testing.TB, pickle []byte, more ...zipEntry) []byte {
	t.Helper()
	entries := append([]zipEntry{{"m/data.pkl", pickle, zip.Store}, {"m/byteorder", []byte("little"), zip.Store}}, more...)
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		f, err := w.CreateHeader(&zip.FileHeader{Name: e.name, Method: e.method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func floats(v ...float32) []byte {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// safetensorsFile puts a header and data together.
func safetensorsFile(header string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func writeTemp(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "checkpoint")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// read is all values of a tensor.
func read(t testing.TB, r Reader, name string) []float32 {
	t.Helper()
	info, ok := r.Lookup(name)
	if !ok {
		t.Fatalf("no tensor %q", name)
	}
	out := make([]float32, info.Len())
	if err := r.ReadFloat32(name, out, 0); err != nil {
		t.Fatal(err)
	}
	return out
}
