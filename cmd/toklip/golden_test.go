package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/toklip/toklip/model/npy"
	"github.com/toklip/toklip/model/synth"
)

// toklip runs a command line in this process, which must succeed, and returns what it prints.
func toklip(t *testing.T, args ...string) string {
	t.Helper()
	var out, stderr bytes.Buffer
	if code := run(t.Context(), args, strings.NewReader(""), &out, &stderr); code != exitOK {
		t.Fatalf("toklip %s: exit code %d: %s", strings.Join(args, " "), code, stderr.String())
	}
	return out.String()
}

// golden is a file of the reference data with arrays in it.
func golden(t *testing.T, name string) map[string]*npy.Array {
	t.Helper()
	arrays, err := npy.LoadNPZ(filepath.Join(reference(t), "golden", name))
	if err != nil {
		t.Fatal(err)
	}
	return arrays
}

func floats(t *testing.T, a *npy.Array) []float32 {
	t.Helper()
	values, err := a.Float32()
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// encodedLines decodes what `toklip encode` prints, strictly.
func encodedLines(t *testing.T, text string) []encoded {
	t.Helper()
	var lines []encoded
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		var e encoded
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil {
			t.Fatalf("line %.80q: %v", line, err)
		}
		lines = append(lines, e)
	}
	return lines
}

// sameTokens compares ids where the best entry of the codebook is clearly better than the second.
func sameTokens(t *testing.T, lines []encoded, arrays map[string]*npy.Array) {
	t.Helper()
	want, err := arrays["ids"].Int32()
	if err != nil {
		t.Fatal(err)
	}
	margin := floats(t, arrays["margin"])
	var got []int32
	for _, line := range lines {
		got = append(got, line.Tokens...)
	}
	if len(got) != len(want) {
		t.Fatalf("%d tokens, want %d", len(got), len(want))
	}
	clear := 0
	for i := range want {
		if margin[i] <= 1e-5 {
			continue
		}
		clear++
		if got[i] != want[i] {
			t.Errorf("token %d is %d, want %d (margin %g)", i, got[i], want[i], margin[i])
		}
	}
	if clear < len(want)*9/10 {
		t.Errorf("only %d of %d tokens could be compared", clear, len(want))
	}
}

// close32 compares vectors of a width: largest difference relative to the largest value of want, and cosine.
func close32(t *testing.T, what string, got, want []float32, width int) {
	t.Helper()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	largest, worst, cosine := 0.0, 0.0, 1.0
	for i := range want {
		largest = max(largest, math.Abs(float64(want[i])))
		worst = max(worst, math.Abs(float64(got[i]-want[i])))
	}
	for row := 0; row < len(want); row += width {
		var ab, aa, bb float64
		for i := row; i < row+width; i++ {
			a, b := float64(got[i]), float64(want[i])
			ab, aa, bb = ab+a*b, aa+a*a, bb+b*b
		}
		cosine = min(cosine, ab/math.Sqrt(aa*bb))
	}
	if !(worst <= 2e-4*largest && cosine >= 0.99999) {
		t.Errorf("%s: largest error %g of %g, cosine %.7f", what, worst, largest, cosine)
	}
	t.Logf("%s: largest error %.2g of %.3g, cosine %.8f", what, worst, largest, cosine)
}

func embeddings(lines []encoded) []float32 {
	var all []float32
	for _, line := range lines {
		all = append(all, line.Embedding...)
	}
	return all
}

