package trt_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/trttest"
)

// TensorRT for RTX builds without a GPU: these tests make real engines of our graphs with it. It cannot load them here.

// openRTX opens TensorRT for RTX 1.7 through a shim that was compiled with headers of that or an older version.
func openRTX(t *testing.T, headers string) *trt.Library {
	t.Helper()
	lib, err := trt.Open(trt.Options{
		Shim:     trttest.RealShim(t, headers),
		TensorRT: trttest.Nvidia(t, "rtx-1.7", "lib", "libtensorrt_rtx.so.1"),
		Logger:   trttest.Logger(t, slog.LevelWarn),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lib.Close(); err != nil {
			t.Errorf("at the end of the test: %v", err)
		}
	})
	return lib
}

// TestProbeRTX: RTX is loaded without a GPU and tells its real version.
func TestProbeRTX(t *testing.T) {
	path := trttest.Nvidia(t, "rtx-1.7", "lib", "libtensorrt_rtx.so.1")
	l := trt.Probe(trt.Options{TensorRT: path}).Libraries[0]
	if l.Family != "rtx" || l.Version.Major != 1 || l.Version.Minor != 7 || !strings.HasPrefix(l.Path, filepath.Dir(path)) {
		t.Errorf("%+v", l)
	}
}

// TestRTXOpens reads what the library is, through shims of every minor version: 1.5 and later share an ABI.
func TestRTXOpens(t *testing.T) {
	for _, headers := range []string{"rtx-1.5", "rtx-1.6", "rtx-1.7"} {
		lib := openRTX(t, headers)
		info := lib.Info()
		if info.Family != "rtx" || info.Version != (trt.Version{Major: 1, Minor: 7, Patch: 1, Build: 116}) || "rtx-1."+string(rune('0'+info.Headers.Minor)) != headers {
			t.Errorf("through %s: %+v", headers, info)
		}
		if filepath.Base(info.Path) != "libtensorrt_rtx.so.1" || info.Kernels != "" {
			t.Errorf("through %s: %+v", headers, info)
		}
		_, err := lib.Device()
		noDevice(t, err)
	}
}

// noDevice checks the error of a machine without an NVIDIA driver.
func noDevice(t *testing.T, err error) {
	t.Helper()
	if _, stat := os.Stat("/dev/nvidiactl"); stat == nil {
		t.Skip("this machine has a GPU")
	}
	if !errors.Is(err, trt.ErrNoDevice) || !strings.Contains(err.Error(), "libcuda.so.1") || !strings.Contains(err.Error(), "Install the NVIDIA driver") {
		t.Errorf("without a driver: %v", err)
	}
}

// TestRTXBuildsTiny builds every graph of the tiny model and looks at what came out.
func TestRTXBuildsTiny(t *testing.T) {
	lib := openRTX(t, "rtx-1.7")
	dir, networks := graphs(t, "tiny")
	for _, n := range networks {
		t.Run(filepath.Base(n.file), func(t *testing.T) {
			described(t, lib, n)
			plan := build(t, lib, n.file, filepath.Join(t.TempDir(), "x.plan"), 4)
			// Beside the weights there is code for several GPUs.
			weights := size(t, n.weights)
			if s := int64(len(plan)); s > weights+16<<20 || s < weights/2 {
				t.Errorf("the plan has %d bytes, the weights %d", s, weights)
			}
			t.Logf("weights %d bytes, plan %d bytes", weights, len(plan))
		})
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.plan*")); err != nil || len(left) > 0 {
		t.Errorf("left in the model's folder: %v, %v", left, err)
	}
}

// described compares TensorRT's reading of a graph with what the graph is.
func described(t *testing.T, lib *trt.Library, n network) trt.Network {
	t.Helper()
	have, err := lib.Network(n.file)
	if err != nil {
		t.Fatal(err)
	}
	sameTensors(t, "inputs", have.Inputs, n.inputs)
	sameTensors(t, "outputs", have.Outputs, n.outputs)
	if have.Layers < 20 {
		t.Errorf("%d layers", have.Layers)
	}
	return have
}

