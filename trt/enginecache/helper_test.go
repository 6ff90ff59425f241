package enginecache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is also the other process of tests that need one.
func TestMain(m *testing.M) {
	if role := os.Getenv("ENGINECACHE_TEST_PROCESS"); role != "" {
		os.Exit(process(role))
	}
	goleak.VerifyTestMain(m)
}

func testKey() Key {
	return Key{
		ONNX: strings.Repeat("a", 64), Weights: []string{strings.Repeat("b", 64)}, Role: "tokenizer", Precision: "fp16",
		Family: "trt10", Version: "10.3.0.30", ABI: 1, GPU: "Orin", SM: 87, Driver: 12060, DLACore: -1,
		BatchMin: 1, BatchOpt: 2, BatchMax: 4, OptimizationLevel: -1,
	}
}

// testPlan is a plan with NVIDIA's header.
func testPlan(tag string, size int) []byte {
	b := bytes.Repeat([]byte{7}, size)
	copy(b, tag)
	copy(b[24:], []byte{10, 3, 0, 30})
	return b
}

func openTest(t *testing.T) *Cache {
	t.Helper()
	c, err := Open(filepath.Join(t.TempDir(), "engines"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// put builds a plan.
func put(t *testing.T, c *Cache, k Key, plan []byte) Metadata {
	t.Helper()
	l, err := c.Lock(t.Context(), k, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile(l.PlanPath(), plan, 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := l.Commit(Build{TensorRT: "10.3.0.30", Duration: 1500e6})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// names are the files of the cache.
func names(t *testing.T, c *Cache) []string {
	t.Helper()
	var out []string
	files, err := os.ReadDir(c.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		out = append(out, f.Name())
	}
	return out
}

// wantReason checks that a plan cannot be used, and why.
func wantReason(t *testing.T, c *Cache, k Key, reason Reason, detail string) {
	t.Helper()
	p, err := c.Load(k)
	var u *Unusable
	if p != nil || !errors.As(err, &u) || u.Reason != reason || !strings.Contains(err.Error(), detail) {
		t.Errorf("loads with %v, which is not %s: %q", err, reason, detail)
	}
}

func wantNames(t *testing.T, c *Cache, want ...string) {
	t.Helper()
	if got := names(t, c); !slices.Equal(got, want) {
		t.Errorf("the folder has %q, not %q", got, want)
	}
}
