package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/cmd/toklip/eval"
	"github.com/toklip/toklip/cmd/toklip/texttower"
)

// writeBlobs writes a small picture of coloured discs, another for every seed.
func writeBlobs(t *testing.T, path string, size int, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 9))
	picture := image.NewNRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			picture.SetNRGBA(x, y, color.NRGBA{R: byte(40 + seed*13), G: byte(90 + x), B: byte(60 + y), A: 255})
		}
	}
	for range 4 {
		cx, cy, r := random.IntN(size), random.IntN(size), 4+random.IntN(size/4)
		c := color.NRGBA{R: byte(random.IntN(256)), G: byte(random.IntN(256)), B: byte(random.IntN(256)), A: 255}
		for y := max(0, cy-r); y < min(size, cy+r); y++ {
			for x := max(0, cx-r); x < min(size, cx+r); x++ {
				if (x-cx)*(x-cx)+(y-cy)*(y-cy) < r*r {
					picture.SetNRGBA(x, y, c)
				}
			}
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := png.Encode(file, picture); err != nil {
		t.Fatal(err)
	}
}

// cosines are those of what `toklip encode` says of files and `toklip text` of texts, the plain way: [file][text].
func cosines(t *testing.T, model string, files, texts []string) [][]float64 {
	t.Helper()
	pictures := jsonLines[encoded](t, toklip(t, append([]string{"encode", "--model", model}, files...)...))
	lines := jsonLines[texttower.Line](t, toklip(t, append([]string{"text", "--model", model}, texts...)...))
	all := make([][]float64, len(files))
	for i, p := range pictures {
		for _, line := range lines {
			var ab, aa, bb float64
			for k := range p.Embedding {
				a, b := float64(p.Embedding[k]), float64(line.Embedding[k])
				ab, aa, bb = ab+a*b, aa+a*a, bb+b*b
			}
			all[i] = append(all[i], ab/math.Sqrt(aa*bb))
		}
	}
	return all
}

// place is where target stands in descending order.
func place(scores []float64, target int) int {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	return 1 + slices.Index(order, target)
}

func within(ranks []int, k int) float64 {
	hits := 0
	for _, r := range ranks {
		if r <= k {
			hits++
		}
	}
	return float64(hits) / float64(len(ranks))
}

// TestEvalAgreesWithEncodeAndText holds both figures against those that the embeddings of other commands give.
func TestEvalAgreesWithEncodeAndText(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	model := tinyWithTexts(t)
	dir := t.TempDir()
	words := []string{"red box", "blue ball", "open door", "person", "robot", "ramp", "green cone"}
	var files, captions []string
	var class []int
	var list strings.Builder
	for i := range 24 {
		name := fmt.Sprintf("%s/%02d.png", strings.ReplaceAll(words[i%len(words)], " ", "_"), i)
		file := filepath.Join(dir, name)
		writeBlobs(t, file, 48+i, uint64(i))
		files, class = append(files, file), append(class, i%len(words))
		caption := fmt.Sprintf("a %s number %d", words[i%len(words)], i)
		captions = append(captions, caption)
		fmt.Fprintf(&list, "%s\t%s\n", name, caption)
	}

	scores := cosines(t, model, files, captions)
	var texts, pictures []int
	for i := range files {
		texts = append(texts, place(scores[i], i))
		column := make([]float64, len(files))
		for p := range files {
			column[p] = scores[p][i]
		}
		pictures = append(pictures, place(column, i))
	}
	captionsFile := filepath.Join(dir, "captions.tsv")
	if err := os.WriteFile(captionsFile, []byte(list.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	var r retrievalReport
	if err := json.Unmarshal([]byte(toklip(t, "eval", "retrieval", "--model", model, "--captions", captionsFile, "--json")), &r); err != nil {
		t.Fatal(err)
	}
	want := recalls{within(texts, 1), within(texts, 5), within(texts, 10)}
	if r.Texts != want || r.Images != (recalls{within(pictures, 1), within(pictures, 5), within(pictures, 10)}) {
		t.Errorf("retrieval %+v, %+v; ranks of texts %v, of pictures %v", r.Texts, r.Images, texts, pictures)
	}

	// One prompt a class, so that its vector is the text's embedding; classes in the order of their folders.
	template := filepath.Join(dir, "template")
	if err := os.WriteFile(template, []byte("{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sorted := slices.Sorted(slices.Values(words))
	scores = cosines(t, model, files, sorted)
	var ranks []int
	for i := range files {
		ranks = append(ranks, place(scores[i], slices.Index(sorted, words[class[i]])))
	}
	var z zeroShotReport
	if err := json.Unmarshal([]byte(toklip(t, "eval", "zeroshot", dir, "--model", model, "--templates", template, "--json")), &z); err != nil {
		t.Fatal(err)
	}
	if z.Pictures != len(files) || z.Top1 != within(ranks, 1) || z.Top5 != within(ranks, 5) {
		t.Errorf("zero-shot %v, %v of %d; ranks %v", z.Top1, z.Top5, z.Pictures, ranks)
	}
}

// TestEvalDemo judges a model by a small held-out set and recomputes what can be had from other commands.
func TestEvalDemo(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	model := tinyWithTexts(t)
	dir := t.TempDir()
	truth := eval.HeldOut{Size: 64, MinPixels: 41, Classes: []string{"box", "ball"}, Colours: []string{"red", "blue"}, Templates: []string{"{}"}}
	var files []string
	for i := range 12 {
		frame := eval.HeldOutFrame{File: fmt.Sprintf("%02d.png", i), Objects: []eval.HeldOutObject{
			{Class: truth.Classes[i%2], Colour: truth.Colours[i/2%2], Pixels: 200 + i},
		}}
		writeBlobs(t, filepath.Join(dir, frame.File), 64, uint64(i))
		files = append(files, filepath.Join(dir, frame.File))
		truth.Frames = append(truth.Frames, frame)
		truth.Captions = append(truth.Captions, eval.HeldOutCaption{Text: fmt.Sprintf("caption %d", i), TrueOf: []int{i}})
	}
	write := func(h eval.HeldOut) {
		t.Helper()
		text, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, truthFile), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(truth)
	var r demoReport
	if err := json.Unmarshal([]byte(toklip(t, "eval", "demo", dir, "--model", model, "--json")), &r); err != nil {
		t.Fatal(err)
	}

	captions := make([]string, len(truth.Captions))
	for i, c := range truth.Captions {
		captions[i] = c.Text
	}
	scores := cosines(t, model, files, captions)
	var ranks []int
	for c := range captions {
		column := make([]float64, len(files))
		for p := range files {
			column[p] = scores[p][c]
		}
		ranks = append(ranks, place(column, c))
	}
	if r.RecallAt10 != within(ranks, 10) || r.Captions != len(captions) {
		t.Errorf("recall@10 %v of %d, ranks %v", r.RecallAt10, r.Captions, ranks)
	}
	scores = cosines(t, model, files, truth.Classes)
	right, pairs := 0.0, 0.0
	for i := range files {
		for k := range files {
			if i%2 == 0 && k%2 == 1 { // i shows a box, k does not
				pairs++
				if scores[i][0] > scores[k][0] {
					right++
				}
			}
		}
	}
	if got := r.Classes.Labels[0]; got.Label != "box" || math.Abs(got.AUROC-right/pairs) > 1e-12 {
		t.Errorf("AUROC of box is %v, want %v", got, right/pairs)
	}
	used := map[int32]bool{}
	for _, line := range jsonLines[encoded](t, toklip(t, append([]string{"encode", "--model", model}, files...)...)) {
		for _, id := range line.Tokens {
			used[id] = true
		}
	}
	if r.Tokens != len(used) || r.Codebook != 512 || r.Pictures != 12 {
		t.Errorf("%d tokens of %d in %d frames, want %d of 512 in 12", r.Tokens, r.Codebook, r.Pictures, len(used))
	}
	if !(r.PSNR > 3 && r.PSNR < 30) || !(r.ChromaError > 0 && r.ChromaError < 5) {
		t.Errorf("PSNR %v, chroma error %v", r.PSNR, r.ChromaError)
	}
	text := toklip(t, "eval", "demo", dir, "--model", model)
	for _, want := range []string{"12 held-out frames, 12 captions", "AUROC, class, mean of 2 ", "recall@10 of captions ", "different tokens ", "of 512", "\nbox "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}

	fails := func(what, want string) {
		t.Helper()
		var out, stderr strings.Builder
		if code := run(t.Context(), []string{"eval", "demo", dir, "--model", model}, strings.NewReader(""), &out, &stderr); code != exitFailure || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, %s", what, code, stderr.String())
		}
	}
	large := truth
	large.Size = 128
	write(large)
	fails("frames of another size than the network's", "have 128 pixels an edge, model synthetic-tiny sees 64")
	absent := truth
	absent.Frames = slices.Clone(truth.Frames)
	absent.Frames[3].File = "absent.png"
	write(absent)
	fails("a frame that is not there", "absent.png")
	writeBlobs(t, filepath.Join(dir, "absent.png"), 60, 1)
	fails("a frame of another size than the truth says", "it has 60x60 pixels, the truth says 64x64")
	if err := os.Remove(filepath.Join(dir, truthFile)); err != nil {
		t.Fatal(err)
	}
	fails("no truth", "read truth: open ")
}
