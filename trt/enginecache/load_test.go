package enginecache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPutAndLoad(t *testing.T) {
	c, k := openTest(t), testKey()
	wantReason(t, c, k, Absent, "there is none yet")
	want := testPlan("ftrt", 100_000)
	m := put(t, c, k, want)
	if m.ID != k.ID() || m.PlanSize != 100_000 || m.BuildSeconds != 1.5 || m.PlanHeader != (Header{"ftrt", "10.3.0.30"}) || time.Since(m.Created) > time.Minute {
		t.Errorf("%+v", m)
	}
	wantNames(t, c, k.ID()+".json", k.ID()+".plan")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(c.path(k.ID(), ".json"), old, old); err != nil {
		t.Fatal(err)
	}
	p, err := c.Load(k)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p.Bytes, want) || p.Meta.PlanSHA256 != m.PlanSHA256 {
		t.Error("another plan")
	}
	if e, err := c.Find(k.ID()[:5]); err != nil || time.Since(e.Used) > time.Minute {
		t.Errorf("used %v, %v", e.Used, err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	// Built again while it is loaded: the old one stays readable.
	p, err = c.Load(k)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	put(t, c, k, testPlan("ftrt", 50_000))
	if !bytes.Equal(p.Bytes, want) {
		t.Error("the loaded plan changed")
	}
	q, err := c.Load(k)
	if err != nil || len(q.Bytes) != 50_000 {
		t.Fatal(err)
	}
	defer q.Close()
}

func TestLoadReasons(t *testing.T) {
	plan := func(c *Cache) string { return c.path(testKey().ID(), ".plan") }
	meta := func(c *Cache) string { return c.path(testKey().ID(), ".json") }
	for _, tc := range []struct {
		name   string
		damage func(*testing.T, *Cache) error
		reason Reason
		detail string
	}{
		{"truncated", func(_ *testing.T, c *Cache) error { return os.Truncate(plan(c), 500) }, Truncated, "500 of 1000 bytes are left"},
		{"empty", func(_ *testing.T, c *Cache) error { return os.Truncate(plan(c), 0) }, Truncated, "0 of 1000 bytes"},
		{"longer", func(_ *testing.T, c *Cache) error { return os.Truncate(plan(c), 1001) }, Corrupt, "1001 bytes instead of 1000"},
		{"a bit", func(t *testing.T, c *Cache) error { return poke(plan(c), 900, 8) }, Corrupt, "SHA-256"},
		{"no header", func(t *testing.T, c *Cache) error { return poke(plan(c), 0, 0) }, Corrupt, "a file without a plan's header, not a plan of TensorRT 10.3.0.30"},
		{"other family", func(t *testing.T, c *Cache) error { return os.WriteFile(plan(c), testPlan("vtrt", 1000), 0o644) }, Foreign, "a plan of TensorRT for RTX 10.3.0.30"},
		{"other version", func(t *testing.T, c *Cache) error { return poke(plan(c), 25, 7) }, Outdated, "a plan of TensorRT 10.7.0.30, not a plan of TensorRT 10.3.0.30"},
		{"no plan", func(t *testing.T, c *Cache) error { return os.Remove(plan(c)) }, Corrupt, "no such file"},
		{"a folder", func(t *testing.T, c *Cache) error { return errors.Join(os.Remove(plan(c)), os.Mkdir(plan(c), 0o755)) }, Corrupt, "its plan"},
		{"no metadata", func(t *testing.T, c *Cache) error { return os.Remove(meta(c)) }, Corrupt, "is missing"},
		{"garbage", func(t *testing.T, c *Cache) error { return os.WriteFile(meta(c), []byte("{"), 0o644) }, Corrupt, "metadata"},
		{"no JSON", func(t *testing.T, c *Cache) error { return os.WriteFile(meta(c), nil, 0o644) }, Corrupt, "metadata"},
		{"of another entry", func(t *testing.T, c *Cache) error {
			k := testKey()
			k.SM = 90
			put(t, c, k, testPlan("ftrt", 1000))
			return os.Rename(c.path(k.ID(), ".json"), meta(c))
		}, Foreign, "belongs to another entry"},
		{"other key", func(t *testing.T, c *Cache) error {
			b, err := os.ReadFile(meta(c))
			if err != nil {
				return err
			}
			return os.WriteFile(meta(c), bytes.Replace(b, []byte(`"sm": 87`), []byte(`"sm": 88`), 1), 0o644)
		}, Corrupt, "not that of its key"},
		{"nothing left", func(t *testing.T, c *Cache) error { return errors.Join(os.Remove(meta(c)), os.Remove(plan(c))) }, Absent, "none"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := openTest(t)
			put(t, c, testKey(), testPlan("ftrt", 1000))
			if err := tc.damage(t, c); err != nil {
				t.Fatal(err)
			}
			wantReason(t, c, testKey(), tc.reason, tc.detail)
			if err := os.RemoveAll(plan(c)); err != nil { // a folder in the way is beyond us
				t.Fatal(err)
			}
			put(t, c, testKey(), testPlan("ftrt", 2000))
			p, err := c.Load(testKey())
			if err != nil {
				t.Fatalf("built again: %v", err)
			}
			defer p.Close()
		})
	}
}

