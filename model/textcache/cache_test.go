package textcache

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func open(t *testing.T, dir string, limit int64) *Cache {
	t.Helper()
	c, err := Open(dir, Options{MaxBytes: limit})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(t *testing.T, c *Cache, tower, text string, values ...float32) {
	t.Helper()
	if err := c.Put(tower, text, values); err != nil {
		t.Fatal(err)
	}
}

// files are all files of the cache, hidden ones included.
func files(t *testing.T, c *Cache) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(c.Dir(), "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := filepath.Glob(filepath.Join(c.Dir(), "*", ".*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Compact(slices.Sorted(slices.Values(append(found, hidden...))))
}

func TestCache(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "a", "b"), 0)
	if _, ok := c.Get("m", "a red box"); ok {
		t.Fatal("an empty cache has something")
	}
	put(t, c, "m", "a red box", 1, -2.5, math.SmallestNonzeroFloat32)
	put(t, c, "m", "", 4)
	put(t, c, "other", "a red box", 5)
	put(t, c, "m", "a red box\n", 6)
	put(t, c, "ma", " red box", 7) // the same bytes, cut elsewhere
	again := open(t, c.Dir(), 0)
	for _, tt := range []struct {
		tower, text string
		want        []float32
	}{
		{"m", "a red box", []float32{1, -2.5, math.SmallestNonzeroFloat32}}, {"m", "", []float32{4}}, {"other", "a red box", []float32{5}},
		{"m", "a red box\n", []float32{6}}, {"ma", " red box", []float32{7}},
		{"m", "a red bo", nil}, {"", "ma red box", nil},
	} {
		got, ok := again.Get(tt.tower, tt.text)
		if ok != (tt.want != nil) || !slices.Equal(got, tt.want) {
			t.Errorf("%q, %q: %v, %v, want %v", tt.tower, tt.text, got, ok, tt.want)
		}
	}
	put(t, c, "m", "a red box", 8)
	if got, _ := again.Get("m", "a red box"); !slices.Equal(got, []float32{8}) {
		t.Errorf("a later value is not seen: %v", got)
	}
	if got := files(t, c); len(got) != 5 {
		t.Errorf("%d files, want 5: %v", len(got), got)
	}
}

func TestRefused(t *testing.T) {
	c := open(t, t.TempDir(), 0)
	nan := float32(math.NaN())
	for name, err := range map[string]error{
		"value 1 is NaN":  c.Put("m", "x", []float32{1, nan}),
		"value 0 is +Inf": c.Put("m", "x", []float32{float32(math.Inf(1))}),
		"0 values":        c.Put("m", "x", nil),
		"a text of 65537": c.Put("m", strings.Repeat("x", maxText+1), []float32{1}),
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if got := files(t, c); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
	if _, err := Open("", Options{}); err == nil {
		t.Error("a cache without a folder")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, Options{}); err == nil || !strings.Contains(err.Error(), "open text cache: ") {
		t.Errorf("a file as the cache's folder: %v", err)
	}
}

// Whatever happens to a file, it is a miss, it goes, and the next one is good.
func TestDamage(t *testing.T) {
	for name, damage := range map[string]func(content []byte) []byte{
		"a bit":        func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"the last bit": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"cut":          func(b []byte) []byte { return b[:len(b)-5] },
		"empty":        func([]byte) []byte { return nil },
		"longer":       func(b []byte) []byte { return append(b, 0) },
		"huge":         func([]byte) []byte { return make([]byte, maxFile+1) },
		"zeros":        func(b []byte) []byte { return make([]byte, len(b)) },
		"of another text": func([]byte) []byte {
			b, err := encode("m", "text 2", []float32{9})
			if err != nil {
				panic(err)
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, t.TempDir(), 0)
			put(t, c, "m", "text 1", 1, 2, 3)
			path := files(t, c)[0]
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(content), 0o644); err != nil {
				t.Fatal(err)
			}
			if got, ok := c.Get("m", "text 1"); ok {
				t.Errorf("it gave %v", got)
			}
			if left := files(t, c); len(left) > 0 {
				t.Errorf("it stays: %v", left)
			}
			put(t, c, "m", "text 1", 1, 2, 3)
			if got, ok := c.Get("m", "text 1"); !ok || !slices.Equal(got, []float32{1, 2, 3}) {
				t.Errorf("then %v, %v", got, ok)
			}
		})
	}
}

