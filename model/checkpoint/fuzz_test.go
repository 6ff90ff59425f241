package checkpoint

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// seeds feeds every file of the corpus of broken checkpoints.
func seeds(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/broken/*")
	if err != nil || len(files) == 0 {
		f.Fatalf("no corpus: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// checkEntries holds what a parser accepted against the file: every element must lie inside of it, and
// the tensors may not claim more elements than bytes.
func checkEntries(t *testing.T, entries []entry, file []byte) {
	t.Helper()
	for _, e := range entries {
		n, err := elements(e.info.Shape)
		if err != nil {
			t.Fatalf("%q: %v", e.info.Name, err)
		}
		if !e.info.DType.Readable() {
			continue
		}
		if n > int64(len(file)) {
			t.Fatalf("%q has %d elements in a file of %d bytes", e.info.Name, n, len(file))
		}
		s := &store{mapping: &mapping{data: file}, index: map[string]entry{e.info.Name: e}}
		dst := make([]float32, min(n, 1))
		for _, at := range []int64{0, n / 2, max(n-1, 0)} {
			if err := s.ReadFloat32(e.info.Name, dst, at); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func FuzzSafetensors(f *testing.F) {
	seeds(f)
	f.Add(safetensorsFile(`{"__metadata__":{"a":"b"},"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}`, floats(1, 2)))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseHeader(data)
		if err != nil {
			if h.entries != nil || h.metadata != nil {
				t.Fatal("a header beside the error")
			}
			return
		}
		checkEntries(t, h.entries, bytes.Clone(data))
	})
}

func FuzzTorch(f *testing.F) {
	seeds(f)
	p := newPickle().op("}").str("w").tensor(view{"HalfStorage", "0", 4, 1, []int64{2}, []int64{2}}).op("s").stop()
	f.Add(torchZip(f, p, zipEntry{"m/data/0", make([]byte, 8), zip.Store}))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseTorch(data)
		if err != nil {
			if entries != nil {
				t.Fatal("tensors beside the error")
			}
			return
		}
		checkEntries(t, entries, bytes.Clone(data))
	})
}

func FuzzPickle(f *testing.F) {
	f.Add(newPickle().op("}").str("w").tensor(view{"FloatStorage", "0", 4, 0, []int64{2, 2}, []int64{2, 1}}).op("s").stop())
	f.Add(newPickle().global("os", "system").str("true").op("\x85R").stop())
	f.Add(newPickle().op("(lp0\nh\x00a").stop())
	files, _ := filepath.Glob("testdata/broken/pickle-*")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if z, err := openArchive(data); err == nil {
			if p, err := z.read(z.prefix+"data.pkl", maxPickle); err == nil && len(p) < 1<<16 {
				f.Add(p)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		root, err := unpickle(data)
		if err != nil {
			if root != nil {
				t.Fatal("a value beside the error")
			}
			return
		}
		if weights, err := unwrap(root); err == nil {
			for _, v := range weights.values {
				if v, ok := v.(*tensor); ok {
					if err := v.check(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}