// poke changes a byte of a file.
func poke(path string, at int64, b byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{b}, at)
	return errors.Join(err, f.Close())
}

// An engine that was built in other circumstances: the log says what changed.
func TestLoadOutdated(t *testing.T) {
	for _, c := range []struct {
		change func(*Key)
		want   string
	}{
		{func(k *Key) { k.Version = "10.7.0.23" }, "version 10.3.0.30, now 10.7.0.23"},
		{func(k *Key) { k.Driver = 12080; k.SM = 90 }, "sm 87, now 90; driver 12060, now 12080"},
		{func(k *Key) { k.BatchMax = 8 }, "batch max 4, now 8"},
		{func(k *Key) { k.Weights = []string{"c"} }, "weights"},
	} {
		cache, k := openTest(t), testKey()
		put(t, cache, k, testPlan("ftrt", 100))
		c.change(&k)
		wantReason(t, cache, k, Outdated, c.want)
	}
	cache, k := openTest(t), testKey()
	put(t, cache, k, testPlan("ftrt", 100))
	k.ONNX = "d"
	wantReason(t, cache, k, Absent, "none for this model")
	k.Role = "encoder"
	wantReason(t, cache, k, Absent, "none yet")
}

// Plans of 8.5 and of the implementation for tests have no header that we know.
func TestPlanWithoutHeader(t *testing.T) {
	c, k := openTest(t), testKey()
	for _, plan := range []string{"x", strings.Repeat("y", 1000)} {
		if m := put(t, c, k, []byte(plan)); m.PlanHeader != (Header{}) {
			t.Errorf("header %+v", m.PlanHeader)
		}
		p, err := c.Load(k)
		if err != nil || string(p.Bytes) != plan {
			t.Fatal(err)
		}
		p.Close()
	}
	if err := os.WriteFile(c.PlanPath(k), testPlan("vtrt", 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	wantReason(t, c, k, Foreign, "TensorRT for RTX")
}

// A folder that cannot be written, as in an image, can be loaded from.
func TestReadOnly(t *testing.T) {
	c, k := openTest(t), testKey()
	put(t, c, k, testPlan("ftrt", 100))
	out, err := runAsNobody(t, "load", c.Dir())
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(out, "loaded 100 bytes") || !strings.Contains(out, "cannot write to "+c.Dir()) {
		t.Errorf("%s", out)
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(""); err == nil {
		t.Error("no folder")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Error(err)
	}
	if c := openTest(t); c != nil {
		if free, err := c.Free(); err != nil || free == 0 {
			t.Errorf("%d, %v", free, err)
		}
	}
}
