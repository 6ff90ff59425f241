package trt_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/trttest"
)

// The ONNX parser of TensorRT 10.15 reads our graphs without a GPU, where TensorRT is told to do without; it
// cannot build then. That goes for the whole process and may end it, so it has one of its own.

// parserVariable holds the ONNX files for TestParserChild, answersVariable the file for what it finds out.
const (
	parserVariable  = "TOKLIP_TEST_PARSER"
	answersVariable = "TOKLIP_TEST_ANSWERS"
)

// answer is what TestParserChild found out about a file.
type answer struct {
	Network trt.Network `json:"network"`
	Code    trt.Code    `json:"code"`
	Message string      `json:"message"`
}

func openTensorRT10(t *testing.T, cpuOnly bool) (*trt.Library, error) {
	t.Helper()
	return trt.Open(trt.Options{
		Shim:     trttest.RealShim(t, "trt-10.16"),
		TensorRT: trttest.Nvidia(t, "trt-10.15", "lib", "libnvinfer.so.10"),
		CPUOnly:  cpuOnly,
	})
}

// TestParserChild is no test but the process in which parse reads files.
func TestParserChild(t *testing.T) {
	files := os.Getenv(parserVariable)
	if files == "" {
		t.Skip("runs in a process of its own, see parse")
	}
	lib, err := openTensorRT10(t, true)
	if err != nil {
		t.Fatal(err)
	}
	var answers []answer
	for _, file := range strings.Split(files, ":") {
		var a answer
		a.Network, err = lib.Network(file)
		if e := (*trt.Error)(nil); errors.As(err, &e) {
			a.Code, a.Message = e.Code, e.Message
		} else if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
	o := trt.DefaultBuildOptions()
	o.ONNX, o.Plan = "x.onnx", filepath.Join(t.TempDir(), "x.plan")
	if err := lib.Build(t.Context(), o, nil); !errors.Is(err, trt.ErrUnsupported) || !strings.Contains(err.Error(), "cpu_only") {
		t.Errorf("a build without GPU: %v", err)
	}
	if err := lib.Close(); err != nil {
		t.Error(err)
	}
	b, err := json.Marshal(answers)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(os.Getenv(answersVariable), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// parse lets TensorRT 10.15 read ONNX files.
func parse(t *testing.T, files ...string) []answer {
	t.Helper()
	out := filepath.Join(t.TempDir(), "answers")
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestParserChild$", "-test.v")
	c.Env = append(os.Environ(), parserVariable+"="+strings.Join(files, ":"), answersVariable+"="+out)
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var answers []answer
	if err := json.Unmarshal(b, &answers); err != nil {
		t.Fatal(err)
	}
	if len(answers) != len(files) {
		t.Fatalf("%d answers about %d files", len(answers), len(files))
	}
	return answers
}

// TestParserReadsTiny has every graph of the tiny model read.
func TestParserReadsTiny(t *testing.T) {
	_, networks := graphs(t, "tiny")
	readAll(t, networks)
}

// TestFullParser has the graphs of the 256 px model read that a GPU will run.
func TestFullParser(t *testing.T) {
	requireFull(t)
	_, networks := graphs(t, "s256", "tokenizer.fp16.onnx", "encoder.fp16.onnx", "encoder.qdq.onnx")
	readAll(t, networks)
}

func readAll(t *testing.T, networks []network) {
	t.Helper()
	var files []string
	for _, n := range networks {
		files = append(files, n.file)
	}
	for i, a := range parse(t, files...) {
		name := filepath.Base(files[i])
		if a.Code != 0 {
			t.Errorf("%s: %v", name, a.Message)
			continue
		}
		sameTensors(t, name+" inputs", a.Network.Inputs, networks[i].inputs)
		sameTensors(t, name+" outputs", a.Network.Outputs, networks[i].outputs)
		if a.Network.Layers < 20 {
			t.Errorf("%s has %d layers", name, a.Network.Layers)
		}
		t.Logf("%s: %d layers", name, a.Network.Layers)
	}
}

// TestParserRefuses has files read that are no graphs for it.
func TestParserRefuses(t *testing.T) {
	dir := t.TempDir()
	unknown := filepath.Join(dir, "unknown.onnx")
	if err := os.WriteFile(unknown, oneNode(17, "Frobnicate", "frob", onnxFloat), 0o644); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing.onnx")
	answers := parse(t, unknown, missing)
	if a := answers[0]; a.Code != trt.ErrBadModel || !strings.Contains(a.Message, "Frobnicate") || !strings.Contains(a.Message, "node 0 frob") {
		t.Errorf("unknown operator: %v %s", a.Code, a.Message)
	}
	if a := answers[1]; a.Code != trt.ErrFile || !strings.Contains(a.Message, missing) {
		t.Errorf("missing file: %v %s", a.Code, a.Message)
	}
}

// TestTensorRT10WithoutGPU asks TensorRT 10 for what needs a GPU: it must not be asked itself, since it crashes.
func TestTensorRT10WithoutGPU(t *testing.T) {
	lib, err := openTensorRT10(t, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lib.Close(); err != nil {
			t.Error(err)
		}
	}()
	info := lib.Info()
	if info.Family != "trt10" || info.Version != (trt.Version{Major: 10, Minor: 15, Patch: 1, Build: 29}) || info.Headers.Minor != 16 {
		t.Errorf("%+v", info)
	}
	_, err = lib.Device()
	noDevice(t, err)
	_, err = lib.Network("x.onnx")
	noDevice(t, err)
	o := trt.DefaultBuildOptions()
	o.ONNX, o.Plan = "x.onnx", "x.plan"
	noDevice(t, lib.Build(t.Context(), o, nil))
	plan := make([]byte, 64)
	copy(plan, "ftrt")
	copy(plan[24:], []byte{10, 15, 1, 29})
	_, err = lib.Load(plan, -1)
	noDevice(t, err)
	plan[25] = 16
	if _, err := lib.Load(plan, -1); !errors.Is(err, trt.ErrBadPlan) || !strings.Contains(err.Error(), "10.16.1.29") {
		t.Errorf("a plan of a later version: %v", err)
	}
	o.ComputeCapabilities = []int{87}
	if err := lib.Build(t.Context(), o, nil); !errors.Is(err, trt.ErrUnsupported) || !strings.Contains(err.Error(), "compute_capabilities") {
		t.Errorf("a build for another GPU: %v", err)
	}
}

// TestOpenRefuses opens what is not there or of another kind.
func TestOpenRefuses(t *testing.T) {
	rtx := trttest.Nvidia(t, "rtx-1.7", "lib", "libtensorrt_rtx.so.1")
	ten := trttest.Nvidia(t, "trt-10.15", "lib", "libnvinfer.so.10")
	for name, c := range map[string]struct {
		shim, library string
		code          trt.Code
		want          []string
	}{
		"RTX through the shim of 10": {"trt-10.16", rtx, trt.ErrWrongVersion, []string{"TensorRT for RTX 1.7.1.116", "TensorRT 10"}},
		"10 through the shim of RTX": {"rtx-1.7", ten, trt.ErrWrongVersion, []string{"TensorRT 10.15.1.29", "TensorRT for RTX 1.5"}},
		"10 through the shim of 11":  {"trt-11.4", ten, trt.ErrWrongVersion, []string{"TensorRT 10.15.1.29", "TensorRT 11"}},
		"nothing there":              {"trt-10.16", "/missing/libnvinfer.so.10", trt.ErrNoLibrary, []string{"/missing/libnvinfer.so.10"}},
	} {
		lib, err := trt.Open(trt.Options{Shim: trttest.RealShim(t, c.shim), TensorRT: c.library})
		if err == nil {
			t.Errorf("%s: it opens", name)
			lib.Close()
			continue
		}
		if !errors.Is(err, c.code) {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: want %q in: %v", name, w, err)
			}
		}
	}
}

// TestParserMissing parses with a library whose parser is not installed.
func TestParserMissing(t *testing.T) {
	lib, err := trt.Open(trt.Options{
		Shim:     trttest.RealShim(t, "rtx-1.7"),
		TensorRT: trttest.Nvidia(t, "rtx-1.7", "lib", "libtensorrt_rtx.so.1"),
		Parser:   "/missing/parser.so",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer lib.Close()
	file := filepath.Join(t.TempDir(), "x.onnx")
	if err := os.WriteFile(file, oneNode(17, "Relu", "relu", onnxFloat), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := lib.Network(file); !errors.Is(err, trt.ErrNoLibrary) || !strings.Contains(err.Error(), "/missing/parser.so") {
		t.Errorf("%v", err)
	}
}

// TestExample runs the C program over the C ABI.
func TestExample(t *testing.T) {
	describe := trttest.RealExample(t, "rtx-1.7")
	library := trttest.Nvidia(t, "rtx-1.7", "lib", "libtensorrt_rtx.so.1")
	_, networks := graphs(t, "tiny", "encoder.onnx")
	code, out, errs := exitCode(t, describe, "-l", library, networks[0].file)
	if code != 0 {
		t.Errorf("exit code %d: %s", code, errs)
	}
	for _, want := range []string{"family: rtx\n", "library: " + library + "\n", "version: 1.7.1.116\n", "headers: 1.7.1\n", "device: ", `{"name":"ids","type":"int32","shape":[-1,16]}`} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	code, _, errs = exitCode(t, describe, "-l", "/missing/lib.so")
	if code != 1 || !strings.Contains(errs, "open: error 3: ") || !strings.Contains(errs, "/missing/lib.so") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	code, _, errs = exitCode(t, describe, "-l", trttest.RealShim(t, "rtx-1.7"))
	if code != 1 || !strings.Contains(errs, "open: error 4: ") || !strings.Contains(errs, "is not TensorRT") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	code, _, errs = exitCode(t, describe, "-l", library, "/dev/null")
	if code != 1 || !strings.Contains(errs, "/dev/null: error 14: ") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if code, _, errs = exitCode(t, describe, "-z"); code != 1 || !strings.Contains(errs, "usage: ") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
