package checkpoint

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTorchWrappers(t *testing.T) {
	v := view{"FloatStorage", "0", 2, 0, []int64{2}, []int64{1}}
	w := v
	w.key = "1"
	dict := func(p *pickler, name string, v view) *pickler {
		return p.op("}").str(name).tensor(v).op("s")
	}
	values := []zipEntry{{"m/data/0", floats(1, 2), zip.Store}, {"m/data/1", floats(3, 4), zip.Store}}
	for _, c := range []struct {
		name   string
		pickle []byte
		tensor string
		want   []float32
	}{
		{"raw", dict(newPickle(), "w", v).stop(), "w", []float32{1, 2}},
		{"module", dict(newPickle(), "module.w", v).stop(), "w", []float32{1, 2}},
		{"both wrappers", dict(newPickle(), "_orig_mod.module.w", v).stop(), "w", []float32{1, 2}},
		{"one of two", dict(newPickle(), "module.w", v).str("b").tensor(w).op("s").stop(), "module.w", []float32{1, 2}},
		{"ema before model", dict(dict(newPickle().op("}").str("model"), "w", v).op("s").str("ema"), "w", w).op("s").stop(), "w", []float32{3, 4}},
		{"ema is None", dict(newPickle().op("}").str("ema").op("Ns").str("model"), "w", v).op("s").stop(), "w", []float32{1, 2}},
		{"state_dict with epoch", dict(newPickle().op("}").str("epoch").int(3).op("s").str("state_dict"), "w", v).op("s").stop(), "w", []float32{1, 2}},
		{"plain values among the weights", dict(newPickle(), "w", v).str("lr").op("G?\x84z\xe1G\xae\x14{s").str("tags").op("](X\x01\x00\x00\x00aK\x01es").
			str("set").global("builtins", "set").op("](K\x01e\x85Rs").str("big").op("\x8a\x0a0123456789s").stop(), "w", []float32{1, 2}},
		{"ordered dictionary with versions", newPickle().global("collections", "OrderedDict").op(")R").str("w").tensor(v).op("s").
			op("}").str("_metadata").global("collections", "OrderedDict").op(")Rsb").stop(), "w", []float32{1, 2}},
		{"parameter", newPickle().op("}").str("w").global("torch._utils", "_rebuild_parameter").op("(").tensor(v).
			op("\x88").global("collections", "OrderedDict").op(")RtRs").stop(), "w", []float32{1, 2}},
		{"protocol 4", append([]byte("\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00"), dict(newPickle(), "w", v).stop()[2:]...), "w", []float32{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Open(writeTemp(t, torchZip(t, c.pickle, values...)))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got := read(t, r, c.tensor); !slices.Equal(got, c.want) {
				t.Errorf("%s is %v, want %v", c.tensor, got, c.want)
			}
		})
	}
}

