package model

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toklip/toklip/model/graph"
	"github.com/toklip/toklip/model/onnx"
)

// quantisedTiny imports the tiny model with int8.
func quantisedTiny(t testing.TB) (string, *Manifest) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "m")
	m, err := Import(t.Context(), tiny(t, "", false), dir, Options{Precisions: []string{Int8}, Runner: ortRunner{}, Floor: 0.9})
	if err != nil {
		t.Fatal(err)
	}
	return dir, m
}

// contents reads every file of a folder.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(b)
	}
	return all
}

// pictures draws n pictures that the importer does not draw.
func pictures(size, n int) []byte {
	var out []byte
	for i := range n {
		out = append(out, testPicture(size, uint64(100+2*i))...)
	}
	return out
}

func inputScales(t testing.TB, path string) map[string]string {
	t.Helper()
	m, err := onnx.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	scales := map[string]string{}
	for _, c := range m.Initializers {
		if strings.HasSuffix(c.Name, "/input_scale") {
			scales[c.Name] = string(c.Raw)
		}
	}
	return scales
}

func TestCalibrate(t *testing.T) {
	dir, old := quantisedTiny(t)
	before := contents(t, dir)
	stray := filepath.Join(dir, "encoder.qdq.0123456789ab.onnx") // of a calibration that was killed
	if err := os.WriteFile(stray, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	stages := map[string]int64{}
	frames := pictures(64, 20)
	created := time.Date(2026, 5, 6, 7, 8, 9, 10, time.UTC)
	c, err := Calibrate(t.Context(), dir, CalibrateOptions{Pictures: frames, Source: "a robot", Method: graph.MethodMax, Runner: ortRunner{}, Created: created,
		Progress: func(stage string, done, total int64) {
			if done < stages[stage] || done > total {
				t.Errorf("%s: %d of %d after %d", stage, done, total, stages[stage])
			}
			stages[stage] = done
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("before %s\nafter %s", c.Before, c.After)
	if want := map[string]int64{"run fp32": 48, "judge before": 9, "judge after": 9}; !reflect.DeepEqual(stages, want) {
		t.Errorf("progress %v, want %v", stages, want)
	}
	if c.After.Frames != 9 || !c.HeldOut || !c.After.Passed || c.Before.FeatureCosine >= 1 || c.After.FeatureCosine >= 1 || c.After.FeatureCosine == c.Before.FeatureCosine {
		t.Errorf("before %+v\nafter %+v", c.Before, c.After)
	}
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(t.Context(), dir, nil); err != nil {
		t.Error(err)
	}
	if want := (Calibration{By: "toklip model calibrate", Source: "a robot", Frames: 15, Method: "max", Created: created.Truncate(time.Second)}); *m.Calibration != want {
		t.Errorf("calibration %+v, want %+v", *m.Calibration, want)
	}
	if m.QDQ.FeatureCosine != c.After.FeatureCosine || m.Reference.Frames != 9 || m.Reference.By != "toklip model calibrate" || m.Reference.Source != drawnPictures+"; a robot" {
		t.Errorf("quality %+v, reference %+v", *m.QDQ, *m.Reference)
	}
	// The two old files are gone, and the stray one; two new ones are there; everything else is as it was.
	after := contents(t, dir)
	for _, gone := range []string{"encoder.qdq.onnx", "reference.npz", filepath.Base(stray)} {
		if _, there := after[gone]; there {
			t.Errorf("%s is still there", gone)
		}
	}
	fresh := []string{c.Encoder, c.Reference, ManifestFile}
	for name, text := range after {
		if !slices.Contains(fresh, name) && before[name] != text {
			t.Errorf("%s was changed or added", name)
		}
	}
	g, err := m.Graph(RoleEncoder, Int8, BackendTensorRT)
	if err != nil || g.File.Name != c.Encoder || g.Data[0] != lastGraph(old).Data[0] {
		t.Errorf("graph %+v, %v", g, err)
	}

	// Every scale is what the observed range says, and other scales do not change what is no scale.
	was, is := scalesOf(t, before["encoder.qdq.onnx"]), inputScales(t, filepath.Join(dir, c.Encoder))
	if len(is) != 12 || len(was) != 12 {
		t.Fatalf("%d scales, before %d", len(is), len(was))
	}
	for name := range is {
		if is[name] == was[name] {
			t.Errorf("%s is as before", name)
		}
	}

	// The reference holds the importer's pictures and the user's frames.
	ref, err := m.LoadReference(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range grids {
		if !slices.Equal(ref.Picture(i), testPicture(64, uint64(i))) {
			t.Errorf("picture %d of the reference is not the importer's", i)
		}
	}
	for i := range ref.Frames - grids {
		k := i * 20 / 5
		if !slices.Equal(ref.Picture(grids+i), frames[k*3*64*64:(k+1)*3*64*64]) {
			t.Errorf("picture %d of the reference is not frame %d", grids+i, k)
		}
	}
	// Again with the same frames: the same files.
	again, err := Calibrate(t.Context(), dir, CalibrateOptions{Pictures: frames, Source: "a robot", Method: graph.MethodMax, Runner: ortRunner{}, Created: created})
	if err != nil || again.Encoder != c.Encoder || again.Reference != c.Reference || !reflect.DeepEqual(again.Before, again.After) {
		t.Errorf("again: %+v, %v", again, err)
	}
	if !reflect.DeepEqual(contents(t, dir), after) {
		t.Error("the same calibration changed the folder")
	}
}

func lastGraph(m *Manifest) Graph { return m.Graphs[len(m.Graphs)-1] }

func scalesOf(t testing.TB, file string) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.onnx")
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	return inputScales(t, path)
}

// TestCalibrateFails: whatever goes wrong, and wherever it is interrupted, the folder stays what it was.
func TestCalibrateFails(t *testing.T) {
	dir, _ := quantisedTiny(t)
	before := contents(t, dir)
	two := pictures(64, 2)
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		opts CalibrateOptions
		want string
	}{
		"no pictures": {CalibrateOptions{Runner: ortRunner{}}, "0 bytes are no 1 to 256 pictures of 64 x 64"},
		"cut picture": {CalibrateOptions{Runner: ortRunner{}, Pictures: two[1:]}, "24575 bytes are no 1 to 256 pictures of 64 x 64"},
		"method":      {CalibrateOptions{Runner: ortRunner{}, Pictures: two, Method: "kl"}, `method "kl" is unknown: choose percentile or max`},
		"no runner":   {CalibrateOptions{Pictures: two}, "no backend is there to run the model"},
		"runner":      {CalibrateOptions{Pictures: two, Runner: runnerFunc(func() ([]map[string]Tensor, error) { return nil, boom })}, "run fp32: boom"},
		"floor": {CalibrateOptions{Pictures: two, Runner: ortRunner{}, Floors: Floors{Features: 0.99999}},
			"the int8 encoder fitted to 2 frames is too far from the fp32 reference: on 6 frames the worst cosine of a token's features is 0.99"},
		"not a number": {CalibrateOptions{Pictures: two, Runner: spoilt{only: ".observed-"}}, "run fp32: the input of blocks.0/attn/qkv holds NaN"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Calibrate(t.Context(), dir, c.opts)
			if err == nil || !strings.HasPrefix(err.Error(), `calibrate model "`+dir+`": `+c.want) {
				t.Errorf("error  %v\nwanted %s", err, c.want)
			}
			if !reflect.DeepEqual(contents(t, dir), before) {
				t.Error("the folder has changed")
			}
		})
	}
	for _, stage := range []string{"run fp32", "judge before", "judge after"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Calibrate(ctx, dir, CalibrateOptions{Pictures: two, Runner: ortRunner{}, Progress: func(s string, done, _ int64) {
			if s == stage && done > 0 {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) || !reflect.DeepEqual(contents(t, dir), before) {
			t.Errorf("cancelled in %q: %v", stage, err)
		}
		cancel()
	}
	// A second calibration, and an import into the folder, while one is running.
	var second, replacing error
	if _, err := Calibrate(t.Context(), dir, CalibrateOptions{Pictures: two, Runner: ortRunner{}, Progress: func(s string, _, _ int64) {
		if s == "judge after" && second == nil {
			_, second = Calibrate(t.Context(), dir, CalibrateOptions{Pictures: two, Runner: ortRunner{}})
			_, replacing = Import(t.Context(), tiny(t, "", false), dir, Options{Overwrite: true})
		}
	}}); err != nil {
		t.Error(err)
	}
	for _, err := range []error{second, replacing} {
		if err == nil || !strings.Contains(err.Error(), "is being calibrated or replaced by another process") {
			t.Errorf("meanwhile: %v", err)
		}
	}
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(t.Context(), dir, nil); err != nil {
		t.Error(err)
	}
}

// TestCalibrateDamaged: a graph of the right size that is none is named.
func TestCalibrateDamaged(t *testing.T) {
	for _, name := range []string{"encoder.onnx", "encoder.qdq.onnx"} {
		dir, _ := quantisedTiny(t)
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, info.Size()), 0o644); err != nil {
			t.Fatal(err)
		}
		before := contents(t, dir)
		_, err = Calibrate(t.Context(), dir, CalibrateOptions{Pictures: pictures(64, 1), Runner: ortRunner{}})
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("error %v", err)
		}
		if !reflect.DeepEqual(contents(t, dir), before) {
			t.Errorf("%s: the folder has changed", name)
		}
	}
}

// TestCalibrateReadOnly: a folder that cannot be written is told before anything is measured.
func TestCalibrateReadOnly(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root writes everywhere")
	}
	dir, _ := quantisedTiny(t)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	_, err := Calibrate(t.Context(), dir, CalibrateOptions{Pictures: pictures(64, 1), Runner: runnerFunc(func() ([]map[string]Tensor, error) {
		t.Error("something was run")
		return nil, nil
	})})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "its folder cannot be written") {
		t.Errorf("error %v", err)
	}
}

