package kernels

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/toklip/toklip/trt/trttest"
)

// TestCompile compiles the CUDA kernels for Orin, Hopper and Thor, as a build does, warnings as errors, and looks at
// what the compiler says of them: none may spill registers, and all must fit the shared memory that every GPU has.
func TestCompile(t *testing.T) {
	root, nvcc := trttest.Root(t), trttest.Nvidia(t, "cuda-13.0", "bin", "nvcc")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	dir := t.TempDir()
	var out string
	for _, args := range [][]string{
		{"-S", filepath.Join(root, "csrc"), "-B", dir, "-DTOKLIP_TRT_SHIM=OFF", "-DTOKLIP_TRT_TESTS=ON", "-DTOKLIP_NVCC=" + nvcc, "-DTOKLIP_CUDA_ARCHS=87;90;110"},
		{"--build", dir, "--target", "toklip_kernel_image"},
	} {
		cmd := exec.CommandContext(ctx, "cmake", args...)
		cmd.Env = append(os.Environ(), "NVCC_APPEND_FLAGS=-Xptxas -v")
		text, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("cmake %s: %v\n%s", strings.Join(args, " "), err, text)
		}
		out = string(text)
	}
	image, err := os.Stat(filepath.Join(dir, "kernels", "kernels.fatbin"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the image has %d bytes", image.Size())

	entry := regexp.MustCompile(`Compiling entry function '(\w+)' for '(\w+)'`)
	figure := regexp.MustCompile(`(\d+) (bytes spill stores|bytes spill loads|registers|bytes smem)`)
	seen := map[string]int{}
	var name string
	for line := range strings.Lines(out) {
		if m := entry.FindStringSubmatch(line); m != nil {
			name = m[1] + " for " + m[2]
			seen[m[2]]++
		}
		for _, m := range figure.FindAllStringSubmatch(line, -1) {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case strings.HasPrefix(m[2], "bytes spill") && n > 0:
				t.Errorf("%s: %s", name, m[0])
			// Two blocks of 256 threads must find room on a multiprocessor of 65536 registers.
			case m[2] == "registers" && n > 128, m[2] == "bytes smem" && n > 48<<10:
				t.Errorf("%s: %s", name, m[0])
			}
			if m[2] == "registers" {
				t.Log(name, strings.TrimSpace(line))
			}
		}
	}
	for _, sm := range []string{"sm_87", "sm_90", "sm_110"} {
		if seen[sm] != 11 {
			t.Errorf("%s: %d kernels were compiled, want 11", sm, seen[sm])
		}
	}
}
