package trt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		number  int32
		version string
		family  string
	}{
		{8502, "8.5.2", "trt8"}, {8603, "8.6.3", "trt8"}, {8400, "8.4.0", "trt8"},
		{100300, "10.3.0", "trt10"}, {101502, "10.15.2", "trt10"}, {110400, "11.4.0", "trt11"},
		{10701, "1.7.1", "rtx"}, {10400, "1.4.0", "rtx"},
		{7203, "7.2.3", ""}, {90000, "9.0.0", ""}, {120000, "12.0.0", ""}, {20000, "2.0.0", ""}, {0, "0.0.0", ""},
	} {
		v, f, known := decode(c.number)
		if v.String() != c.version || f.name != c.family || known != (c.family != "") {
			t.Errorf("%d is %v of %q (%v), not %s of %q", c.number, v, f.name, known, c.version, c.family)
		}
	}
}

// libraries makes a machine with these TensorRT libraries and the shims of these families.
func machine(t *testing.T, libraries map[string]int32, shims ...string) *fake {
	f := newFake(t)
	f.objects = map[string]*fakeObject{"libcuda.so.1": f.objects["libcuda.so.1"]}
	for name, version := range libraries {
		f.objects[name] = &fakeObject{path: "/lib/" + name + ".0", version: version, symbols: []string{"getInferLibVersion"}}
	}
	for _, s := range shims {
		o := &fakeObject{path: "/lib/" + s, abi: 1, symbols: []string{"toklip_trt_abi"}}
		f.objects[s], f.objects[o.path] = o, o
	}
	return f
}

func TestProbeOrder(t *testing.T) {
	all := map[string]int32{"libnvinfer.so.11": 110400, "libnvinfer.so.10": 100300, "libnvinfer.so.8": 8502, "libtensorrt_rtx.so.1": 10701}
	shims := []string{"libtoklip_trt11.so", "libtoklip_trt10.so", "libtoklip_trt8.so", "libtoklip_trt_rtx.so"}
	without := func(names ...string) map[string]int32 {
		m := map[string]int32{}
		for k, v := range all {
			m[k] = v
		}
		for _, n := range names {
			delete(m, n)
		}
		return m
	}
	for _, c := range []struct {
		name      string
		libraries map[string]int32
		shims     []string
		use       string
	}{
		{"the newest", all, shims, "libnvinfer.so.11"},
		{"one whose shim is there", all, shims[2:], "libnvinfer.so.8"},
		{"RTX last", all, shims[3:], "libtensorrt_rtx.so.1"},
		{"what is installed", without("libnvinfer.so.11", "libnvinfer.so.10"), shims, "libnvinfer.so.8"},
		{"none", map[string]int32{}, shims, ""},
		{"no shim", all, nil, ""},
		{"too old", map[string]int32{"libnvinfer.so.8": 8402}, shims, ""},
	} {
		f := machine(t, c.libraries, c.shims...)
		found := probe(fakeLoader{f}, Options{}, true)
		if len(found.Libraries) != 4 {
			t.Errorf("%s: %d libraries were looked for", c.name, len(found.Libraries))
		}
		var use string
		if found.Use >= 0 {
			use = found.Libraries[found.Use].Name
			if len(found.Missing) != 0 {
				t.Errorf("%s: missing %q", c.name, found.Missing)
			}
		} else if len(found.Missing) == 0 {
			t.Errorf("%s: nothing said", c.name)
		}
		if use != c.use {
			t.Errorf("%s: uses %q, not %q: %+v", c.name, use, c.use, found)
		}
	}
}