// TestSweepGoesByTheDisk: even if the calibration that calls it believes to have failed.
func TestSweepGoesByTheDisk(t *testing.T) {
	dir, _ := quantisedTiny(t)
	if _, err := Calibrate(t.Context(), dir, CalibrateOptions{Pictures: pictures(64, 1), Runner: ortRunner{}}); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "reference.ffff.npz"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	sweep(dir)
	if !reflect.DeepEqual(contents(t, dir), before) {
		t.Error("it did not remove just what the manifest does not name")
	}
	edit(t, dir, `^format_version = 3`, `format_version = 4`)
	before = contents(t, dir)
	sweep(dir)
	if !reflect.DeepEqual(contents(t, dir), before) {
		t.Error("it removed files of a folder that it cannot read")
	}
}

// TestSplit: no frame is judged by that sets ranges, unless there are very few.
func TestSplit(t *testing.T) {
	for n := 1; n <= MaxCalibrationFrames; n++ {
		judging, fitting := split(n)
		all := slices.Concat(judging, fitting)
		slices.Sort(all)
		want := min(n/4, 16)
		if n < 8 {
			want = n
		}
		if len(judging) != want || len(all) != n || len(slices.Compact(all)) != n || !slices.IsSorted(judging) || !slices.IsSorted(fitting) {
			t.Fatalf("of %d frames: %v and %v", n, judging, fitting)
		}
	}
}

