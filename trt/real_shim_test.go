package trt_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/trt/trttest"
)

// headerSets are the versions of TensorRT's headers that are fetched: the shim is compiled against each. It was
// tried by hand against more, see docs/status.md.
var headerSets = []string{"trt-10.16", "trt-11.0", "trt-11.4", "rtx-1.5", "rtx-1.6", "rtx-1.7"}

// warnings are those of csrc/CMakeLists.txt, whose line this is checked against.
var warnings = []string{"-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror", "-Wnon-virtual-dtor", "-Woverloaded-virtual"}

// TestShimCompiles compiles all that depends on TensorRT's headers against every set of them, for this machine and for
// Jetson, with warnings as errors, and looks at what the object wants from others: nothing of NVIDIA's.
func TestShimCompiles(t *testing.T) {
	csrc := filepath.Join(trttest.Root(t), "csrc")
	lists, err := os.ReadFile(filepath.Join(csrc, "CMakeLists.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		if !bytes.Contains(lists, []byte(w)) {
			t.Errorf("csrc/CMakeLists.txt does not have %s", w)
		}
	}
	unit := unity(t, csrc)
	compilers := []string{"g++"}
	if runtime.GOARCH == "amd64" {
		compilers = append(compilers, "aarch64-linux-gnu-g++")
	}
	for _, headers := range headerSets {
		dir := trttest.Nvidia(t, "headers", headers)
		for _, compiler := range compilers {
			t.Run(headers+"/"+compiler, func(t *testing.T) {
				t.Parallel()
				object := filepath.Join(t.TempDir(), "shim.o")
				// Deprecated things are used on purpose, see csrc/tensorrt/CMakeLists.txt.
				args := append([]string{"-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wno-deprecated-declarations",
					"-I", csrc, "-I", filepath.Join(csrc, "include"), "-isystem", dir, "-isystem", filepath.Join(csrc, "tensorrt", "stub"),
					"-c", unit, "-o", object}, warnings...)
				if out := run(t, compiler, args...); out != "" {
					t.Errorf("%s says:\n%s", compiler, out)
				}
				noNvidia(t, run(t, "nm", "-uC", object))
			})
		}
	}
}

// unity is a file that includes every source of csrc/tensorrt: the headers, which take longest, are read once.
func unity(t *testing.T, csrc string) string {
	t.Helper()
	sources, err := filepath.Glob(filepath.Join(csrc, "tensorrt", "*.cpp"))
	if err != nil || len(sources) < 5 {
		t.Fatalf("sources %v, %v", sources, err)
	}
	var text strings.Builder
	for _, s := range sources {
		fmt.Fprintf(&text, "#include %q\n", s)
	}
	path := filepath.Join(t.TempDir(), "unity.cpp")
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// foreign matches symbols of NVIDIA's libraries, as nm writes them.
var foreign = regexp.MustCompile(`\b(nvinfer1|nvonnxparser|createInfer\w*|createNv\w*|getInfer\w*|getPlugin\w*|initLibNv\w*|cuda[A-Z]\w*|cu[A-Z][a-z]\w*)\b`)

func noNvidia(t *testing.T, symbols string) {
	t.Helper()
	for line := range strings.Lines(symbols) {
		if foreign.MatchString(line) {
			t.Errorf("undefined symbol of NVIDIA's: %s", strings.TrimSpace(line))
		}
	}
}

// TestShimExports builds one shim of each family and looks at its tables: exactly the functions of the header
// come out, nothing of NVIDIA's is wanted, and nothing but the C and C++ libraries is needed.
func TestShimExports(t *testing.T) {
	header, err := os.ReadFile(filepath.Join(trttest.Root(t), "csrc", "include", "toklip_trt.h"))
	if err != nil {
		t.Fatal(err)
	}
	// With its comments away, the names before an open bracket that follow TOKLIP_TRT_API.
	text := regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAllString(string(header), "")
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^TOKLIP_TRT_API[^(;]*?\b(toklip_trt_\w+)\s*\(`).FindAllStringSubmatch(text, -1) {
		want = append(want, m[1])
	}
	slices.Sort(want)
	if len(want) < 25 {
		t.Fatalf("only %d functions found in the header: %v", len(want), want)
	}
	for _, headers := range []string{"trt-10.16", "trt-11.4", "rtx-1.7"} {
		shim := trttest.RealShim(t, headers)
		var have []string
		for line := range strings.Lines(run(t, "nm", "-D", "--defined-only", shim)) {
			have = append(have, strings.Fields(line)[2])
		}
		slices.Sort(have)
		if !slices.Equal(have, want) {
			t.Errorf("%s exports\n%v\nthe header declares\n%v", shim, have, want)
		}
		noNvidia(t, run(t, "nm", "-DuC", shim))
		for _, m := range regexp.MustCompile(`NEEDED.*\[(.*)\]`).FindAllStringSubmatch(run(t, "readelf", "-d", shim), -1) {
			if !regexp.MustCompile(`^(libstdc\+\+|libm|libgcc_s|libc|libdl|libpthread|librt|ld-linux.*)\.so\.\d$`).MatchString(m[1]) {
				t.Errorf("%s needs %s", shim, m[1])
			}
		}
	}
}

// TestHeaderIsC compiles the header alone as C11, as C++17 and as the oldest C that has its types.
func TestHeaderIsC(t *testing.T) {
	include := filepath.Join(trttest.Root(t), "csrc", "include")
	path := filepath.Join(t.TempDir(), "header")
	if err := os.WriteFile(path, []byte("#include \"toklip_trt.h\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"gcc", "-x", "c", "-std=c11"}, {"gcc", "-x", "c", "-std=c99"}, {"g++", "-x", "c++", "-std=c++17"}} {
		args = append(args, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", include, "-fsyntax-only", path)
		if out := run(t, args[0], args[1:]...); out != "" {
			t.Errorf("%v says:\n%s", args, out)
		}
	}
}

// run runs a program and returns its output; the test fails if the program does.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// exitCode runs a program and returns its exit code, standard output and standard error.
func exitCode(t *testing.T, name string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}
