package checkpoint_test

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/synth"
)

const golden = "../../testdata/reference/golden/"

// tiny is the synthetic checkpoint the reference's files were made from.
func tiny(t testing.TB) checkpoint.Reader {
	t.Helper()
	cfg, err := synth.Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	c, err := synth.New(cfg, "", true)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// toBFloat16 rounds to the nearest bfloat16, ties to even.
func toBFloat16(v float32) float32 {
	b := math.Float32bits(v)
	return math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
}

// same compares every tensor of got with the one of want, its values changed by round.
func same(t *testing.T, got, want checkpoint.Reader, round func(float32) float32) {
	t.Helper()
	for _, info := range got.Tensors() {
		w, ok := want.Lookup(info.Name)
		if !ok || !slices.Equal(w.Shape, info.Shape) {
			t.Fatalf("tensor %q has shape %v, want %v", info.Name, info.Shape, w.Shape)
		}
		a, b := make([]float32, info.Len()), make([]float32, info.Len())
		if err := got.ReadFloat32(info.Name, a, 0); err != nil {
			t.Fatal(err)
		}
		if err := want.ReadFloat32(info.Name, b, 0); err != nil {
			t.Fatal(err)
		}
		for i := range a {
			if a[i] != round(b[i]) {
				t.Fatalf("tensor %q, element %d: %v, want %v", info.Name, i, a[i], round(b[i]))
			}
		}
	}
}

func identity(v float32) float32 { return v }

func TestWrappedBFloat16(t *testing.T) {
	r, err := checkpoint.Open(golden + "tiny_wrapped_bf16.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := tiny(t)
	if got, all := len(r.Tensors()), len(want.Tensors()); got != all {
		t.Errorf("%d tensors, want %d", got, all)
	}
	if info, ok := r.Lookup("visual.trunk.pos_embed"); !ok || info.DType != checkpoint.BFloat16 {
		t.Errorf("pos_embed is %v", info)
	}
	same(t, r, want, toBFloat16)
}

func TestVQAlone(t *testing.T) {
	r, err := checkpoint.Open(golden + "tiny_vq_only.pt")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Lookup("encoder.conv_in.weight"); !ok {
		t.Fatal("the VQ checkpoint alone must keep its names")
	}
	rest := checkpoint.Select(tiny(t), func(name string) bool { return !strings.HasPrefix(name, "visual.trunk.vq.") })
	m, err := checkpoint.Merge(r, rest)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got, want := len(m.Tensors()), len(tiny(t).Tensors()); got != want {
		t.Errorf("%d tensors of both files, want %d", got, want)
	}
	if m.Metadata()["heads"] != "4" {
		t.Errorf("metadata %v lacks the heads", m.Metadata())
	}
	same(t, m, tiny(t), identity)
}

func TestMergePrecedence(t *testing.T) {
	r, err := checkpoint.Open(golden + "tiny_vq_only.pt")
	if err != nil {
		t.Fatal(err)
	}
	cfg, _ := synth.Preset("tiny")
	whole, err := synth.New(cfg, "other", true)
	if err != nil {
		t.Fatal(err)
	}
	m, err := checkpoint.Merge(r, whole) // the VQ checkpoint first, and still TokLIP's own copy wins
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	same(t, m, whole, identity)

	cfg.Vocab = 256
	small, err := synth.New(cfg, "", true)
	if err != nil {
		t.Fatal(err)
	}
	_, err = checkpoint.Merge(small, r)
	want := `merge: tensor "visual.trunk.vq.quantize.embedding.weight" has shape [256 8] in checkpoint 1, but shape [512 8] in "` + golden + `tiny_vq_only.pt"`
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
	if _, err := checkpoint.Merge(); err == nil {
		t.Error("merging nothing must fail")
	}
}

func TestSafetensorsRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny.safetensors")
	var last, total int64
	err := checkpoint.WriteSafetensorsFile(context.Background(), path, tiny(t), func(d, n int64) { last, total = d, n })
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != total || last != total {
		t.Errorf("progress ended at %d of %d, the file is %v", last, total, info)
	}
	r, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	same(t, r, tiny(t), identity)
	if got, want := r.Tensors()[0].Name, "visual.trunk.pos_embed"; got != want {
		t.Errorf("first tensor %q, want %q", got, want)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	err = r.ReadFloat32("logit_scale", make([]float32, 1), 0)
	if err == nil || !strings.Contains(err.Error(), "file already closed") {
		t.Errorf("read after Close: %v", err)
	}
	// What is written is the same however it was read.
	var a, b bytes.Buffer
	again, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for w, r := range map[*bytes.Buffer]checkpoint.Reader{&a: again, &b: tiny(t)} {
		if err := checkpoint.WriteSafetensors(context.Background(), w, r, nil); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("a file written from a file differs from one written from the source")
	}
}
