package gpu

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/api"
)

// TestFirstStart builds engines while ONNX Runtime serves, swaps without losing a frame, and loads what is cached at the
// second start.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.order("build slow=1500 *")
	n.start()
	building := n.state("building, and part of it is done", func(s api.State) bool {
		return s.State == api.StateBuildingEngine && s.Progress != nil && s.Progress.Done > 0 && s.Progress.LeftNS > 0
	})
	if p := building.Progress; !strings.Contains(p.Step, "building the ") || p.Done > 1 || p.ElapsedNS <= 0 || !strings.Contains(building.Reason, "onnxruntime serves meanwhile") {
		t.Errorf("while building: %q, %+v", building.Reason, p)
	}
	if nice, err := os.ReadFile("/proc/" + strconv.Itoa(n.builder()) + "/stat"); err == nil {
		if fields := strings.Fields(string(nice[strings.LastIndexByte(string(nice), ')')+1:])); len(fields) > 16 && fields[16] != "10" {
			t.Errorf("the building process has nice value %s, want 10", fields[16])
		}
	}
	n.served("onnxruntime", 5)
	if info := n.info(); info.Backend != "onnxruntime" || len(info.Engines) != 0 || info.Agreement != nil {
		t.Errorf("while building, info says %+v", info)
	}
	n.comesTo(api.StateReady, "")
	n.served("tensorrt", 20)
	info := n.info()
	if info.Backend != "tensorrt" || info.Precision != "fp32" || info.Device == "" || len(info.Engines) != 2 || info.Agreement == nil ||
		info.Agreement.Tokens < 0.99 || info.Agreement.FeatureCosine < 0.999 || info.Agreement.EmbeddingCosine < 0.999 || info.Agreement.Frames < 1 {
		t.Errorf("after the swap, info says %s", n.seen.last("info"))
	}
	frames, drops := n.seen.accounted(t)
	if drops["failed"]+drops["invalid"]+drops["closed"] > 0 {
		t.Errorf("the swap cost frames: %v", drops)
	}
	swapped := slices.IndexFunc(frames, func(f frame) bool { return f.Header.Backend == "tensorrt" })
	if swapped < 1 {
		t.Fatalf("frame %d is the first of TensorRT", swapped)
	}
	last := 0.0
	for _, s := range n.seen.states() {
		if s.Progress != nil {
			if s.Progress.Done < last {
				t.Errorf("progress fell from %g to %g", last, s.Progress.Done)
			}
			last = s.Progress.Done
		}
	}
	n.stop()

	// The engines are there, with their report.
	out, err := n.command("engine", "list", "--json", "--cache-dir", filepath.Join(n.dir, "engines"))
	var list []struct {
		ID     string `json:"id"`
		Role   string `json:"role"`
		Report *struct {
			Passed bool `json:"passed"`
		} `json:"report"`
		Problem string `json:"problem"`
	}
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list) != 2 || list[0].Problem != "" || list[0].Report == nil || !list[0].Report.Passed {
		t.Errorf("engine list: %v %s", err, out)
	}

	// The second start takes them at once, and ONNX Runtime's weights are never read.
	n.order("build bad-model *")
	n.start()
	n.served("tensorrt", 3)
	n.comesTo(api.StateReady, "")
	if n.seen.count("onnxruntime") != 0 || strings.Contains(n.daemon.Out.String(), "backend=onnxruntime") {
		t.Errorf("with engines in the cache, ONNX Runtime was loaded:\n%s", n.daemon.Out)
	}
	n.stop()
}