// TestGolden takes the reference's images through the command line to tokens, features and embeddings, and its tokens back
// to pictures.
func TestGolden(t *testing.T) {
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	toklip(t, "model", "synth", "--preset", "tiny", "--no-text", "--out", in("tiny"))
	arrays := golden(t, "tiny.npz")
	if err := arrays["images"].Save(in("images.npy")); err != nil {
		t.Fatal(err)
	}
	lines := encodedLines(t, toklip(t, "encode", "--model", in("tiny"), in("images.npy"), "--features", in("features")))
	if len(lines) != 3 {
		t.Fatalf("%d lines, want 3", len(lines))
	}
	var features []float32
	for i, line := range lines {
		if line.File != in("images.npy") || line.Index != i || line.Grid != [2]int{4, 4} {
			t.Errorf("line %d is of %q, index %d, grid %v", i, line.File, line.Index, line.Grid)
		}
		f, err := npy.Load(line.Features)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(f.Shape(), []int{16, 96}) || f.DType() != npy.Float32 {
			t.Errorf("features are %v %v, want float32 [16 96]", f.DType(), f.Shape())
		}
		features = append(features, floats(t, f)...)
	}
	sameTokens(t, lines, arrays)
	close32(t, "embedding", embeddings(lines), floats(t, arrays["embedding"]), 96)
	close32(t, "features", features, floats(t, arrays["features"]), 96)

	ids, err := arrays["ids"].Int32()
	if err != nil {
		t.Fatal(err)
	}
	decoded := floats(t, arrays["decoded"])
	for i := range 3 {
		text, err := json.Marshal(ids[i*16 : (i+1)*16])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(in("ids.json"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		toklip(t, "decode", "--model", in("tiny"), "--tokens", in("ids.json"), "--out", in("out.png"))
		want := make([]byte, 0, 3*64*64)
		for p := range 64 * 64 {
			for c := range 3 {
				v := decoded[(3*i+c)*64*64+p]
				want = append(want, byte(math.RoundToEven(float64(min(max(v, -1), 1)+1)*127.5)))
			}
		}
		compareLevels(t, fmt.Sprintf("decoded image %d", i), in("out.png"), 64, want)
	}
}

// compareLevels allows one level of difference in at most 0.5 % of the bytes.
func compareLevels(t *testing.T, what, path string, size int, want []byte) {
	t.Helper()
	got, err := readPicture(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.width != size || got.height != size || len(want) != 3*size*size {
		t.Fatalf("%s: %dx%d pixels, want %d", what, got.width, got.height, size)
	}
	differ, most := 0, 0
	for i := range want {
		if d := int(got.rgb[i]) - int(want[i]); d != 0 {
			differ, most = differ+1, max(most, d, -d)
		}
	}
	if most > 1 || differ*200 > len(want) {
		t.Errorf("%s: %d of %d bytes differ, by %d levels at most", what, differ, len(want), most)
	}
}

// TestPreprocess compares `toklip preprocess` with Pillow for every picture, size and mode of the reference.
func TestPreprocess(t *testing.T) {
	ref := reference(t)
	files, err := filepath.Glob(filepath.Join(ref, "golden", "pre_*.png"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 30 {
		t.Fatalf("%d golden pictures, want 30", len(files))
	}
	out := filepath.Join(t.TempDir(), "out.png")
	for _, file := range files {
		// pre_IMAGE_SIZE_MODE.png
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "pre_"), ".png")
		parts := strings.Split(name, "_")
		mode, edge := parts[len(parts)-1], parts[len(parts)-2]
		image := filepath.Join(ref, "images", strings.Join(parts[:len(parts)-2], "_")+".png")
		toklip(t, "preprocess", "--size", edge, "--resize", mode, image, out)
		want, err := readPicture(file)
		if err != nil {
			t.Fatal(err)
		}
		compareLevels(t, name, out, want.width, want.rgb)
	}
}

// TestDecodedPNGIsOpaqueRGB: other programs see plain RGB.
func TestDecodedPNGIsOpaqueRGB(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.png")
	if err := writePNG(path, 2, 1, []byte{1, 2, 3, 254, 255, 0}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if content[25] != 2 { // colour type of the header chunk: RGB without alpha
		t.Errorf("colour type %d, want 2", content[25])
	}
	decoded, err := png.Decode(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if p := pictureOf(decoded); !slices.Equal(p.rgb, []byte{1, 2, 3, 254, 255, 0}) {
		t.Errorf("pixels %v", p.rgb)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("permissions %v, %v: others may read a picture", info.Mode(), err)
	}
}

// TestFullEncode takes the full-size model from synthesis to the command line's tokens and embeddings, once in CI.
func TestFullEncode(t *testing.T) {
	if full := os.Getenv("TOKLIP_FULL"); full == "" || full == "0" || testing.Short() {
		t.Skip("the full-size model takes 2 GB of disk and a minute; set TOKLIP_FULL=1")
	}
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	var disk syscall.Statfs_t
	if err := syscall.Statfs(folder, &disk); err != nil {
		t.Fatal(err)
	}
	if free := disk.Bavail * uint64(disk.Bsize); free < 3<<30 {
		t.Fatalf("%s has %d MB left, and the model takes 2 GB: set TMPDIR to a larger disk", folder, free>>20)
	}
	toklip(t, "model", "synth", "--preset", "s256", "--no-text", "--out", in("s256"))
	if err := npy.WriteFloat32(in("images.npy"), []int{2, 3, 256, 256}, append(synth.Image(0, 256), synth.Smooth(0, 256)...)); err != nil {
		t.Fatal(err)
	}
	lines := encodedLines(t, toklip(t, "encode", "--model", in("s256"), in("images.npy"), "--features", in("features")))
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2", len(lines))
	}
	arrays := golden(t, "s256.npz")
	sameTokens(t, lines, arrays)
	close32(t, "embedding", embeddings(lines), floats(t, arrays["embedding"]), 1152)
	var first, last []float32
	for _, line := range lines {
		f, err := npy.Load(line.Features)
		if err != nil {
			t.Fatal(err)
		}
		values := floats(t, f)
		first, last = append(first, values[:4*1152]...), append(last, values[len(values)-1152:]...)
	}
	close32(t, "first rows of features", first, floats(t, arrays["features_first_rows"]), 1152)
	close32(t, "last row of features", last, floats(t, arrays["features_last_row"]), 1152)
}

// TestBrokenCheckpoints: what is pinned for the reader is what the user sees, and nothing is left behind.
func TestBrokenCheckpoints(t *testing.T) {
	corpus := filepath.Join("..", "..", "model", "checkpoint", "testdata")
	pinned, err := os.ReadFile(filepath.Join(corpus, "broken.txt"))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	count := 0
	for _, line := range strings.Split(strings.TrimSpace(string(pinned)), "\n") {
		var name string
		if _, err := fmt.Sscanf(line, "checkpoint %q:", &name); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		path := filepath.Join(corpus, "broken", name)
		want := "toklip: " + strings.Replace(line, fmt.Sprintf("%q", name), fmt.Sprintf("%q", path), 1) + "\n"
		var out, stderr bytes.Buffer
		code := run(context.Background(), []string{"model", "import", path, "--out", filepath.Join(folder, "x")}, strings.NewReader(""), &out, &stderr)
		if code != exitFailure || stderr.String() != want || out.Len() > 0 {
			t.Errorf("%s: exit code %d\n got %s want %s", name, code, stderr.String(), want)
		}
		count++
	}
	if count < 80 {
		t.Errorf("only %d checkpoints were tried", count)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestBenchJSON: every figure is there and can be true.
func TestBenchJSON(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tiny")
	toklip(t, "model", "synth", "--preset", "tiny", "--no-text", "--out", dir)
	var report benchReport
	d := json.NewDecoder(strings.NewReader(toklip(t, "bench", "--model", dir, "--frames", "5", "--width", "320", "--height", "240", "--threads", "1", "--json")))
	d.DisallowUnknownFields()
	if err := d.Decode(&report); err != nil {
		t.Fatal(err)
	}
	if report.Model != "synthetic-tiny" || !strings.HasPrefix(report.Backend, "onnxruntime ") || report.Precision != "fp32" || report.Threads != 1 ||
		report.ImageSize != 64 || report.Frame != [2]int{320, 240} || report.Frames != 5 || report.Cameras != 1 {
		t.Errorf("wrong circumstances: %+v", report)
	}
	if !(report.FPS > 0 && report.FPS < 1e6 && report.Overhead > 0) || report.Weights < 1e6 || report.RSS < report.Weights || report.Peak < report.RSS {
		t.Errorf("impossible figures: %+v", report)
	}
	at := map[string]benchStage{}
	for _, s := range report.Stages {
		if !(s.P50 > 0 && s.P50 <= s.P99 && s.P99 <= s.Max) {
			t.Errorf("stage %+v", s)
		}
		at[s.Name] = s
	}
	for _, name := range []string{"preprocess", "tokenize", "encode", "publish", "whole", "overhead", "bare"} {
		if at[name].What == "" {
			t.Errorf("no stage %s", name)
		}
	}
	if parts := at["tokenize"].P50 + at["encode"].P50; at["whole"].Max < parts {
		t.Errorf("a whole frame takes at most %g ms, its networks %g ms", at["whole"].Max, parts)
	}
}
