package labels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// drawn is a reproducible vector of n numbers around 0.
func drawn(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// drawnSet is n labels with drawn embeddings for their texts.
func drawnSet(n, dim int) (*Set, map[string][]float32) {
	r := rand.New(rand.NewPCG(1, 2))
	set, embeddings := new(Set), make(map[string][]float32)
	for i := range n {
		set.Labels = append(set.Labels, Named(fmt.Sprint("label ", i)))
	}
	for _, text := range set.Texts() {
		embeddings[text] = drawn(r, dim)
	}
	return set, embeddings
}

func compiled(tb testing.TB, n, dim int) *Compiled {
	tb.Helper()
	set, embeddings := drawnSet(n, dim)
	c, err := Compile(set, embeddings, 110, -16.5)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// TestScore holds scores to the formulas, computed in fp64, for sets around the number of rows done at once.
func TestScore(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 101} {
		for _, dim := range []int{1, 2, 96, 1152} {
			set, embeddings := drawnSet(n, dim)
			c, err := Compile(set, embeddings, 110, -16.5)
			if err != nil {
				// Two texts of one number may well point away from each other.
				if dim == 1 && strings.Contains(err.Error(), "point away from each other") {
					continue
				}
				t.Fatal(err)
			}
			if c.Len() != n || c.Dim() != dim || c.Hash() != set.Hash() || c.Name(n-1) != set.Labels[n-1].Name {
				t.Fatalf("%d labels of %d: compiled to %d of %d, %q, %q", n, dim, c.Len(), c.Dim(), c.Hash(), c.Name(n-1))
			}
			image := drawn(rand.New(rand.NewPCG(3, 4)), dim)
			scores := c.Score(nil, image)
			if len(scores) != n {
				t.Fatalf("%d labels, %d scores", n, len(scores))
			}
			for i, s := range scores {
				direction := make([]float64, dim)
				for _, text := range set.Labels[i].Texts() {
					for k, v := range embeddings[text] {
						direction[k] += float64(v) / norm(embeddings[text])
					}
				}
				dot, length := 0.0, 0.0
				for k, v := range direction {
					dot += v * float64(image[k])
					length += v * v
				}
				cosine := dot / math.Sqrt(length) / norm(image)
				logit := 110*cosine - 16.5
				score := 1 / (1 + math.Exp(-logit))
				if math.Abs(float64(s.Cosine)-cosine) > 1e-6 || math.Abs(float64(s.Logit)-logit) > 1e-4 || math.Abs(float64(s.Score)-score) > 1e-4*score+1e-12 || s.Broken {
					t.Errorf("%d labels of %d, label %d: %+v; want %v, %v, %v", n, dim, i, s, cosine, logit, score)
				}
			}
			// Directions do not depend on how long an embedding is.
			for k := range image {
				image[k] *= 1 << 70
			}
			for i, s := range c.Score(nil, image) {
				if s != scores[i] {
					t.Errorf("%d labels of %d, label %d: %+v for a longer embedding, %+v for the embedding", n, dim, i, s, scores[i])
				}
			}
		}
	}
}

func TestScoreOfItself(t *testing.T) {
	set := &Set{Labels: []Label{Named("a")}}
	set.Labels[0].Templates = []string{"{}"}
	v := []float32{0.1, 0.7, -0.3}
	c, err := Compile(set, map[string][]float32{"a": v}, 1e300, 0)
	if err != nil {
		t.Fatal(err)
	}
	for sign, want := range map[float32]Score{1: {1, math.MaxFloat32, 1, false}, -1: {-1, -math.MaxFloat32, 0, false}} {
		s := c.Score(nil, []float32{sign * v[0], sign * v[1], sign * v[2]})[0]
		if s != want {
			t.Errorf("itself times %v scores %+v, want %+v", sign, s, want)
		}
	}
	r := rand.New(rand.NewPCG(17, 18))
	for range 20 {
		v := drawn(r, 1152)
		c, err := Compile(set, map[string][]float32{"a": v}, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if s := c.Score(nil, v)[0]; s.Cosine > 1 || s.Cosine < 1-1e-6 {
			t.Errorf("cosine with itself is %v", s.Cosine)
		}
	}
}

// TestBroken: an embedding without direction gives finite numbers and no presence.
func TestBroken(t *testing.T) {
	c := compiled(t, 5, 8)
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, v := range map[string]float32{"NaN": nan, "+Inf": inf, "-Inf": -inf, "too long": math.MaxFloat32} {
		for at := range 8 {
			e := drawn(rand.New(rand.NewPCG(5, 6)), 8)
			e[at] = v
			for i, s := range c.Score(nil, e) {
				if s != (Score{Logit: -16.5, Broken: true}) {
					t.Errorf("%s at %d: label %d is %+v", name, at, i, s)
				}
			}
		}
	}
	for name, v := range map[string]float32{"zero": 0, "as good as zero": 1e-40} {
		for _, s := range c.Score(nil, slices.Repeat([]float32{v}, 8)) {
			if s != (Score{Logit: -16.5, Broken: true}) {
				t.Errorf("%s: %+v", name, s)
			}
		}
	}
}

func TestScoreOfAnotherLengthPanics(t *testing.T) {
	c := compiled(t, 1, 8)
	defer func() {
		if r := recover(); r != "labels: scored an embedding of 7 numbers, those of the labels have 8" {
			t.Errorf("panicked with %v", r)
		}
	}()
	c.Score(nil, make([]float32, 7))
}

func TestScoreWithoutLabels(t *testing.T) {
	c, err := Compile(&Set{}, nil, 110, -16.5)
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Score(make([]Score, 3), make([]float32, 5)); len(s) != 0 {
		t.Errorf("no labels, scores %v", s)
	}
	if e := NewTracker(c).Update(nil, Moment{Wall: 1}); len(e) != 0 {
		t.Errorf("no labels, events %v", e)
	}
}

func TestCompileRefuses(t *testing.T) {
	set := &Set{Labels: []Label{Named("a"), Named("b")}}
	good := func() map[string][]float32 {
		return map[string][]float32{"a": {1, 0}, "a photo of a a": {1, 1}, "b": {0, 1}, "a photo of a b": {0, 2}}
	}
	if _, err := Compile(set, good(), 110, 0); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit        func(map[string][]float32)
		scale, bias float64
		want        string
	}{
		"missing":      {func(m map[string][]float32) { delete(m, "b") }, 1, 0, `compile label "b": text "b" has no embedding`},
		"short":        {func(m map[string][]float32) { m["b"] = m["b"][:1] }, 1, 0, `compile label "b": the embedding of text "b" has 1 numbers, those before it have 2`},
		"empty":        {func(m map[string][]float32) { m["a photo of a a"] = nil }, 1, 0, `compile label "a": average embeddings: there is nothing to average`},
		"zero":         {func(m map[string][]float32) { m["b"] = []float32{0, 0} }, 1, 0, "number 2 has length 0 and no direction"},
		"NaN":          {func(m map[string][]float32) { m["b"][1] = float32(math.NaN()) }, 1, 0, "has length NaN"},
		"cancel":       {func(m map[string][]float32) { m["b"] = []float32{0, -9} }, 1, 0, `compile label "b": average embeddings: the 2 of them point away from each other`},
		"scale":        {nil, 0, 0, "exp(logit_scale) is 0"},
		"scale NaN":    {nil, math.NaN(), 0, "exp(logit_scale) is NaN"},
		"infinite":     {nil, math.Inf(1), 0, "exp(logit_scale) is +Inf"},
		"bias":         {nil, 1, math.Inf(-1), "logit_bias is -Inf"},
		"nothing here": {func(m map[string][]float32) { clear(m) }, 1, 0, `text "a photo of a a" has no embedding`},
	} {
		m := good()
		if c.edit != nil {
			c.edit(m)
		}
		if _, err := Compile(set, m, c.scale, c.bias); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

// TestEnsemble: each embedding has the same say, however long it is.
func TestEnsemble(t *testing.T) {
	got, err := Ensemble([]float32{3, 0}, []float32{0, 0.001})
	if err != nil {
		t.Fatal(err)
	}
	if want := float32(math.Sqrt(0.5)); len(got) != 2 || got[0] != want || got[1] != want {
		t.Errorf("ensemble is %v, want both %v", got, want)
	}
	if _, err := Ensemble(); err == nil {
		t.Error("an ensemble of nothing")
	}
	if _, err := Ensemble([]float32{1}, []float32{1, 2}); err == nil {
		t.Error("an ensemble of two lengths")
	}
}

// TestCompiledIsOnItsOwn: neither the set nor what it tells is shared with it.
func TestCompiledIsOnItsOwn(t *testing.T) {
	set, embeddings := drawnSet(2, 4)
	c, err := Compile(set, embeddings, 110, 0)
	if err != nil {
		t.Fatal(err)
	}
	set.Labels[0].Prompts[0] = "spoiled"
	c.Label(0).Prompts[0] = "spoiled"
	if l := c.Label(0); l.Prompts[0] != "label 0" || l.Name != "label 0" || l.Threshold != DefaultThreshold {
		t.Errorf("label 0 is %+v", l)
	}
}

func TestOrder(t *testing.T) {
	scores := []Score{{Logit: 1, Score: 0.7}, {Logit: 200, Score: 1}, {Logit: 300, Score: 1}, {Logit: 1, Score: 0.7}, {Logit: -5}}
	if got, want := Order(nil, scores), []int{2, 1, 0, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("order is %v, want %v", got, want)
	}
	if got := Order(make([]int, 7), nil); len(got) != 0 {
		t.Errorf("order of nothing is %v", got)
	}
}

func TestChanged(t *testing.T) {
	s := func(scores ...float32) (out []Score) {
		for _, v := range scores {
			out = append(out, Score{Score: v})
		}
		return out
	}
	for _, c := range []struct {
		prev, now []Score
		least     float32
		want      bool
	}{
		{s(0.5, 0.5), s(0.5, 0.5), 0.125, false},
		{s(0.5, 0.5), s(0.5, 0.6), 0.125, false},
		{s(0.5, 0.5), s(0.5, 0.625), 0.125, true},
		{s(0.5, 0.5), s(0.375, 0.5), 0.125, true},
		{s(0.5), s(0.5), 0, true}, // every frame
		{nil, nil, 0.125, false},
		{nil, s(0), 0.125, true},
		{s(0, 0), s(0), 0.125, true},
		{s(float32(math.NaN())), s(0), 0.125, true},
	} {
		if got := Changed(c.prev, c.now, c.least); got != c.want {
			t.Errorf("%v to %v, least %v: changed %v", c.prev, c.now, c.least, got)
		}
	}
}

// TestSteadyStateAllocatesNothing, whether or not a frame has events.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	const n, dim = 100, 96
	c := compiled(t, n, dim)
	r := rand.New(rand.NewPCG(7, 8))
	tracker := NewTracker(c)
	var scores, before []Score
	var order []int
	mask := make([]float32, 256)
	present, at := false, Moment{Wall: 1, Mono: 1}
	image := drawn(r, dim)
	events := 0
	frame := func() {
		at.Wall, at.Mono, at.Sequence = at.Wall+2e9, at.Mono+2e9, at.Sequence+1
		scores = c.Score(scores, image)
		order = Order(order, scores)
		before = append(before[:0], scores...)
		Changed(before, scores, 0.05)
		present = !present
		for i := range scores {
			scores[i].Score = 0.1
			if present {
				scores[i].Score = 0.9
			}
		}
		events += len(tracker.Update(scores, at))
		if at.Sequence%5 == 0 {
			events += len(tracker.Finish(at, ReasonCamera))
		}
		Neighbourhood(mask, 16, 16, int(at.Sequence%256), 2)
	}
	frame()
	if allocs := testing.AllocsPerRun(100, frame); allocs != 0 {
		t.Errorf("%v allocations a frame", allocs)
	}
	if events < 100*n/5 {
		t.Errorf("only %d events", events)
	}
}
