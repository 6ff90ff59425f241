package model

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/synth"
)

const childVariable = "TOKLIP_TEST_IMPORT"

// TestImportChild is no test: it is what TestImportMemory runs in a process of its own.
func TestImportChild(t *testing.T) {
	file := os.Getenv(childVariable)
	if file == "" {
		t.Skip("part of TestImportMemory")
	}
	r, err := checkpoint.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	begin := time.Now()
	m, err := Import(t.Context(), r, filepath.Join(filepath.Dir(file), "model"), Options{Precisions: []string{FP32, FP16, Int8}, Runner: ortRunner{}, Overwrite: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("imported in %.1f s: int8 %+v, fp16 for TensorRT %+v, int8 for TensorRT %+v", time.Since(begin).Seconds(), *m.Int8, *m.FP16, *m.QDQ)
}

// TestImportMemory imports a full-size checkpoint of 4.6 GB, text tower included, in a process of its own, with
// fp16, int8 and their measurement, and looks at that process's peak of resident memory, mapped file pages included.
func TestImportMemory(t *testing.T) {
	if full := os.Getenv("TOKLIP_FULL"); full == "" || full == "0" || testing.Short() {
		t.Skip("takes 9 GB of disk and a minute; set TOKLIP_FULL=1")
	}
	config, err := synth.Preset("s256")
	if err != nil {
		t.Fatal(err)
	}
	r, err := synth.New(config, "", true)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s256.safetensors")
	if err := checkpoint.WriteSafetensorsFile(t.Context(), path, r, nil); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestImportChild$", "-test.v")
	c.Env = append(os.Environ(), childVariable+"="+path)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const limit = 1000 << 20
	peak := c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	t.Logf("peak of resident memory %d MiB\n%s", peak>>20, out)
	if peak > limit {
		t.Errorf("peak of resident memory is %d MiB, more than %d MiB", peak>>20, limit>>20)
	}
}
