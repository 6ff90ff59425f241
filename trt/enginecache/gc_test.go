package enginecache

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// used sets when an entry was last used.
func used(t *testing.T, c *Cache, k Key, ago time.Duration) {
	t.Helper()
	at := time.Now().Add(-ago)
	if err := os.Chtimes(c.path(k.ID(), ".json"), at, at); err != nil {
		t.Fatal(err)
	}
}

// three makes entries used now, an hour ago and a day ago.
func three(t *testing.T, c *Cache) (now, hour, day Key) {
	t.Helper()
	now, hour, day = testKey(), testKey(), testKey()
	hour.Role, day.Version = "encoder", "10.1.0.1"
	for _, k := range []Key{now, hour, day} {
		put(t, c, k, testPlan("ftrt", 1000))
		if err := os.WriteFile(c.TimingCache(k), []byte("times"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	used(t, c, hour, time.Hour)
	used(t, c, day, 24*time.Hour)
	return now, hour, day
}

func TestList(t *testing.T) {
	c := openTest(t)
	if l, err := c.List(); err != nil || len(l) != 0 {
		t.Errorf("%+v, %v", l, err)
	}
	now, hour, day := three(t, c)
	if err := os.WriteFile(filepath.Join(c.Dir(), "README"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := c.List()
	if err != nil || len(l) != 3 || l[0].ID != now.ID() || l[1].ID != hour.ID() || l[2].ID != day.ID() {
		t.Fatalf("%+v, %v", l, err)
	}
	for _, e := range l {
		if e.Problem != "" || e.Building != nil || e.Meta == nil || e.Size <= 1000 || e.Path != c.path(e.ID, ".plan") {
			t.Errorf("%+v", e)
		}
	}
	if e, err := c.Find(day.ID()[:8]); err != nil || e.ID != day.ID() {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := c.Find(""); err == nil {
		t.Error("found by nothing")
	}
	if _, err := c.Find("x"); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Error(err)
	}
	if err := os.RemoveAll(c.Dir()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(); err == nil {
		t.Error("a folder that is gone is listed")
	}
}

func TestFindAmbiguous(t *testing.T) {
	c := openTest(t)
	a, b := strings.Repeat("a", 32), strings.Repeat("a", 31)+"b"
	for _, id := range []string{a, b} {
		if err := os.WriteFile(c.path(id, ".plan"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Find("aa"); err == nil || !strings.Contains(err.Error(), "2 in") {
		t.Error(err)
	}
	if e, err := c.Find(b); err != nil || e.ID != b || e.Problem != "metadata is missing" {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestListProblems(t *testing.T) {
	for want, damage := range map[string]func(c *Cache, id string) error{
		"metadata is missing":              func(c *Cache, id string) error { return os.Remove(c.path(id, ".json")) },
		"metadata is damaged":              func(c *Cache, id string) error { return os.Truncate(c.path(id, ".json"), 10) },
		"plan is missing":                  func(c *Cache, id string) error { return os.Remove(c.path(id, ".plan")) },
		"plan has 9 bytes instead of 1000": func(c *Cache, id string) error { return os.Truncate(c.path(id, ".plan"), 9) },
	} {
		c, k := openTest(t), testKey()
		put(t, c, k, testPlan("ftrt", 1000))
		if err := damage(c, k.ID()); err != nil {
			t.Fatal(err)
		}
		l, err := c.List()
		if err != nil || len(l) != 1 || !strings.HasPrefix(l[0].Problem, want) {
			t.Errorf("%s: %+v, %v", want, l, err)
		}
		removed, err := c.GC(GCOptions{Keep: func(Entry) bool { return true }})
		if err != nil || len(removed) != 1 {
			t.Errorf("%s: removed %+v, %v", want, removed, err)
		}
		wantNames(t, c)
	}
}

func TestGC(t *testing.T) {
	keepTokenizers := func(e Entry) bool { return e.Meta.Key.Role == "tokenizer" }
	for _, tc := range []struct {
		name  string
		o     GCOptions
		stays func(now, hour, day Key) []Key
	}{
		{"all", GCOptions{}, func(_, _, _ Key) []Key { return nil }},
		{"old", GCOptions{MaxAge: 2 * time.Hour}, func(now, hour, _ Key) []Key { return []Key{now, hour} }},
		{"kept", GCOptions{Keep: keepTokenizers}, func(now, _, day Key) []Key { return []Key{now, day} }},
		{"kept or young", GCOptions{Keep: keepTokenizers, MaxAge: 2 * time.Hour}, func(now, hour, day Key) []Key { return []Key{now, hour, day} }},
	} {
		c := openTest(t)
		now, hour, day := three(t, c)
		want := []string{}
		for _, k := range tc.stays(now, hour, day) {
			want = append(want, k.ID()+".json", k.ID()+".plan", filepath.Base(c.TimingCache(k)))
		}
		slices.Sort(want)
		want = slices.Compact(want)
		before := names(t, c)
		dry := tc.o
		dry.DryRun = true
		told, err := c.GC(dry)
		if err != nil || !slices.Equal(names(t, c), before) {
			t.Errorf("%s: the dry run removed something, %v", tc.name, err)
		}
		removed, err := c.GC(tc.o)
		if err != nil || !slices.Equal(told, removed) {
			t.Errorf("%s: removed %+v, not %+v, %v", tc.name, removed, told, err)
		}
		for _, r := range removed {
			if r.Why == "" || r.Size == 0 {
				t.Errorf("%s: %+v", tc.name, r)
			}
		}
		wantNames(t, c, want...)
	}
}

// TestGCLeavingsWithKeep: Keep is asked only of entries that are whole, also under the lock that GC itself takes.
func TestGCLeavingsWithKeep(t *testing.T) {
	c, k := openTest(t), testKey()
	if err := os.WriteFile(c.path(k.ID(), ".lock"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(c.path(k.ID(), ".build"), 0o755); err != nil {
		t.Fatal(err)
	}
	removed, err := c.GC(GCOptions{Keep: func(e Entry) bool { return e.Meta.Key.Role == "tokenizer" }})
	if err != nil || len(removed) != 1 {
		t.Errorf("removed %+v, %v", removed, err)
	}
	wantNames(t, c)
}
