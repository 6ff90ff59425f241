package gpu

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/toklip/toklip/api"
)

// TestErrorsOfTheGPU at run time: ONNX Runtime takes over, the state says why, and TensorRT comes back by itself.
func TestErrorsOfTheGPU(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, inFlight string
		orders         []string
		reason         string
	}{
		{"lost device", "1", []string{"process device-lost 1"}, "TensorRT failed"},
		{"lost device with two in flight", "2", []string{"wait device-lost 1"}, "TensorRT failed"},
		{"hang", "1", []string{"process hang 1"}, "TensorRT failed"},
		{"out of memory for long", "1", []string{"process out-of-memory *"}, "5 batches failed in a row"},
		{"lost again while it comes back", "1", []string{"process device-lost 1", "load device-lost 1"}, "next attempt in 2s"},
		{"slow to give its context up", "1", []string{"process device-lost 1", "reset slow=7000 1"}, "does not give its context up"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.trts += "in_flight = " + tt.inFlight + "\ntimeout = \"500ms\"\n"
			n.start()
			n.served("tensorrt", 5)
			n.comesTo(api.StateReady, "")
			n.order(tt.orders...)
			n.degraded(tt.reason)
			n.order()
			n.served("onnxruntime", 1)
			n.comesTo(api.StateReady, "")
			n.served("tensorrt", 5)
			if info := n.info(); info.Backend != "tensorrt" || len(info.Engines) != 2 {
				t.Errorf("info says %s", n.seen.last("info"))
			}
			n.seen.accounted(t)
			n.stop()
		})
	}
}

// TestStopWhileTheGPUHangs in a call of the driver that nobody can interrupt: the daemon ends in time all the same.
func TestStopWhileTheGPUHangs(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.trts += "in_flight = 1\n"
	n.start()
	n.served("tensorrt", 5)
	n.order("process device-lost 1", "reset slow=600000 1")
	n.degraded("does not give its context up")
	n.seen.forget()
	n.served("onnxruntime", 3)
	n.stop()
}

// TestNothingCanTakeOver from a lost GPU while a file of the model is gone: the state says so, and ONNX Runtime is tried again even
// where TensorRT is hopeless.
func TestNothingCanTakeOver(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	_, model := programs(t)
	own := filepath.Join(n.dir, "model")
	if err := os.CopyFS(own, os.DirFS(model)); err != nil {
		t.Fatal(err)
	}
	n.engine = strings.NewReplacer(strconv.Quote(model), strconv.Quote(own), `"fp32"`, `"fp16"`).Replace(n.engine)
	n.trts += "in_flight = 1\n"
	n.start()
	n.served("tensorrt", 5)
	n.comesTo(api.StateReady, "")
	tokenizer := filepath.Join(own, "tokenizer.onnx") // of ONNX Runtime alone
	if err := os.Rename(tokenizer, tokenizer+".gone"); err != nil {
		t.Fatal(err)
	}
	n.order("process device-lost 1", "load bad-model *")
	n.logged("ONNX Runtime cannot take over")
	n.degraded("TensorRT is not used: load engine: ordered by the test")
	if err := os.Rename(tokenizer+".gone", tokenizer); err != nil {
		t.Fatal(err)
	}
	n.served("onnxruntime", 3)
	n.comesTo(api.StateDegraded, "TensorRT is not used: load engine: ordered by the test")
	n.seen.accounted(t)
	n.stop()
}

// TestShortOfMemory for a moment costs the frames of some batches, and nothing else.
func TestShortOfMemory(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.trts += "in_flight = 1\n"
	n.start()
	n.served("tensorrt", 5)
	n.order("process out-of-memory 4")
	n.degraded("process frames: ordered by the test")
	n.comesTo(api.StateReady, "")
	n.served("tensorrt", 5)
	if _, drops := n.seen.accounted(t); drops["failed"] < 1 || drops["failed"] > 4 { // a graph that finds no memory is done without
		t.Errorf("dropped %v, want up to 4 that failed", drops)
	}
	if n := strings.Count(n.daemon.Out.String(), "backend swapped"); n != 1 {
		t.Errorf("the backend was swapped %d times, want once", n)
	}
	n.stop()
}

