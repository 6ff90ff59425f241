package eval

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// numpyFigures are what testdata/figures.py writes.
type numpyFigures struct {
	Retrieval struct {
		Pictures, Captions [][]float32
		Of, Texts, Images  []int
	}
	ZeroShot struct {
		Prompts    [][][]float32
		Labels     []int
		Pictures   [][]float32
		Ranks      []int
		Top1, Top5 float64
	}
	AUROC struct {
		Scores   []float64
		Positive []bool
		Area     float64
	}
	Pixels struct {
		A, B         [][]int
		PSNR, Chroma float64
	}
	HeldOut struct {
		Truth                    json.RawMessage
		Frames, Labels, Captions [][]float32
		Areas                    []*float64
		Positives                []int
		ClassMean                float64 `json:"class_mean"`
		PairMean                 float64 `json:"pair_mean"`
		PairLowest               float64 `json:"pair_lowest"`
		Pairs                    int
		Precision, Recall        float64
		RecallAt10               float64 `json:"recall_at_10"`
	}
}

func numpy(t *testing.T) *numpyFigures {
	t.Helper()
	text, err := os.ReadFile("testdata/figures.json")
	if err != nil {
		t.Fatal(err)
	}
	var f numpyFigures
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return &f
}

func vectors(t testing.TB, rows [][]float32) *Vectors {
	t.Helper()
	v := NewVectors(len(rows), len(rows[0]))
	for i, row := range rows {
		if err := v.Set(i, row); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func TestRetrievalAsNumPy(t *testing.T) {
	f := numpy(t).Retrieval
	told := 0
	ranks, err := Retrieve(t.Context(), vectors(t, f.Pictures), vectors(t, f.Captions), f.Of, func(done, total int) {
		if done <= told || done > total {
			t.Errorf("progress: %d after %d of %d", done, told, total)
		}
		told = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if told != len(f.Pictures) {
		t.Errorf("progress ended at %d of %d pictures", told, len(f.Pictures))
	}
	if !slices.Equal(ranks.Texts, f.Texts) {
		t.Errorf("ranks of texts\n %v, want\n %v", ranks.Texts, f.Texts)
	}
	if !slices.Equal(ranks.Pictures, f.Images) {
		t.Errorf("ranks of pictures\n %v, want\n %v", ranks.Pictures, f.Images)
	}
}

func TestRetrievalRefuses(t *testing.T) {
	one, other := vectors(t, [][]float32{{1, 0}}), vectors(t, [][]float32{{1, 0, 0}})
	if _, err := Retrieve(t.Context(), one, one, nil, nil); err == nil {
		t.Error("a caption without picture was taken")
	}
	if _, err := Retrieve(t.Context(), one, one, []int{1}, nil); err == nil {
		t.Error("a picture that is not there was taken")
	}
	if _, err := Retrieve(t.Context(), one, other, []int{0}, nil); err == nil {
		t.Error("embeddings of two spaces were compared")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Retrieve(ctx, one, one, []int{0}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestZeroShotAsNumPy(t *testing.T) {
	f := numpy(t).ZeroShot
	classes := NewVectors(len(f.Prompts), len(f.Prompts[0][0]))
	for i, prompts := range f.Prompts {
		if err := classes.Set(i, prompts...); err != nil {
			t.Fatal(err)
		}
	}
	z := NewZeroShot(classes)
	for i, picture := range f.Pictures {
		rank, err := z.Add(f.Labels[i], picture)
		if err != nil {
			t.Fatal(err)
		}
		if rank != f.Ranks[i] {
			t.Errorf("picture %d of class %d: rank %d, want %d", i, f.Labels[i], rank, f.Ranks[i])
		}
	}
	total := z.Total()
	if n := float64(total.Pictures); total.Pictures != len(f.Pictures) || float64(total.Top1)/n != f.Top1 || float64(total.Top5)/n != f.Top5 {
		t.Errorf("%+v, want %v and %v of %d", total, f.Top1, f.Top5, len(f.Pictures))
	}
	if z.Counts()[9].Top1 != 0 { // class 2 has the same prompts and stands before it
		t.Errorf("class 9: %+v", z.Counts()[9])
	}
	if _, err := z.Add(12, f.Pictures[0]); err == nil {
		t.Error("a class that is not there was taken")
	}
	if _, err := z.Add(0, make([]float32, len(f.Pictures[0]))); err == nil {
		t.Error("an embedding of zeros was taken")
	}
	if z.Total() != total {
		t.Error("a refused picture was counted")
	}
}

func TestZeroShotKeepsNothing(t *testing.T) {
	f := numpy(t).ZeroShot
	z := NewZeroShot(vectors(t, f.Prompts[0]))
	if n := testing.AllocsPerRun(100, func() { _, _ = z.Add(0, f.Pictures[0]) }); n > 1 { // Set's sum
		t.Errorf("%v allocations a picture", n)
	}
}

func TestAUROCAsNumPy(t *testing.T) {
	f := numpy(t).AUROC
	area, ok := AUROC(f.Scores, f.Positive)
	if !ok || math.Abs(area-f.Area) > 1e-12 {
		t.Errorf("area %v (%v), want %v", area, ok, f.Area)
	}
}

func TestAUROC(t *testing.T) {
	for _, test := range []struct {
		scores   []float64
		positive []bool
		want     float64
		ok       bool
	}{
		{[]float64{1, 2, 3, 4}, []bool{false, false, true, true}, 1, true},
		{[]float64{1, 2, 3, 4}, []bool{true, true, false, false}, 0, true},
		{[]float64{7, 7, 7, 7}, []bool{true, false, true, false}, 0.5, true},
		{[]float64{1, 2, 2, 3}, []bool{false, true, false, true}, 0.875, true}, // 3.5 of 4 pairs
		{[]float64{1, 2}, []bool{true, true}, 0, false},
		{nil, nil, 0, false},
		{[]float64{1, math.NaN(), 2}, []bool{false, true, true}, 0, false},
	} {
		if got, ok := AUROC(test.scores, test.positive); got != test.want || ok != test.ok {
			t.Errorf("%v %v: %v %v, want %v %v", test.scores, test.positive, got, ok, test.want, test.ok)
		}
	}
}

func BenchmarkRetrieve(b *testing.B) { // COCO's 5000 pictures and 25000 captions are 500 times as many pairs
	rows := func(n int) [][]float32 {
		out := make([][]float32, n)
		for i := range out {
			out[i] = make([]float32, 1152)
			for k := range out[i] {
				out[i][k] = float32((i*31+k*17)%101) - 50
			}
		}
		return out
	}
	pictures, captions, of := vectors(b, rows(500)), vectors(b, rows(500)), make([]int, 500)
	for c := range of {
		of[c] = c
	}
	for b.Loop() {
		if _, err := Retrieve(b.Context(), pictures, captions, of, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/250000, "ns/pair")
}
