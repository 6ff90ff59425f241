package enginecache

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// A header has a known tag and a version of four numbers, or is empty.
func FuzzParseHeader(f *testing.F) {
	f.Add(testPlan("ftrt", 64))
	f.Add(testPlan("vtrt", headerSize))
	f.Add(testPlan("ftrt", 64)[:headerSize-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h := ParseHeader(b)
		known := len(b) >= headerSize && (bytes.HasPrefix(b, []byte("ftrt")) || bytes.HasPrefix(b, []byte("vtrt")))
		if known != (h != Header{}) || known && (h.Tag != string(b[:4]) || strings.Count(h.Version, ".") != 3) {
			t.Errorf("%q is %+v", b, h)
		}
		if known && ParseHeader(b[:headerSize]) != h {
			t.Error("the header depends on what follows it")
		}
	})
}

// Metadata that are taken are of the entry asked for, and stay what they are when written again.
func FuzzMetadata(f *testing.F) {
	k := testKey()
	m := Metadata{Format: 1, ID: k.ID(), Key: k, PlanSize: 7, PlanSHA256: strings.Repeat("0a", 32), Report: json.RawMessage(`{"x": [1, 2]}`)}
	good, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	if _, err := parseMetadata(good, k.ID()); err != nil {
		f.Fatal(err)
	}
	f.Add(good, k.ID())
	f.Add(good, strings.Repeat("0", 32))
	for _, change := range [][2]string{
		{`"format": 1`, `"format": 2`}, {`"plan_size": 7`, `"plan_size": -7`}, {`"0a0a`, `"zz0a`}, {`"0a0a`, `"0a`}, {`"sm": 87`, `"sm": 88`},
		{`"sm": 87`, `"sm": "x"`}, {`"weights": [`, `"weights": null, "x": [`}, {`"report"`, `"Report"`},
	} {
		f.Add(bytes.Replace(good, []byte(change[0]), []byte(change[1]), 1), k.ID())
	}
	f.Add([]byte("null"), "")
	f.Fuzz(func(t *testing.T, b []byte, id string) {
		m, err := parseMetadata(b, id)
		if err != nil {
			if m != nil {
				t.Error("metadata beside an error")
			}
			return
		}
		if m.ID != id || m.Key.ID() != id || m.PlanSize <= 0 || len(m.PlanSHA256) != 64 {
			t.Errorf("taken: %+v", m)
		}
		again, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		n, err := parseMetadata(again, id)
		if err != nil {
			t.Fatalf("written again it is refused: %v", err)
		}
		once, err := n.encode()
		if err != nil || !bytes.Equal(again, once) {
			t.Errorf("%v: %s became %s", err, again, once)
		}
	})
}