// TestUnusablePlans are built again, and the log says why.
func TestUnusablePlans(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	n.served("tensorrt", 1)
	n.stop()
	plans, err := filepath.Glob(filepath.Join(n.dir, "engines", "*.plan"))
	if err != nil || len(plans) != 2 {
		t.Fatalf("plans %v, %v", plans, err)
	}
	good, err := os.ReadFile(plans[0])
	if err != nil {
		t.Fatal(err)
	}
	write := func(content []byte) func() {
		return func() {
			if err := os.WriteFile(plans[0], content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)/2] ^= 1
	for _, tt := range []struct {
		name   string
		damage func()
		log    string
	}{
		{"garbage", write([]byte(strings.Repeat("garbage ", len(good)/8+1)[:len(good)])), "is corrupt"},
		{"truncated", write(good[:len(good)-1]), "is truncated"},
		{"one bit", write(flipped), "is corrupt"},
		{"empty", write(nil), "is truncated"},
		{"of another library", func() { n.order("load bad-plan 1") }, "has to be built"},
		{"outdated", func() { n.trts += "optimization_level = 1\n" }, "is outdated: "},
	} {
		tt.damage()
		n.start()
		n.logged(tt.log)
		n.served("tensorrt", 1)
		n.comesTo(api.StateReady, "")
		n.stop()
		if t.Failed() {
			t.Fatalf("with a plan that is %s", tt.name)
		}
		n.order()
	}
}

// TestBuildFails for what a retry may cure, and for what none can.
func TestBuildFails(t *testing.T) {
	t.Parallel()
	t.Run("for now", func(t *testing.T) {
		t.Parallel()
		n := newNode(t)
		n.order("build out-of-memory 1")
		n.start()
		n.degraded("next attempt in 1s")
		n.order() // the next process counts from the beginning
		n.comesTo(api.StateReady, "")
		n.served("tensorrt", 1)
		n.seen.accounted(t)
		n.stop()
	})
	t.Run("for good", func(t *testing.T) {
		t.Parallel()
		n := newNode(t)
		n.order("build bad-model *")
		n.start()
		if s := n.degraded("TensorRT is not used"); strings.Contains(s.Reason, "next attempt") {
			t.Errorf("it is tried again: %s", s.Reason)
		}
		n.served("onnxruntime", 3)
		n.comesTo(api.StateDegraded, "TensorRT is not used")
		n.seen.accounted(t)
		n.stop()
	})
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		n := newNode(t)
		n.order("build hang 1")
		n.start()
		n.wait("a building process that builds", func() bool {
			pid := n.builder()
			return pid != 0 && hasBuildFolder(n) && syscall.Kill(pid, syscall.SIGKILL) == nil
		})
		n.order()
		n.degraded("signal: killed")
		n.comesTo(api.StateReady, "")
		n.served("tensorrt", 1)
		n.seen.accounted(t)
		n.stop()
		if hasBuildFolder(n) {
			t.Error("what the killed process had written is still there")
		}
	})
}

// hasBuildFolder reports whether a builder has begun to write, or has left something.
func hasBuildFolder(n *node) bool {
	folders, _ := filepath.Glob(filepath.Join(n.dir, "engines", "*.build")) // the pattern is good
	return len(folders) > 0
}

// TestCacheCannotBeWritten serves with ONNX Runtime and says where engines would go.
func TestCacheCannotBeWritten(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	blocked := filepath.Join(n.dir, "engines")
	if err := os.WriteFile(blocked, []byte("a file where a folder should be"), 0o644); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.degraded(blocked)
	n.served("onnxruntime", 1)
	// What was wrong is put right, and the next attempt finds it so.
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	n.comesTo(api.StateReady, "")
	n.served("tensorrt", 1)
	n.stop()
}

// TestDiskIsFull while an engine is written.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.order("build file 1") // as the shim tells of a plan that it cannot write
	n.start()
	n.degraded("next attempt in")
	n.order()
	n.comesTo(api.StateReady, "")
	n.served("tensorrt", 1)
	n.stop()
}

// TestBelowTheFloor refuses engines that are not good enough, with the figures.
func TestBelowTheFloor(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.engine = strings.Replace(n.engine, `"fp32"`, `"int8"`, 1)
	n.trts += "embedding_floor = 1.0\nfeature_floor = 1.0\n"
	n.start()
	s := n.degraded("too far from the fp32 reference")
	if !strings.Contains(s.Reason, "the worst cosine of an embedding is 0.") || strings.Contains(s.Reason, "next attempt") {
		t.Errorf("reason: %s", s.Reason)
	}
	n.served("onnxruntime", 3)
	if n.seen.count("tensorrt") != 0 {
		t.Error("TensorRT served all the same")
	}
	n.stop()
	out, err := n.command("engine", "list", "--json", "--cache-dir", filepath.Join(n.dir, "engines"))
	if err != nil || !strings.Contains(out, `"passed":false`) {
		t.Errorf("engine list: %v %s", err, out)
	}
}

// TestWrongVersion of TensorRT: without it the daemon is degraded, and if nothing else is wanted does not start.
func TestWrongVersion(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.order("open wrong-version *")
	n.start()
	n.comesTo(api.StateDegraded, "TensorRT is not used")
	n.served("onnxruntime", 1)
	n.stop()
	n.engine += "backend = \"tensorrt\"\n"
	out, err := n.command("run", "--config", n.configuration())
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || !strings.Contains(out, "backend tensorrt: ") {
		t.Errorf("backend tensorrt of a wrong version: %v %s", err, out)
	}
}

// TestFallBackLeavesNothing behind: the third time the GPU is lost, the daemon has no more goroutines, files and memory than
// after the first.
func TestFallBackLeavesNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.trts += "in_flight = 1\n"
	n.start()
	n.served("tensorrt", 5)
	lose := func() api.ProcessMetrics {
		n.order("process device-lost 1")
		n.served("onnxruntime", 1)
		n.order()
		n.served("tensorrt", 5)
		n.comesTo(api.StateReady, "")
		before := n.seen.last("metrics")
		var m api.Metrics
		n.wait("two more metrics", func() bool {
			text := n.seen.last("metrics")
			first := m.TimeNS
			return text != nil && string(text) != string(before) && json.Unmarshal(text, &m) == nil && first != 0 && m.TimeNS != first
		})
		return m.Process
	}
	first := lose()
	lose()
	third := lose()
	if third.Goroutines > first.Goroutines+2 || third.OpenFiles > first.OpenFiles+2 || third.RSSBytes > first.RSSBytes+32<<20 {
		t.Errorf("after three losses %+v, after one %+v", third, first)
	}
	n.seen.accounted(t)
	n.stop()
}