// build builds a plan for batches of 1 to batch and checks its progress and header.
func build(t *testing.T, lib *trt.Library, onnx, plan string, batch int) []byte {
	t.Helper()
	o := trt.DefaultBuildOptions()
	o.ONNX, o.Plan, o.BatchMax = onnx, plan, batch
	var last trt.Progress
	var phases []string
	begin := time.Now()
	err := lib.Build(t.Context(), o, func(p trt.Progress) {
		if p.Fraction < last.Fraction || p.Fraction > 1 {
			t.Errorf("progress goes from %v to %v", last, p)
		}
		if p.Phase != last.Phase {
			phases = append(phases, p.Phase)
		}
		last = p
	})
	if err != nil {
		t.Fatal(err)
	}
	if last.Fraction != 1 || len(phases) == 0 {
		t.Errorf("progress ended at %v, phases %q", last, phases)
	}
	t.Logf("%s: %.2f s, phases %q", filepath.Base(onnx), time.Since(begin).Seconds(), phases)
	b, err := os.ReadFile(plan)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 64 || string(b[:4]) != "vtrt" || !bytes.Equal(b[24:28], []byte{1, 7, 1, 116}) {
		t.Errorf("the plan begins with %q, its version is %v", b[:min(4, len(b))], b[24:min(28, len(b))])
	}
	if left, err := filepath.Glob(plan + ".*"); err != nil || len(left) > 0 {
		t.Errorf("left beside the plan: %v, %v", left, err)
	}
	return b
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// buildVariable holds ONNX file and plan for TestRTXBuildChild.
const buildVariable = "TOKLIP_TEST_RTX_BUILD"

// TestRTXBuildChild is no test but the process in which TestRTXRepeats builds.
func TestRTXBuildChild(t *testing.T) {
	onnx, plan, ok := strings.Cut(os.Getenv(buildVariable), ":")
	if !ok {
		t.Skip("runs in a process of its own, see TestRTXRepeats")
	}
	build(t, openRTX(t, "rtx-1.7"), onnx, plan, 1)
}

// TestRTXRepeats builds the same graph in two processes, as the daemon does: the plans are of the same size. (They are often the
// same to the byte, but not always: values inside may be numbered differently.)
func TestRTXRepeats(t *testing.T) {
	_, networks := graphs(t, "tiny", "encoder.fp16.onnx", "tokenizer.fp16.onnx")
	for _, n := range networks {
		var sizes [2]int64
		for i := range sizes {
			plan := filepath.Join(t.TempDir(), "x.plan")
			c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRTXBuildChild$", "-test.v")
			c.Env = append(os.Environ(), buildVariable+"="+n.file+":"+plan)
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			sizes[i] = size(t, plan)
		}
		if small, large := min(sizes[0], sizes[1]), max(sizes[0], sizes[1]); small < large-large/100 {
			t.Errorf("two builds of %s have %d and %d bytes", n.file, sizes[0], sizes[1])
		}
	}
}

// TestRTXTargets builds for one GPU, for several, and for those it cannot.
func TestRTXTargets(t *testing.T) {
	lib := openRTX(t, "rtx-1.7")
	dir, networks := graphs(t, "tiny", "encoder.fp16.onnx")
	o := trt.DefaultBuildOptions()
	o.ONNX, o.Plan = networks[0].file, filepath.Join(dir, "x.plan")
	plans := map[string][]int{"portable": nil, "one": {86}, "two": {86, 120}}
	hashes := map[[32]byte]string{}
	for name, sms := range plans {
		o.ComputeCapabilities = sms
		if err := lib.Build(t.Context(), o, nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := os.ReadFile(o.Plan)
		if err != nil {
			t.Fatal(err)
		}
		hash := sha256.Sum256(b)
		if same := hashes[hash]; same != "" {
			t.Errorf("plans %s and %s are equal", name, same)
		}
		hashes[hash] = name
	}
	before, err := os.ReadFile(o.Plan)
	if err != nil {
		t.Fatal(err)
	}
	o.ComputeCapabilities = []int{87}
	err = lib.Build(t.Context(), o, nil)
	if !errors.Is(err, trt.ErrUnsupported) || !strings.Contains(err.Error(), "87") {
		t.Errorf("for sm_87: %v", err)
	}
	if after, err := os.ReadFile(o.Plan); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a failed build changed the plan that was there: %v", err)
	}
}

// TestRTXRefusesOptions asks for what TensorRT for RTX does not have.
func TestRTXRefusesOptions(t *testing.T) {
	lib := openRTX(t, "rtx-1.7")
	for want, change := range map[string]func(*trt.BuildOptions){
		"DLA":                  func(o *trt.BuildOptions) { o.DLACore = 0 },
		"version_compatible":   func(o *trt.BuildOptions) { o.VersionCompatible = true },
		"compute_capabilities": func(o *trt.BuildOptions) { o.Compatibility = trt.AmperePlus },
	} {
		o := trt.DefaultBuildOptions()
		o.ONNX, o.Plan = "x.onnx", filepath.Join(t.TempDir(), "x.plan")
		change(&o)
		if err := lib.Build(t.Context(), o, nil); !errors.Is(err, trt.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("want unsupported with %q: %v", want, err)
		}
	}
}

// TestRTXRefusesModels builds from files that are no graphs, and from one with a type that the GPU asked for lacks.
func TestRTXRefusesModels(t *testing.T) {
	lib := openRTX(t, "rtx-1.7")
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	try := func(onnx string, sms []int) error {
		o := trt.DefaultBuildOptions()
		o.ONNX, o.Plan, o.ComputeCapabilities = onnx, filepath.Join(dir, "out.plan"), sms
		err := lib.Build(t.Context(), o, nil)
		if _, stat := os.Stat(o.Plan); err != nil && stat == nil {
			t.Errorf("%s: a plan was left", onnx)
		}
		return err
	}
	missing := filepath.Join(dir, "missing.onnx")
	if err := try(missing, nil); !errors.Is(err, trt.ErrFile) || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("missing file: %v", err)
	}
	if err := try(dir, nil); !errors.Is(err, trt.ErrFile) || !strings.Contains(err.Error(), "not a file") {
		t.Errorf("folder: %v", err)
	}
	garbage := file("garbage.onnx", []byte("this is no model"))
	if err := try(garbage, nil); !errors.Is(err, trt.ErrBadModel) || !strings.Contains(err.Error(), garbage) {
		t.Errorf("garbage: %v", err)
	}
	unknown := file("unknown.onnx", oneNode(17, "Frobnicate", "frob", onnxFloat))
	if err := try(unknown, nil); !errors.Is(err, trt.ErrBadModel) || !strings.Contains(err.Error(), "Frobnicate") || !strings.Contains(err.Error(), "frob") {
		t.Errorf("unknown operator: %v", err)
	}
	if err := try(file("relu.onnx", oneNode(17, "Relu", "relu", onnxFloat)), nil); err != nil {
		t.Errorf("a graph of one node: %v", err)
	}
	os.Remove(filepath.Join(dir, "out.plan"))
	fp8 := file("fp8.onnx", quantisedProduct(onnxFloat8E4M3))
	if err := try(fp8, []int{89}); err != nil {
		t.Errorf("fp8 for sm_89: %v", err)
	}
	os.Remove(filepath.Join(dir, "out.plan"))
	if err := try(fp8, []int{86}); !errors.Is(err, trt.ErrBadModel) || !strings.Contains(err.Error(), "fp8") {
		t.Errorf("fp8 for sm_86: %v", err)
	}
	if err := try(file("int8.onnx", quantisedProduct(onnxInt8)), []int{86}); err != nil {
		t.Errorf("int8 for sm_86: %v", err)
	}
}

