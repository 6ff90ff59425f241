package enginecache

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The hash of a key must not change by accident: everybody would have to build all engines again.
// Whoever changes Key on purpose raises KeyVersion.
func TestKeyHash(t *testing.T) {
	k := testKey()
	if got, want := k.Hash(), goldenHash; got != want {
		t.Errorf("hash %s, not %s", got, want)
	}
	if k.ID() != goldenHash[:32] {
		t.Errorf("id %s", k.ID())
	}
	b, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	var back Key
	if err := json.Unmarshal(b, &back); err != nil || back.Hash() != k.Hash() {
		t.Errorf("after JSON: %s, %v", back.Hash(), err)
	}
	k.Weights, k.ComputeCapabilities = nil, nil
	e := k
	e.Weights, e.ComputeCapabilities = []string{}, []int{}
	if k.Hash() != e.Hash() {
		t.Error("nothing and an empty list differ")
	}
}

// Every field counts.
func TestKeyFields(t *testing.T) {
	seen := map[string]string{testKey().Hash(): "none"}
	v := reflect.ValueOf(testKey())
	for i := range v.NumField() {
		k := testKey()
		f := reflect.ValueOf(&k).Elem().Field(i)
		name := v.Type().Field(i).Name
		switch f.Kind() {
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Int:
			f.SetInt(f.Int() + 1)
		case reflect.Uint32, reflect.Uint64:
			f.SetUint(f.Uint() + 1)
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.Slice:
			f.Set(reflect.Append(f, reflect.Zero(f.Type().Elem())))
		default:
			t.Fatalf("%s: kind %v is not tested", name, f.Kind())
		}
		if other := seen[k.Hash()]; other != "" {
			t.Errorf("%s changes nothing, or what %s does", name, other)
		}
		seen[k.Hash()] = name
		if d := testKey().difference(k); d == "" || strings.Contains(d, ";") {
			t.Errorf("%s: difference %q", name, d)
		}
	}
}

func TestTimingCache(t *testing.T) {
	c := openTest(t)
	k := testKey()
	k.Role, k.BatchMax = "encoder", 9
	if c.TimingCache(k) != c.TimingCache(testKey()) {
		t.Error("engines of one library and GPU do not share their timing cache")
	}
	seen := map[string]bool{c.TimingCache(k): true}
	for _, change := range []func(*Key){
		func(k *Key) { k.Family = "trt11" }, func(k *Key) { k.Version = "10.7" }, func(k *Key) { k.GPU = "x" },
		func(k *Key) { k.SM = 90 }, func(k *Key) { k.Driver = 1 }, func(k *Key) { k.DLACore = 0 }, func(k *Key) { k.Family = "../x" },
	} {
		k := testKey()
		change(&k)
		path := c.TimingCache(k)
		if seen[path] || filepath.Dir(path) != c.Dir() {
			t.Errorf("timing cache %s of %+v", path, k)
		}
		seen[path] = true
	}
}

func TestDefaultDir(t *testing.T) {
	for _, c := range []struct{ service, xdg, home, want string }{
		{"/var/cache/toklip", "/x", "/h", "/var/cache/toklip/engines"},
		{"/var/cache/a:/var/cache/b", "/x", "/h", "/var/cache/a/engines"},
		{"", "/x", "/h", "/x/toklip/engines"},
		{"", "relative", "/h", "/h/.cache/toklip/engines"},
		{"relative", "", "/h", "/h/.cache/toklip/engines"},
		{"", "", "", "/var/cache/toklip/engines"},
	} {
		t.Setenv("CACHE_DIRECTORY", c.service)
		t.Setenv("XDG_CACHE_HOME", c.xdg)
		t.Setenv("HOME", c.home)
		if got := DefaultDir(); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

const goldenHash = "46f1e92dc3c52f7e02260658cba038ca7c1ffbd7349a4ad59f349d113588c5b2" // computed apart, in Python
