package checkpoint

import (
	"archive/zip"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the corpus of broken checkpoints and their errors anew")

// corpus is the corpus of broken checkpoints, by file name.
func corpus(t *testing.T) map[string][]byte {
	st := safetensorsFile
	const a8 = `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	good := view{"FloatStorage", "0", 4, 0, []int64{2, 2}, []int64{2, 1}}
	values := zipEntry{"m/data/0", floats(1, 2, 3, 4), zip.Store}
	one := func(v view) []byte { return newPickle().op("}").str("w").tensor(v).op("s").stop() }
	with := func(change func(*view)) []byte { v := good; change(&v); return torchZip(t, one(v), values) }
	whole := torchZip(t, one(good), values)
	return map[string][]byte{
		// safetensors
		"empty":                        {},
		"short.safetensors":            {1, 2, 3},
		"header-beyond-file":           st(a8, nil)[:30],
		"header-huge":                  bytes.Repeat([]byte{0x7f}, 16),
		"header-no-object":             st(`[1,2,3]`, nil),
		"header-cut-json":              st(`{"a":{"dtype":"F32"`, nil),
		"header-bad-json":              st(`{"a":{"dtype":F32}}`, nil),
		"header-trailing":              st(a8+"{}", make([]byte, 8)),
		"header-not-utf8":              st("{\"\xff\":{}}", nil),
		"name-twice":                   st(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, make([]byte, 8)),
		"field-twice":                  st(`{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}`, make([]byte, 4)),
		"field-unknown":                st(`{"a":{"dtype":"F32","shape":[1],"offsets":[0,4]}}`, make([]byte, 4)),
		"field-missing":                st(`{"a":{"dtype":"F32","shape":[1]}}`, make([]byte, 4)),
		"tensor-no-object":             st(`{"a":7}`, nil),
		"metadata-number":              st(`{"__metadata__":{"heads":4}}`, nil),
		"metadata-twice":               st(`{"__metadata__":{"k":"a","k":"b"}}`, nil),
		"dtype-unknown":                st(`{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}`, make([]byte, 4)),
		"shape-negative":               st(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, make([]byte, 4)),
		"shape-fraction":               st(`{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}`, make([]byte, 4)),
		"shape-overflow":               st(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}`, make([]byte, 4)),
		"shape-disagrees":              st(`{"visual.trunk.pos_embed":{"dtype":"F32","shape":[1,16,96],"data_offsets":[0,8]}}`, make([]byte, 8)),
		"shape-many-dimensions":        st(`{"a":{"dtype":"F32","shape":[`+strings.Repeat("1,", 70)+`1],"data_offsets":[0,4]}}`, make([]byte, 4)),
		"offsets-reversed":             st(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, make([]byte, 4)),
		"offsets-one":                  st(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}}`, make([]byte, 4)),
		"offsets-huge":                 st(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[9223372036854775807,9223372036854775807]}}`, nil),
		"data-truncated.safetensors":   st(a8, make([]byte, 5)),
		"data-overlap":                 st(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, make([]byte, 12)),
		"data-hole":                    st(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, make([]byte, 12)),
		"data-surplus":                 st(a8, make([]byte, 16)),
		"data-half-byte":               st(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}`, make([]byte, 1)),
		"foreign-lfs":                  []byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
		"foreign-html":                 []byte("<!DOCTYPE html><html>404</html>"),
		"foreign-gguf":                 []byte("GGUF\x03\x00\x00\x00"),
		"legacy-torch":                 []byte("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03."),
		"bare-pickle":                  newPickle().op("}").stop(),
		"metadata-only-then-bad-brace": st(`{"__metadata__":{}`, nil),

		// zip
		"zip-truncated.pt":     whole[:len(whole)-30],
		"zip-no-pickle.pt":     zipOf(t, zipEntry{"m/readme", []byte("hello"), zip.Store}),
		"zip-two-pickles.pt":   torchZip(t, one(good), values, zipEntry{"n/data.pkl", one(good), zip.Store}),
		"zip-name-twice.pt":    torchZip(t, one(good), values, values),
		"zip-compressed.pt":    torchZip(t, one(good), zipEntry{"m/data/0", floats(1, 2, 3, 4), zip.Deflate}),
		"zip-big-endian.pt":    zipOf(t, zipEntry{"m/data.pkl", one(good), zip.Store}, zipEntry{"m/byteorder", []byte("big"), zip.Store}, values),
		"zip-torchscript.pt":   torchZip(t, one(good), values, zipEntry{"m/constants.pkl", one(good), zip.Store}),
		"zip-pickle-damage.pt": bytes.Replace(whole, []byte("storage"), []byte("sturage"), 1),
		"zip-data-missing.pt":  torchZip(t, one(good)),
		"zip-data-short.pt":    torchZip(t, one(good), zipEntry{"m/data/0", floats(1, 2, 3), zip.Store}),

		// pickles that name something
		"pickle-os-system.pt":      torchZip(t, newPickle().global("os", "system").str("echo owned").op("\x85R").stop()),
		"pickle-stack-global.pt":   torchZip(t, newPickle().str("posix").str("system").op("\x93").str("echo owned").op("\x85R").stop()),
		"pickle-eval.pt":           torchZip(t, newPickle().global("builtins", "eval").str("1").op("\x85R").stop()),
		"pickle-inst.pt":           torchZip(t, newPickle().op("(").str("echo owned").op("ios\nsystem\n").stop()),
		"pickle-namespace.pt":      torchZip(t, newPickle().op("}").str("args").global("argparse", "Namespace").op(")\x81}bs").stop()),
		"pickle-newobj-dict.pt":    torchZip(t, newPickle().global("collections", "OrderedDict").op(")\x81").stop()),
		"pickle-obj.pt":            torchZip(t, newPickle().op("(").global("collections", "OrderedDict").op("o").stop()),
		"pickle-extension.pt":      torchZip(t, newPickle().op("\x82\x05").stop()),
		"pickle-persid.pt":         torchZip(t, newPickle().op("Pfile:///etc/passwd\n").stop()),
		"pickle-buffer.pt":         torchZip(t, newPickle().op("\x97").stop()),
		"pickle-call-string.pt":    torchZip(t, newPickle().str("os.system").op(")R").stop()),
		"pickle-call-storage.pt":   torchZip(t, newPickle().global("torch", "FloatStorage").op(")R").stop()),
		"pickle-build-dict.pt":     torchZip(t, newPickle().op("}}b").stop()),
		"pickle-build-tensor.pt":   torchZip(t, newPickle().tensor(good).op("}b").stop()),
		"pickle-persistent-int.pt": torchZip(t, newPickle().int(5).op("Q").stop()),
		"pickle-load-bytes.pt":     torchZip(t, newPickle().global("torch.storage", "_load_from_bytes").stop()),
		"pickle-qint8.pt":          torchZip(t, newPickle().global("torch", "QInt8Storage").stop()),
		"pickle-weird-global.pt":   torchZip(t, newPickle().global("torch\x00.evil", "x\"y").stop()),
		"pickle-stack-numbers.pt":  torchZip(t, newPickle().int(1).int(2).op("\x93").stop()),

		// pickles that are damaged
		"pickle-empty.pt":            torchZip(t, nil),
		"pickle-protocol-0.pt":       torchZip(t, []byte("(dp0\n.")),
		"pickle-protocol-9.pt":       torchZip(t, []byte("\x80\x09}.")),
		"pickle-cut.pt":              torchZip(t, one(good)[:60]),
		"pickle-string-huge.pt":      torchZip(t, []byte("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff.")),
		"pickle-endless-name.pt":     torchZip(t, []byte("\x80\x02c"+strings.Repeat("a", 4000))),
		"pickle-stack-empty.pt":      torchZip(t, newPickle().op("0").stop()),
		"pickle-no-mark.pt":          torchZip(t, newPickle().op("t").stop()),
		"pickle-memo-unset.pt":       torchZip(t, newPickle().op("h\x07").stop()),
		"pickle-memo-mark.pt":        torchZip(t, newPickle().op("(q\x00").stop()),
		"pickle-leftovers.pt":        torchZip(t, newPickle().op("NN").stop()),
		"pickle-odd-items.pt":        torchZip(t, newPickle().op("}(NNNu").stop()),
		"pickle-append-to-none.pt":   torchZip(t, newPickle().op("NNa").stop()),
		"pickle-list.pt":             torchZip(t, newPickle().op("]").stop()),
		"pickle-no-tensors.pt":       torchZip(t, newPickle().op("}").str("epoch").int(3).op("s").str("name").str("x").op("s").stop()),
		"pickle-too-long.pt":         zipOf(t, zipEntry{"m/data.pkl", append([]byte("\x80\x02"), bytes.Repeat([]byte("N0"), maxOperations/2+1)...), zip.Deflate}),
		"tensor-few-arguments.pt":    torchZip(t, newPickle().global("torch._utils", "_rebuild_tensor_v2").op(")R").stop()),
		"tensor-no-storage.pt":       torchZip(t, newPickle().global("torch._utils", "_rebuild_tensor_v2").op("(NNNNtR").stop()),
		"tensor-parameter-none.pt":   torchZip(t, newPickle().global("torch._utils", "_rebuild_parameter").op("N\x85R").stop()),
		"tensor-shape-larger.pt":     with(func(v *view) { v.shape = []int64{2, 3}; v.strides = []int64{3, 1} }),
		"tensor-offset-beyond.pt":    with(func(v *view) { v.offset = 1 }),
		"tensor-offset-negative.pt":  with(func(v *view) { v.offset = -1 }),
		"tensor-stride-negative.pt":  with(func(v *view) { v.strides[0] = -2; v.strides = []int64{-2, 1} }),
		"tensor-stride-overflow.pt":  with(func(v *view) { v.strides = []int64{1 << 62, 1} }),
		"tensor-stride-missing.pt":   with(func(v *view) { v.strides = []int64{1} }),
		"tensor-expanded.pt":         with(func(v *view) { v.shape = []int64{1 << 40, 2}; v.strides = []int64{0, 1} }),
		"tensor-storage-negative.pt": with(func(v *view) { v.count = -4 }),
		"tensor-storage-larger.pt":   with(func(v *view) { v.count = 4000; v.shape = []int64{1000}; v.strides = []int64{1} }),
	}
}

// zipOf is an archive of just these entries.
func zipOf(t *testing.T, entries ...zipEntry) []byte {
	t.Helper()
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

// TestBrokenCheckpoints pins the error of every file in testdata/broken.
func TestBrokenCheckpoints(t *testing.T) {
	const folder, golden = "testdata/broken", "testdata/broken.txt"
	if *update {
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, data := range corpus(t) {
			if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range files {
		r, err := Open(filepath.Join(folder, f.Name()))
		if err == nil {
			r.Close()
			t.Errorf("%s: no error", f.Name())
			continue
		}
		if r != nil {
			t.Errorf("%s: a reader beside the error", f.Name())
		}
		fmt.Fprintf(&got, "%s\n", strings.ReplaceAll(err.Error(), folder+"/", ""))
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	if len(g) != len(w) {
		t.Errorf("%d errors, want %d", len(g)-1, len(w)-1)
	}
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Errorf("error\n  %s\nwant\n  %s", g[i], w[i])
		}
	}
	for name := range corpus(t) {
		if !slices.ContainsFunc(files, func(f os.DirEntry) bool { return f.Name() == name }) {
			t.Errorf("%s is not in %s: run go test -update", name, folder)
		}
	}
}
