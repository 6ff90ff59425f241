// Package kernels holds no code but tests of csrc/kernels: what the C++ computes is compared with Pillow's
// pictures, package preprocess, the reference's ids and api's packing, byte for byte.
//
// Each case goes through the kernels of the CPU; through the CUDA kernels and their launches over a libcuda for tests,
// which runs kernels.cu on the CPU (csrc/test/fake_cuda.cpp), once as a GPU with memory of its own and once as an
// integrated one; and through a GPU where TOKLIP_KERNELS_CHECK names a toklip_kernels_check that has kernels for it (make
// test-gpu).
package kernels

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/toklip/toklip/trt/trttest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gpuVariable names a toklip_kernels_check with CUDA kernels in it, to be run on this machine's GPU.
const gpuVariable = "TOKLIP_KERNELS_CHECK"

// checker is a running toklip_kernels_check.
type checker struct {
	in  *bufio.Writer
	out *bufio.Reader
	// few: what differs from the implementation before is little and this one slow: some cases will do.
	few bool
}

// eachChecker runs a test on every implementation of the kernels.
func eachChecker(t *testing.T, test func(*testing.T, *checker)) {
	program := trttest.Program(t, "toklip_kernels_check")
	fake := trttest.Program(t, "toklip_fake_cuda_new")
	run := func(name string, few bool, env []string, argv ...string) {
		t.Run(name, func(t *testing.T) {
			c := start(t, env, argv...)
			c.few = few
			test(t, c)
		})
	}
	run("cpu", false, nil, program)
	run("launches", false, nil, program, "--libcuda", fake)
	run("launches-integrated", true, []string{"TOKLIP_FAKE_CUDA_INTEGRATED=1"}, program, "--libcuda", fake)
	if gpu := os.Getenv(gpuVariable); gpu != "" {
		run("gpu", false, nil, gpu, "--gpu")
	}
}

func start(t *testing.T, env []string, argv ...string) *checker {
	t.Helper()
	// Not the test's own context: that ends before the program is asked to.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &checker{in: bufio.NewWriterSize(in, 1<<20), out: bufio.NewReaderSize(out, 1<<20)}
	t.Cleanup(func() {
		defer cancel()
		in.Close()
		rest, _ := io.Copy(io.Discard, c.out)
		if err := cmd.Wait(); err != nil || stderr.Len() > 0 || rest > 0 {
			t.Errorf("%v: %v, %d bytes too many, it said %q", argv, err, rest, stderr.String())
		}
	})
	return c
}

// refusal is an error of the C++ code.
type refusal struct {
	code    int32
	message string
}

func (r refusal) Error() string { return fmt.Sprintf("code %d: %s", r.code, r.message) }

// invalid is TOKLIP_TRT_INVALID.
const invalid = 1

// ask sends a request, numbers and slices of them, and reads the answer.
func (c *checker) ask(parts ...any) ([]byte, error) {
	for _, part := range parts {
		if err := binary.Write(c.in, binary.LittleEndian, part); err != nil {
			return nil, err
		}
	}
	if err := c.in.Flush(); err != nil {
		return nil, fmt.Errorf("the program ended: %w", err)
	}
	var head [2]int32
	if err := binary.Read(c.out, binary.LittleEndian, &head); err != nil {
		return nil, fmt.Errorf("the program ended: %w", err)
	}
	body := make([]byte, head[1])
	if _, err := io.ReadFull(c.out, body); err != nil {
		return nil, err
	}
	if head[0] != 0 {
		return nil, refusal{head[0], string(body)}
	}
	return body, nil
}

// numbers reads little-endian values.
func numbers[T int32 | uint64 | float32 | uint16](t *testing.T, b []byte) []T {
	t.Helper()
	out := make([]T, len(b)/binary.Size(*new(T)))
	if n, err := binary.Decode(b, binary.LittleEndian, out); err != nil || n != len(b) {
		t.Fatalf("%d bytes are no numbers: %v", len(b), err)
	}
	return out
}

// random repeats from run to run.
type random uint64

func (r *random) next() uint32 {
	*r ^= *r << 13
	*r ^= *r >> 7
	*r ^= *r << 17
	return uint32(*r >> 32)
}

func (r *random) below(n int) int      { return int(r.next() % uint32(n)) }
func (r *random) between(a, b int) int { return a + r.below(b-a+1) }
func (r *random) unit() float32        { return float32(r.next())*0x1p-31 - 1 }

func (r *random) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.next())
	}
	return b
}

func reference(t *testing.T, parts ...string) string {
	return filepath.Join(append([]string{trttest.Root(t), "testdata", "reference"}, parts...)...)
}
