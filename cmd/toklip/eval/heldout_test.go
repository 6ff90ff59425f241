package eval

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9 {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestHeldOutAsNumPy(t *testing.T) {
	f := numpy(t).HeldOut
	h, err := ReadHeldOut(bytes.NewReader(f.Truth))
	if err != nil {
		t.Fatal(err)
	}
	labels := h.Labels()
	if len(labels) != len(f.Labels) || labels[0].String() != "box" || labels[3].String() != "red box" {
		t.Fatalf("labels %v", labels)
	}
	got, err := h.Judge(vectors(t, f.Frames), vectors(t, f.Labels), vectors(t, f.Captions), func(cosine float64) float64 {
		return 1 / (1 + math.Exp(-(6*cosine - 1)))
	})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "mean of classes", got.Classes.Mean, f.ClassMean)
	near(t, "mean of pairs", got.Pairs.Mean, f.PairMean)
	near(t, "lowest of pairs", got.Pairs.Lowest.AUROC, f.PairLowest)
	near(t, "precision", got.PrecisionAtHalf, f.Precision)
	near(t, "recall", got.RecallAtHalf, f.Recall)
	near(t, "recall@10", got.RecallAt10, f.RecallAt10)
	if len(got.Pairs.Labels) != f.Pairs || got.Captions != 25 {
		t.Errorf("%d pairs and %d captions judged, want %d and 25", len(got.Pairs.Labels), got.Captions, f.Pairs)
	}
	for _, l := range append(got.Classes.Labels, got.Pairs.Labels...) {
		for i, label := range labels {
			if label.String() == l.Label {
				near(t, l.Label, l.AUROC, *f.Areas[i])
				if l.Positives != f.Positives[i] {
					t.Errorf("%s: %d positives, want %d", l.Label, l.Positives, f.Positives[i])
				}
			}
		}
	}
	if _, err := h.Judge(vectors(t, f.Frames[1:]), vectors(t, f.Labels), vectors(t, f.Captions), nil); err == nil {
		t.Error("a frame without embedding was judged")
	}
}

// An object of which little is to be seen is no mistake, whatever the model says.
func TestSliversAreNotJudged(t *testing.T) {
	h := &HeldOut{MinPixels: 100, Frames: []HeldOutFrame{{Objects: []HeldOutObject{
		{Class: "box", Colour: "red", Pixels: 99}, {Class: "ball", Colour: "red", Pixels: 100},
		{Class: "cone", Colour: "red", Pixels: 5}, {Class: "cone", Colour: "blue", Pixels: 500},
	}}}}
	for _, test := range []struct {
		label       HeldOutLabel
		present, ok bool
	}{
		{HeldOutLabel{Class: "box"}, false, false},
		{HeldOutLabel{"box", "red"}, false, false},
		{HeldOutLabel{"box", "blue"}, false, true},
		{HeldOutLabel{Class: "ball"}, true, true},
		{HeldOutLabel{Class: "cone"}, true, true},
		{HeldOutLabel{"cone", "red"}, false, false},
		{HeldOutLabel{"cone", "blue"}, true, true},
		{HeldOutLabel{Class: "door"}, false, true},
	} {
		if present, ok := h.Present(0, test.label); present != test.present || ok != test.ok {
			t.Errorf("%s: %v, %v", test.label, present, ok)
		}
	}
}

func TestReconstructionAsNumPy(t *testing.T) {
	f := numpy(t).Pixels
	var r Reconstruction
	for i := range f.A {
		a, b := make([]byte, len(f.A[i])), make([]byte, len(f.A[i]))
		for k := range a {
			a[k], b[k] = byte(f.A[i][k]), byte(f.B[i][k])
		}
		if err := r.Add(a, b); err != nil {
			t.Fatal(err)
		}
	}
	near(t, "PSNR", r.PSNR(), f.PSNR)
	near(t, "chroma error", r.ChromaError(), f.Chroma)
}

func TestReconstruction(t *testing.T) {
	red, grey := []byte{200, 20, 30, 90, 10, 10}, []byte{76, 76, 76, 40, 40, 40}
	var exact, colourless Reconstruction
	if err := exact.Add(red, red); err != nil {
		t.Fatal(err)
	}
	if exact.PSNR() != 100 || exact.ChromaError() != 0 {
		t.Errorf("equal pictures: %v dB, chroma error %v", exact.PSNR(), exact.ChromaError())
	}
	if err := colourless.Add(red, grey); err != nil {
		t.Fatal(err)
	}
	near(t, "chroma error of grey", colourless.ChromaError(), 1)
	if err := exact.Add(red, grey[:3]); err == nil {
		t.Error("pictures of two sizes were compared")
	}
	if (&Reconstruction{}).PSNR() != 0 || (&Reconstruction{}).ChromaError() != 0 {
		t.Error("figures of nothing")
	}
}

const goodTruth = `{"size":8,"min_pixels":2,"classes":["box"],"colours":["red"],"templates":["a {}"],
"frames":[{"file":"0.png","objects":[{"class":"box","colour":"red","pixels":3}]}],
"captions":[{"text":"a red box","true_of":[0]}]}`

func TestReadHeldOut(t *testing.T) {
	if _, err := ReadHeldOut(strings.NewReader(goodTruth)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ old, new, want string }{
		{`"size":8`, `"size":0`, "size is 0"},
		{`"min_pixels":2`, `"min_pixels":65`, "min_pixels is 65 of a frame's 64"},
		{`["box"]`, `[]`, "classes and templates must be named"},
		{`["box"]`, `["box","box"]`, `classes[1]: "box" is empty or stands twice`},
		{`["a {}"]`, `["a box"]`, `templates[0]: "a box" has no {}`},
		{`"0.png"`, `"../0.png"`, `frames[0].file: "../0.png" is no name of a file`},
		{`"class":"box"`, `"class":"cat"`, `frames[0].objects[0]: class "cat" is none of classes`},
		{`"colour":"red"`, `"colour":"pink"`, `frames[0].objects[0]: colour "pink" is none of colours`},
		{`"pixels":3`, `"pixels":65`, "frames[0].objects[0]: 65 pixels of 64"},
		{`"true_of":[0]`, `"true_of":[1]`, "captions[0] (a red box): frame 1 of 1"},
		{`"true_of":[0]`, `"true_of":[]`, "captions[0]: a text and the frames"},
		{`"pixels":3`, `"pixels":"3"`, "line 2: a JSON string where a int belongs"},
		{"\n\"frames\"", "\n\"frames\"}", "line 2: invalid character"},
		{`a red box`, "a \xff box", "line 3: byte 0xff is no UTF-8"},
	} {
		_, err := ReadHeldOut(strings.NewReader(strings.Replace(goodTruth, test.old, test.new, 1)))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.new, err, test.want)
		}
	}
}

// FuzzReadHeldOut: whatever is taken can be judged.
func FuzzReadHeldOut(f *testing.F) {
	f.Add([]byte(goodTruth))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := ReadHeldOut(bytes.NewReader(text))
		if err != nil {
			if h != nil {
				t.Fatal("a truth beside an error")
			}
			return
		}
		labels := len(h.Labels())
		if labels > 1000 || len(h.Frames) > 1000 {
			return
		}
		ones := func(n int) *Vectors {
			v := NewVectors(n, 1)
			for i := range n {
				v.Row(i)[0] = 1
			}
			return v
		}
		if _, err := h.Judge(ones(len(h.Frames)), ones(labels), ones(len(h.Captions)), func(float64) float64 { return 1 }); err != nil {
			t.Fatal(err)
		}
	})
}