// TestTokensAreThoseOfEncode holds what TensorRT publishes against ONNX Runtime's: the goldens' way through the daemon.
func TestTokensAreThoseOfEncode(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.trts += "in_flight = 2\n"
	photo := filepath.Join(t.TempDir(), "photos")
	if err := os.Mkdir(photo, 0o755); err != nil {
		t.Fatal(err)
	}
	picture, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "testdata", "reference", "images", "coffee.png"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(photo, "coffee.png")
	if err := os.WriteFile(file, picture, 0o644); err != nil {
		t.Fatal(err)
	}
	n.source = "images://" + photo + "?fps=10&loop=true"
	n.start()
	n.served("tensorrt", 10)
	want := map[string][]int32{}
	for _, backend := range []string{"onnxruntime", "tensorrt"} {
		args := []string{"encode", "--model", made.model, "--precision", "fp32", "--backend", backend, "--shim", n.shim, "--cache-dir", filepath.Join(n.dir, "engines"), file}
		cmd := exec.Command(n.toklip, args...)
		cmd.Env = n.env
		out, err := cmd.Output()
		var line struct {
			Tokens []int32 `json:"tokens"`
		}
		if err != nil || json.Unmarshal(out, &line) != nil || len(line.Tokens) != 16 {
			t.Fatalf("toklip %s: %v %s", strings.Join(args, " "), err, out)
		}
		want[backend] = line.Tokens
	}
	if !slices.Equal(want["onnxruntime"], want["tensorrt"]) {
		t.Errorf("encode: tokens %v on ONNX Runtime, %v on TensorRT", want["onnxruntime"], want["tensorrt"])
	}
	frames, _ := n.seen.accounted(t)
	reused := 0
	for _, f := range frames {
		if !slices.Equal(f.Tokens, want["onnxruntime"]) {
			t.Fatalf("frame %d of %s: tokens %v, encode says %v", f.Header.Sequence, f.Header.Backend, f.Tokens, want["onnxruntime"])
		}
		if f.Header.Backend == "tensorrt" && f.Header.Reused {
			reused++
		}
	}
	if reused == 0 {
		t.Error("TensorRT's encoder ran for every frame of a still picture")
	}
	n.stop()
}

// TestStopWhileBuilding ends the daemon, in order and by force, while the building process does not listen: it ends, too.
func TestStopWhileBuilding(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.order("build hang *")
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		n.start()
		n.state("building", func(s api.State) bool { return s.State == api.StateBuildingEngine })
		builder := 0
		n.wait("a building process", func() bool {
			builder = n.builder()
			return builder != 0
		})
		n.served("onnxruntime", 1)
		if signal == syscall.SIGTERM {
			n.stop()
		} else if err := n.daemon.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(promised); ; time.Sleep(10 * time.Millisecond) {
			if !alive(builder) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("after %v the building process %d goes on", signal, builder)
			}
		}
		<-n.daemon.Ended
	}
}

// alive reports whether a process runs and is no zombie.
func alive(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	rest := strings.TrimSpace(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	return !strings.HasPrefix(rest, "Z")
}

// TestTwoDaemons want the same engines at the same time: one builds, the other waits for it.
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	one, other := newNode(t), newNode(t)
	one.order("build slow=1500 *")
	other.order("build slow=1500 *")
	other.trts = one.trts
	one.start()
	one.state("building", func(s api.State) bool { return s.State == api.StateBuildingEngine && s.Progress.ElapsedNS > 0 })
	other.start()
	other.state("waiting for the other", func(s api.State) bool {
		return s.State == api.StateBuildingEngine && strings.Contains(s.Progress.Step, "waiting for process")
	})
	one.served("tensorrt", 1)
	other.served("tensorrt", 1)
	one.comesTo(api.StateReady, "")
	other.comesTo(api.StateReady, "")
	one.stop()
	other.stop()
	plans, err := filepath.Glob(filepath.Join(one.dir, "engines", "*.plan"))
	if err != nil || len(plans) != 2 {
		t.Errorf("%d plans are in the cache, want 2: %v", len(plans), plans)
	}
	if log := one.daemon.Out.String() + other.daemon.Out.String(); strings.Count(log, "seconds=0\n") != 2 {
		t.Errorf("one of both should have found two engines built by the other:\n%s", log)
	}
}

// TestChoices of a backend on a machine that lacks something.
func TestChoices(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	good := n.trts

	n.trts = "[engine.tensorrt]\nshim = \"/nonexistent/libtoklip_trt10.so\"\n"
	n.start() // auto
	n.comesTo(api.StateReady, "")
	n.logged("TensorRT is not used")
	n.stop()

	n.engine += "backend = \"tensorrt\"\n"
	out, err := n.command("run", "--config", n.configuration())
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.ExitCode() != 1 || !strings.Contains(out, "/nonexistent/libtoklip_trt10.so") || !strings.Contains(out, "`toklip doctor` says what there is") {
		t.Errorf("backend tensorrt without a shim: %v %s", err, out)
	}

	// The implementation for tests must not serve anybody by mistake.
	n.trts = good
	n.env = slices.DeleteFunc(n.env, func(v string) bool { return strings.HasPrefix(v, "TOKLIP_TRT_ALLOW_TEST") })
	out, err = n.command("run", "--config", n.configuration())
	if exit, ok = err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || !strings.Contains(out, "TOKLIP_TRT_ALLOW_TEST") {
		t.Errorf("the implementation for tests without the variable: %v %s", err, out)
	}
}