// Beyond the bound, what was not used for longest goes; reading counts as using.
func TestBound(t *testing.T) {
	const limit = 64 * 4096
	c := open(t, t.TempDir(), limit)
	text := func(i int) string { return fmt.Sprintf("text %d", i) }
	for i := range 60 {
		put(t, c, "m", text(i), float32(i))
		old := time.Now().Add(time.Duration(i-100) * time.Hour)
		if err := os.Chtimes(c.path("m", text(i)), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := c.Get("m", text(0)); !ok { // 100 hours old, and used now
		t.Fatal("the first is gone before the bound is reached")
	}
	abandoned := filepath.Join(c.Dir(), filepath.Base(filepath.Dir(c.path("m", text(0)))), temporary+"1")
	foreign := filepath.Join(c.Dir(), "README")
	for _, path := range []string{abandoned, foreign} {
		if err := os.WriteFile(path, make([]byte, 2*limit), 0o644); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-2 * abandonedAfter)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	for i := 60; i < 80; i++ {
		put(t, c, "m", text(i), float32(i))
	}
	if n := int64(len(files(t, c))) * 4096; n > limit+limit/16 {
		t.Errorf("%d bytes, want at most %d and a sixteenth", n, limit)
	}
	for i := range 80 {
		_, ok := c.Get("m", text(i))
		switch {
		case !ok && (i == 0 || i >= 60):
			t.Errorf("%q was used and is gone", text(i))
		case ok && i > 0 && i < 5:
			t.Errorf("%q was not used and stays", text(i))
		}
	}
	if _, err := os.Stat(abandoned); !os.IsNotExist(err) {
		t.Errorf("a file that was never finished stays: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a file of others: %v", err)
	}
}

// Several users at once, as several processes would be.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	var users errgroup.Group
	for user := range 4 {
		users.Go(func() error {
			c, err := Open(dir, Options{MaxBytes: 40 * 4096})
			if err != nil {
				return err
			}
			for i := range 200 {
				n := (i*7 + user) % 60
				text := fmt.Sprint(n)
				if got, ok := c.Get("m", text); ok && !slices.Equal(got, []float32{float32(n), 1}) {
					return fmt.Errorf("%s: %v", text, got)
				}
				if err := c.Put("m", text, []float32{float32(n), 1}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := users.Wait(); err != nil {
		t.Error(err)
	}
	for _, path := range files(t, open(t, dir, 0)) {
		if strings.HasPrefix(filepath.Base(path), temporary) {
			t.Errorf("left behind: %s", path)
		}
	}
}

// A cache on a medium that cannot be written serves what is there.
func TestReadOnly(t *testing.T) {
	if os.Getuid() == 0 {
		t.Log("root may write anywhere: only the error of a folder that vanished is looked at")
	}
	c := open(t, t.TempDir(), 0)
	put(t, c, "m", "x", 1)
	if os.Getuid() != 0 {
		folder := filepath.Dir(c.path("m", "x"))
		if err := os.Chmod(folder, 0o555); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(folder, 0o755) }) // so that it can be removed
		if err := c.Put("m", "x", []float32{2}); err == nil || !strings.Contains(err.Error(), "choose another folder for text embeddings") {
			t.Errorf("it was written: %v", err)
		}
	}
	if got, ok := c.Get("m", "x"); !ok || got[0] != 1 {
		t.Errorf("%v, %v", got, ok)
	}
	// A file stands where a folder should.
	if err := os.RemoveAll(c.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.Dir(), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Put("m", "x", []float32{2}); err == nil || !strings.Contains(err.Error(), "store text embedding: ") {
		t.Errorf("written to nowhere: %v", err)
	}
	if _, ok := c.Get("m", "x"); ok {
		t.Error("read from nowhere")
	}
}

// FuzzDecode: content is refused, or is exactly what encode writes for these values.
func FuzzDecode(f *testing.F) {
	for _, values := range [][]float32{{1}, {0, -1.5, 3e-40}} {
		b, err := encode("tower", "a text", values)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "tower", "a text")
		f.Add(b[:len(b)-4], "tower", "a text")
	}
	f.Add([]byte(magic), "", "")
	f.Fuzz(func(t *testing.T, content []byte, tower, text string) {
		values, err := decode(content, tower, text)
		if err != nil {
			if values != nil {
				t.Fatal("values came with the error")
			}
			return
		}
		again, err := encode(tower, text, values)
		if err != nil || !bytes.Equal(again, content) {
			t.Fatalf("%x became %x, %v", content, again, err)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	c, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Put("m", "a photo of a red box", make([]float32, 1152)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.Get("m", "a photo of a red box"); !ok {
			b.Fatal("a miss")
		}
	}
}
