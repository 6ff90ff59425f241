package trt

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func (f *fake) load(lib *Library) *Engine {
	f.t.Helper()
	e, err := lib.Load([]byte("plan"), -1)
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

func TestEngine(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{})
	e := f.load(lib)
	layers, err := e.Layers()
	if err != nil || string(layers) != `{"Layers":[]}` {
		t.Errorf("%s, %v", layers, err)
	}
	features, ids := make([]float32, 4), make([]int32, 2)
	err = e.Run([]Tensor{
		{"ids", []int64{1, 3}, []int32{7, 8, 9}}, {"scale", []int64{2}, []float32{0.5, 2}}, {"half", []int64{1}, []uint16{0x3c00}},
	}, []Tensor{{"features", []int64{2, 2}, features}, {"top", []int64{2}, ids}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"ids [1 3] [7 8 9]", "scale [2] [0.5 2]", "half [1] [15360]"}; !slices.Equal(f.ran, want) {
		t.Errorf("ran with %q", f.ran)
	}
	if !slices.Equal(features, []float32{1, 2, 3, 4}) || !slices.Equal(ids, []int32{1, 2}) {
		t.Errorf("gave %v, %v", features, ids)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Layers(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := e.Run(nil, nil); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestEngineErrors(t *testing.T) {
	f := newFake(t)
	lib := f.openLibrary(Options{})
	for _, plan := range [][]byte{nil, []byte("garbage")} {
		if _, err := lib.Load(plan, -1); !errors.Is(err, ErrBadPlan) {
			t.Errorf("plan %q: %v", plan, err)
		}
	}
	f.next["load"] = fakeError{ErrOutOfMemory, "200 MB are free, 800 are needed"}
	if _, err := lib.Load([]byte("plan"), -1); !errors.Is(err, ErrOutOfMemory) {
		t.Error(err)
	}
	e := f.load(lib)
	defer e.Close()
	for _, c := range []struct {
		tensor Tensor
		want   string
	}{
		{Tensor{"x", []int64{2}, []float32{1}}, `input "x": 1 elements are not the 2 of shape [2]`},
		{Tensor{"x", []int64{0}, []float32{}}, `input "x": shape [0] cannot be`},
		{Tensor{"x", []int64{1 << 40, 1 << 40}, []float32{}}, `cannot be`},
		{Tensor{"x", []int64{-1}, []float32{}}, `input "x": shape [-1] cannot be`},
		{Tensor{"x", nil, []float32{1}}, `0 dimensions are not 1 to 8`},
		{Tensor{"x", []int64{1}, []float64{1}}, `data of type []float64 is none of`},
		{Tensor{"", []int64{1}, []float32{1}}, `tensor without a name`},
		{Tensor{"a\x00", []int64{1}, []float32{1}}, `zero byte`},
	} {
		if err := e.Run([]Tensor{c.tensor}, nil); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v does not say %q", c.tensor, err, c.want)
		}
	}
	if n := f.called("run"); n != 0 {
		t.Errorf("C was called %d times", n)
	}
	f.next["run"] = fakeError{ErrDeviceLost, "error 700"}
	if err := e.Run(nil, nil); !errors.Is(err, ErrDeviceLost) {
		t.Error(err)
	}
	f.next["layers"] = fakeError{ErrUnsupported, "no"}
	if _, err := e.Layers(); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}