// TestRTXCancel ends a build in the middle.
func TestRTXCancel(t *testing.T) {
	lib := openRTX(t, "rtx-1.7")
	dir, networks := graphs(t, "tiny", "decoder.onnx")
	o := trt.DefaultBuildOptions()
	o.ONNX, o.Plan = networks[0].file, filepath.Join(dir, "x.plan")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	reason := errors.New("the user lost patience")
	err := lib.Build(ctx, o, func(trt.Progress) { cancel(reason) })
	if !errors.Is(err, trt.ErrCancelled) || !errors.Is(err, reason) {
		t.Errorf("cancelled build: %v", err)
	}
	if left, err := filepath.Glob(o.Plan + "*"); err != nil || len(left) > 0 {
		t.Errorf("left by a cancelled build: %v, %v", left, err)
	}
	// The library is none the worse for it.
	build(t, lib, networks[0].file, o.Plan, 1)
}

// TestRTXFiles builds into a folder that is not there.
func TestRTXFiles(t *testing.T) {
	lib := openRTX(t, "rtx-1.7")
	_, networks := graphs(t, "tiny", "encoder.fp16.onnx")
	o := trt.DefaultBuildOptions()
	o.ONNX, o.Plan = networks[0].file, filepath.Join(t.TempDir(), "missing", "x.plan")
	if err := lib.Build(t.Context(), o, nil); !errors.Is(err, trt.ErrFile) || !strings.Contains(err.Error(), o.Plan) {
		t.Errorf("no folder for the plan: %v", err)
	}
}