func TestProbeSays(t *testing.T) {
	for _, c := range []struct {
		name string
		f    *fake
		o    Options
		code Code
		want []string
	}{
		{"nothing", machine(t, nil), Options{}, ErrNoLibrary, []string{"TensorRT is not installed", "libnvinfer.so.10", "sudo apt install nvidia-jetpack", "LD_LIBRARY_PATH"}},
		{"no shim", machine(t, map[string]int32{"libnvinfer.so.10": 100300}), Options{}, ErrNoLibrary,
			[]string{"TensorRT 10.3.0 (/lib/libnvinfer.so.10.0)", "libtoklip_trt10.so", "not there", "cmake -S csrc"}},
		{"too old", machine(t, map[string]int32{"libnvinfer.so.8": 8402}), Options{}, ErrWrongVersion, []string{"version 8.4.2 is too old: install 8.5 or later"}},
		{"RTX too old", machine(t, map[string]int32{"libtensorrt_rtx.so.1": 10400}), Options{}, ErrWrongVersion, []string{"version 1.4.0 is too old: install 1.5 or later"}},
		{"unknown", machine(t, map[string]int32{"/opt/libnvinfer.so.12": 120000}), Options{TensorRT: "/opt/libnvinfer.so.12"}, ErrWrongVersion,
			[]string{"version 12.0.0 is not supported"}},
		{"wrong path", machine(t, map[string]int32{"libnvinfer.so.10": 100300}, "libtoklip_trt10.so"), Options{TensorRT: "/opt/x.so"}, ErrNoLibrary, []string{`TensorRT is not at "/opt/x.so"`}},
		{"wrong shim", machine(t, nil), Options{Shim: "/opt/shim.so"}, ErrNoLibrary, []string{"TensorRT cannot be used", "/opt/shim.so: not there: no such file"}},
	} {
		found := probe(fakeLoader{c.f}, c.o, true)
		text := strings.Join(found.Missing, "\n")
		lib, err := open(fakeLoader{c.f}, c.o, "")
		if lib != nil || !errors.Is(err, c.code) {
			t.Errorf("%s: opens with %v, which is not %v", c.name, err, c.code)
			continue
		}
		for _, w := range c.want {
			if !strings.HasSuffix(text, ".") || !strings.Contains(text, w) {
				t.Errorf("%s: %q does not say %q", c.name, text, w)
			}
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", c.name, err, w)
			}
		}
	}
}

func TestProbeNotATensorRT(t *testing.T) {
	f := machine(t, nil, "libtoklip_trt10.so")
	f.objects["/lib/libc.so"] = &fakeObject{path: "/lib/libc.so"}
	f.objects["libnvinfer.so.10"] = &fakeObject{problem: "libcudnn.so.8: cannot open shared object file: No such file or directory"}
	found := probe(fakeLoader{f}, Options{TensorRT: "/lib/libc.so"}, true)
	if found.Use >= 0 || !strings.Contains(found.Libraries[0].Problem, "no TensorRT library") {
		t.Errorf("%+v", found)
	}
	// Not absent: what it lacks is worth telling.
	found = probe(fakeLoader{f}, Options{}, true)
	if text := strings.Join(found.Missing, "\n"); !strings.Contains(text, "libcudnn.so.8") || strings.Contains(text, "not installed") {
		t.Errorf("missing %q", text)
	}
}

func TestProbeDriver(t *testing.T) {
	f := newFake(t)
	if d := probe(fakeLoader{f}, Options{}, true).Driver; d != (FoundDriver{Path: "/lib/libcuda.so.1", Version: 12060}) {
		t.Errorf("driver %+v", d)
	}
	f.objects["libcuda.so.1"].driver = 0
	if found := probe(fakeLoader{f}, Options{}, true); found.Driver.Problem == "" || len(found.Missing) != 1 || found.Use != 1 {
		t.Errorf("a driver that does not work: %+v", found)
	}
	delete(f.objects, "libcuda.so.1")
	if found := probe(fakeLoader{f}, Options{}, true); found.Driver.Path != "" || len(found.Missing) != 1 || !strings.Contains(found.Missing[0], "There is no CUDA driver") {
		t.Errorf("no driver: %+v", found)
	}
}

// The real dynamic loader, with what is on this machine.
func TestProbeReal(t *testing.T) {
	found := Probe(Options{TensorRT: filepath.Join(t.TempDir(), "libnvinfer.so.10")})
	if l := found.Libraries[0]; found.Use != -1 || !l.Absent || l.Family != "trt10" {
		t.Errorf("no file: %+v", found)
	}
	if l := Probe(Options{TensorRT: "libc.so.6"}).Libraries[0]; !strings.Contains(l.Problem, "no function getInferLibVersion") {
		t.Errorf("libc: %+v", l)
	}
	text := filepath.Join(t.TempDir(), "libtoklip_trt10.so")
	if err := os.WriteFile(text, []byte("no library"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, shim := range []string{text, "libm.so.6"} {
		if _, err := Open(Options{Shim: shim}); !errors.Is(err, ErrNoLibrary) || !strings.Contains(err.Error(), shim) {
			t.Errorf("shim %s: %v", shim, err)
		}
	}
	for _, l := range Probe(Options{}).Libraries {
		t.Logf("this machine: %s: %v %s", l.Name, l.Version, l.Problem)
	}
}