// TestCalibrateOverLeftovers: files that a killed calibration left, at any point, neither hurt nor stay.
func TestCalibrateOverLeftovers(t *testing.T) {
	dir, m := quantisedTiny(t)
	for _, name := range []string{".observed-123.onnx", ".encoder.qdq.onnx", "reference.new.npz", ".reference.new.npz.77.tmp", ".model.toml.99", "reference.ffff.npz", "encoder.qdq.ffff.onnx"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Verify(t.Context(), dir, nil); err != nil {
		t.Error(err)
	}
	if _, err := Calibrate(t.Context(), dir, CalibrateOptions{Pictures: pictures(64, 1), Runner: ortRunner{}}); err != nil {
		t.Fatal(err)
	}
	now, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{ManifestFile}
	for _, f := range now.Files() {
		want = append(want, f.Name)
	}
	slices.Sort(want)
	onlyEntry(t, dir, want...)
}

func TestCalibrateNeedsInt8(t *testing.T) {
	dir := importedTiny(t)
	_, err := Calibrate(t.Context(), dir, CalibrateOptions{Pictures: pictures(64, 1), Runner: ortRunner{}})
	if !errors.Is(err, ErrNoInt8) || !strings.Contains(err.Error(), "import the checkpoint again with --precision fp32,int8") {
		t.Errorf("error %v", err)
	}
	if _, err := Calibrate(t.Context(), filepath.Join(dir, "no"), CalibrateOptions{}); err == nil || !strings.Contains(err.Error(), "a model folder is made by: toklip model import") {
		t.Errorf("error %v", err)
	}
}