// TestOpenTellsSafetensors: the length at the beginning of a safetensors file may look like the
// beginning of a pickle (640 is 80 02), or of a zip file.
func TestOpenTellsSafetensors(t *testing.T) {
	const head = `{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	for _, length := range []int{0x0280, 0x0380, 0x0480, 0x0580, 'P' | 'K'<<8} {
		header := head + strings.Repeat(" ", length-len(head)-1) + "}"
		r, err := Open(writeTemp(t, safetensorsFile(header, floats(1, 2))))
		if err != nil {
			t.Errorf("header of %d bytes: %v", length, err)
			continue
		}
		if got := read(t, r, "w"); !slices.Equal(got, []float32{1, 2}) {
			t.Errorf("header of %d bytes: w is %v", length, got)
		}
		r.Close()
	}
}

func TestTorchViews(t *testing.T) {
	values := zipEntry{"m/data/0", floats(0, 1, 2, 3, 4, 5, 6, 7), zip.Store}
	for _, c := range []struct {
		name           string
		offset         int64
		shape, strides []int64
		want           []float32
	}{
		{"offset", 3, []int64{2, 2}, []int64{2, 1}, []float32{3, 4, 5, 6}},
		{"transposed", 0, []int64{2, 4}, []int64{1, 2}, []float32{0, 2, 4, 6, 1, 3, 5, 7}},
		{"every second", 1, []int64{3}, []int64{2}, []float32{1, 3, 5}},
		{"same element", 5, []int64{2, 3}, []int64{0, 0}, []float32{5, 5, 5, 5, 5, 5}},
		{"scalar", 7, []int64{}, []int64{}, []float32{7}},
		{"empty", 0, []int64{0, 3}, []int64{3, 1}, []float32{}},
		{"empty, of any strides", 0, []int64{0, 3}, []int64{1, 1}, []float32{}},
		{"one row of any stride", 2, []int64{1, 3}, []int64{77, 1}, []float32{2, 3, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPickle().op("}").str("w").tensor(view{"FloatStorage", "0", 8, c.offset, c.shape, c.strides}).op("s").stop()
			r, err := Open(writeTemp(t, torchZip(t, p, values)))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got := read(t, r, "w"); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			for at := range c.want {
				one := make([]float32, 1)
				if err := r.ReadFloat32("w", one, int64(at)); err != nil || one[0] != c.want[at] {
					t.Errorf("element %d is %v (%v), want %v", at, one[0], err, c.want[at])
				}
			}
		})
	}
}

func TestOtherTypesAreErrorsOnlyWhenRead(t *testing.T) {
	r, err := Open(writeTemp(t, safetensorsFile(
		`{"__metadata__":{"heads":"4"},"n":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}} `,
		append(make([]byte, 8), floats(2.5)...))))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := read(t, r, "w"); got[0] != 2.5 {
		t.Errorf("w = %v", got)
	}
	if m := r.(*Safetensors).Metadata(); m["heads"] != "4" {
		t.Errorf("metadata %v", m)
	}
	err = r.ReadFloat32("n", make([]float32, 1), 0)
	if err == nil || !strings.Contains(err.Error(), `tensor "n" holds int64; only float32, float16 and bfloat16 can be read`) {
		t.Errorf("error %v", err)
	}
	for _, bad := range []struct {
		n      int
		offset int64
	}{{2, 0}, {1, 1}, {0, -1}, {1, math.MaxInt64}} {
		err := r.ReadFloat32("w", make([]float32, bad.n), bad.offset)
		if err == nil || !strings.Contains(err.Error(), `tensor "w" has 1 elements`) {
			t.Errorf("%+v: error %v", bad, err)
		}
	}
}

// Every half-precision number, against arithmetic.
func TestConversions(t *testing.T) {
	var src []byte
	for h := range 1 << 16 {
		src = binary.LittleEndian.AppendUint16(src, uint16(h))
	}
	for _, shift := range []int{0, 1} { // aligned or not
		data := append(make([]byte, shift), src...)[shift:]
		f16, bf16 := make([]float32, 1<<16), make([]float32, 1<<16)
		decode(f16, data, Float16)
		decode(bf16, data, BFloat16)
		for h := range 1 << 16 {
			sign := 1.0
			if h&0x8000 != 0 {
				sign = -1
			}
			exponent, fraction := h>>10&31, float64(h&0x3ff)
			want := sign * math.Ldexp(1+fraction/1024, exponent-15)
			switch {
			case exponent == 0:
				want = sign * math.Ldexp(fraction, -24)
			case exponent == 31 && fraction == 0:
				want = math.Inf(int(sign))
			case exponent == 31:
				if !math.IsNaN(float64(f16[h])) {
					t.Fatalf("half %#04x is %v, want NaN", h, f16[h])
				}
				want = math.NaN()
			}
			if got := float64(f16[h]); got != want && !math.IsNaN(want) || math.Signbit(got) != math.Signbit(sign) {
				t.Fatalf("half %#04x is %v, want %v", h, got, want)
			}
			if got := math.Float32bits(bf16[h]); got != uint32(h)<<16 {
				t.Fatalf("bfloat16 %#04x has bits %#x", h, got)
			}
		}
	}
}

// A file that is cut while it is mapped gives an error, not a crash.
func TestFileCutWhileOpen(t *testing.T) {
	const n = 1 << 20
	header := `{"w":{"dtype":"F32","shape":[1048576],"data_offsets":[0,4194304]}}`
	path := writeTemp(t, safetensorsFile(header, make([]byte, 4*n)))
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	err = r.ReadFloat32("w", make([]float32, n), 0)
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "unreadable while it was open") {
		t.Errorf("error %v", err)
	}
}

// A named pipe or a folder in a checkpoint's place is refused at once.
func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "is no regular file") {
			t.Errorf("error %v", err)
		}
	}
}

func TestConcurrentReadsAndClose(t *testing.T) {
	header := `{"w":{"dtype":"BF16","shape":[4194304],"data_offsets":[0,8388608]}}`
	data := bytes.Repeat([]byte{0x80, 0x3f}, 4<<20)
	r, err := Open(writeTemp(t, safetensorsFile(header, data)))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			dst := make([]float32, 1<<20)
			for i := range int64(4) {
				if err := r.ReadFloat32("w", dst, i<<20); err != nil {
					if !strings.Contains(err.Error(), os.ErrClosed.Error()) {
						t.Error(err)
					}
					return
				}
				if dst[0] != 1 || dst[len(dst)-1] != 1 {
					t.Errorf("values %v %v, want 1", dst[0], dst[len(dst)-1])
				}
			}
		}()
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// residentFile is the memory of this process that belongs to mapped files, in bytes.
func residentFile(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc on this machine")
	}
	_, rest, _ := strings.Cut(string(status), "RssFile:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// Reading a big checkpoint must not keep it in memory.
func TestResidentMemoryIsBounded(t *testing.T) {
	const n = 64 << 20
	header := `{"w":{"dtype":"F16","shape":[33554432],"data_offsets":[0,67108864]}}`
	path := writeTemp(t, safetensorsFile(header, nil))
	if err := os.Truncate(path, int64(8+len(header)+n)); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	before, most := residentFile(t), 0
	dst := make([]float32, 1<<20)
	for at := int64(0); at < n/2; at += int64(len(dst)) {
		if err := r.ReadFloat32("w", dst, at); err != nil {
			t.Fatal(err)
		}
		most = max(most, residentFile(t)-before)
	}
	if most > 2*residentBytes {
		t.Errorf("%d MB of the file stayed in memory, at most %d are wanted", most>>20, 2*residentBytes>>20)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, d := range []DType{Float32, Float16, BFloat16} {
		b.Run(d.String(), func(b *testing.B) {
			dst := make([]float32, 1<<18)
			src := make([]byte, int(d.Size())*len(dst))
			for i := range src {
				src[i] = byte(i * 7)
			}
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				decode(dst, src, d)
			}
		})
	}
}

func BenchmarkReadFile(b *testing.B) {
	const n = 64 << 20
	for _, d := range []struct {
		name string
		size int
	}{{"F32", 4}, {"BF16", 2}} {
		b.Run(d.name, func(b *testing.B) {
			count := n / d.size
			header := `{"w":{"dtype":"` + d.name + `","shape":[` + strconv.Itoa(count) + `],"data_offsets":[0,` + strconv.Itoa(n) + `]}}`
			r, err := Open(writeTemp(b, safetensorsFile(header, make([]byte, n))))
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			dst := make([]float32, 1<<20)
			b.SetBytes(n)
			for b.Loop() {
				for at := 0; at < count; at += len(dst) {
					if err := r.ReadFloat32("w", dst, int64(at)); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