// TestRTXRefusesPlans loads plans that cannot be: what is wrong with them is told without a GPU. A good one fails for
// want of it.
func TestRTXRefusesPlans(t *testing.T) {
	lib := openRTX(t, "rtx-1.7")
	_, networks := graphs(t, "tiny", "encoder.fp16.onnx")
	plan := build(t, lib, networks[0].file, filepath.Join(t.TempDir(), "x.plan"), 4)
	change := func(at int, b ...byte) []byte {
		out := bytes.Clone(plan)
		copy(out[at:], b)
		return out
	}
	for name, c := range map[string]struct {
		plan []byte
		want string
	}{
		"cut short":        {plan[:20], "cut off"},
		"garbage":          {bytes.Repeat([]byte("garbage!"), 1000), "no plan"},
		"older version":    {change(25, 6), "1.6.1.116"},
		"other TensorRT":   {change(0, []byte("ftrt")...), "TensorRT 1.7.1.116"},
		"of TensorRT 10.3": {change(24, 10, 3, 0, 30), "10.3.0.30"},
	} {
		if _, err := lib.Load(c.plan, -1); !errors.Is(err, trt.ErrBadPlan) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want a bad plan with %q: %v", name, c.want, err)
		}
	}
	_, err := lib.Load(plan, -1)
	noDevice(t, err)
}

// TestFullRTX builds the tokenizer and the encoder of the 256 px model in fp16.
func TestFullRTX(t *testing.T) {
	requireFull(t)
	lib := openRTX(t, "rtx-1.7")
	_, networks := graphs(t, "s256", "tokenizer.fp16.onnx", "encoder.fp16.onnx")
	for _, n := range networks {
		t.Run(filepath.Base(n.file), func(t *testing.T) {
			layers := described(t, lib, n).Layers
			plan := build(t, lib, n.file, filepath.Join(t.TempDir(), "x.plan"), 4)
			weights := size(t, n.weights)
			t.Logf("%d layers, weights %.1f MB, plan %.1f MB", layers, float64(weights)/1e6, float64(len(plan))/1e6)
			if s := int64(len(plan)); s < weights*9/10 || s > weights+32<<20 {
				t.Errorf("the plan has %d bytes, the weights %d", s, weights)
			}
		})
	}
}
