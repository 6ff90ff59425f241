package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/cmd/toklip/e2e/e2etest"
)

// promised is how long the daemon may take to end after SIGTERM.
const promised = 5 * time.Second

// TestStopWhileModelLoads ends a daemon whose model never finishes loading: the manifest is a pipe that nobody writes.
func TestStopWhileModelLoads(t *testing.T) {
	toklip, worker := programs(t)
	folder, _ := photoFolder(t)
	model := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(model, "model.toml"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := e2etest.FreePort(t)
	e2etest.Mosquitto(t, port)
	documents := subscribe(t, port, false, "toklip/"+node+"/availability", "toklip/"+node+"/state")
	daemon := start(t, toklip, "run", "--config", configure(t, imagesDaemon, model, port, worker, folder))
	documents.LineWith(t, "online")
	if code, took := daemon.Stop(t); code != 0 || took > promised {
		t.Errorf("ended with code %d after %v, want 0 within %v", code, took, promised)
	}
	documents.LineWith(t, `"stopping"`)
	documents.LineWith(t, "offline")
}

// TestStopWhileAllHangs ends a daemon whose workers and broker are stopped, as a driver and a network can stop them.
func TestStopWhileAllHangs(t *testing.T) {
	toklip, worker := programs(t)
	folder, _ := photoFolder(t)
	port := e2etest.FreePort(t)
	broker := e2etest.Mosquitto(t, port)
	daemon := start(t, toklip, "run", "--config", configure(t, imagesDaemon, tinyModel(t, toklip), port, worker, folder))
	status := subscribe(t, port, false, "toklip/"+node+"/camera/photo/status")
	status.LineWith(t, `"online"`)
	hang := exec.Command("pkill", "-STOP", "-f", "toklip-capture --node "+node, "-P", pid(daemon))
	if out, err := hang.CombinedOutput(); err != nil {
		t.Fatalf("stop the worker: %v %s", err, out)
	}
	if err := broker.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(600 * time.Millisecond) // more than metrics_interval: a document waits for its acknowledgement
	code, took := daemon.Stop(t)
	if code != 0 || took > promised {
		t.Errorf("ended with code %d after %v, want 0 within %v", code, took, promised)
	}
	if err := broker.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	subscribe(t, port, false, "toklip/"+node+"/availability").LineWith(t, "offline") // the will
	if exec.Command("pgrep", "-f", "toklip-capture --node "+node).Run() == nil {
		t.Error("a worker is left")
	}
}

// TestCameraThatEnds plays a file once: the daemon goes on, and says why there is nothing to switch on.
func TestCameraThatEnds(t *testing.T) {
	toklip, worker := programs(t)
	folder, _ := photoFolder(t)
	port := e2etest.FreePort(t)
	e2etest.Mosquitto(t, port)
	file := configure(t, strings.Replace(imagesDaemon, "&loop=true", "", 1), tinyModel(t, toklip), port, worker, folder)
	daemon := start(t, toklip, "run", "--config", file)
	status := subscribe(t, port, false, "toklip/"+node+"/camera/photo/status")
	status.LineWith(t, `"reason":"the source has ended"`)
	if got := command(t, port, "enable", `{"camera":"photo"}`); !strings.Contains(got, `"ok":false`) || !strings.Contains(got, "camera photo has ended") {
		t.Errorf("enable: %s", got)
	}
	subscribe(t, port, false, "toklip/"+node+"/state").LineWith(t, `"ready"`)
	if code, took := daemon.Stop(t); code != 0 || took > promised {
		t.Errorf("ended with code %d after %v, want 0 within %v", code, took, promised)
	}
}

// TestCameraSwitchedOn is off by configuration, switched on by command, and degrades the node when it fails then.
func TestCameraSwitchedOn(t *testing.T) {
	toklip, worker := programs(t)
	folder, file := photoFolder(t)
	port := e2etest.FreePort(t)
	e2etest.Mosquitto(t, port)
	start(t, toklip, "run", "--config", configure(t, imagesDaemon+"enabled = false\n", tinyModel(t, toklip), port, worker, folder))
	status := subscribe(t, port, false, "toklip/"+node+"/camera/photo/status")
	status.LineWith(t, `"disabled"`)
	state := subscribe(t, port, false, "toklip/"+node+"/state")
	state.LineWith(t, `"ready"`)
	if err := os.Rename(file, file+".gone"); err != nil { // a folder without pictures cannot be opened
		t.Fatal(err)
	}
	if got := command(t, port, "enable", `{"camera":"photo"}`); !strings.Contains(got, `"ok":true`) {
		t.Fatalf("enable: %s", got)
	}
	state.LineWith(t, `"degraded","reason":"camera photo is`)
	if err := os.Rename(file+".gone", file); err != nil {
		t.Fatal(err)
	}
	status.LineWith(t, `"online"`)
	state.LineWith(t, `"ready"`)
}

// TestGapsAreDrops runs a camera faster than the daemon: every gap in the sequence is the increase of drops, message by
// message, so that a reader can tell what was lost on its way to it.
func TestGapsAreDrops(t *testing.T) {
	toklip, worker := programs(t)
	port := e2etest.FreePort(t)
	e2etest.Mosquitto(t, port)
	client := subscribe(t, port, false, "toklip/"+node+"/camera/photo/tokens/json")
	text := strings.Replace(imagesDaemon, "images://%s?fps=10&loop=true", "test://pattern?fps=500&width=1280&height=720#%s", 1)
	text = strings.Replace(text, "#%s", "", 1)
	text = strings.Replace(text, `"tokens", "embedding", "features"`, `"tokens"`, 1) + "max_fps = 200\n"
	start(t, toklip, "run", "--config", configure(t, text, tinyModel(t, toklip), port, worker))
	type message struct {
		Header struct {
			Sequence uint64            `json:"sequence"`
			Drops    map[string]uint64 `json:"drops"`
		} `json:"header"`
	}
	sum := func(m message) (n uint64) {
		for _, count := range m.Header.Drops {
			n += count
		}
		return n
	}
	var before message
	gaps := 0
	for i := 0; i < 300; i++ {
		_, payload, _ := strings.Cut(client.Line(t), " ")
		var m message
		if err := json.Unmarshal([]byte(payload), &m); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			gap, drops := m.Header.Sequence-before.Header.Sequence-1, sum(m)-sum(before)
			if gap != drops {
				t.Errorf("frame %d after %d: %d are missing, drops grew by %d: %v after %v",
					m.Header.Sequence, before.Header.Sequence, gap, drops, m.Header.Drops, before.Header.Drops)
			}
			if gap > 0 {
				gaps++
			}
		}
		before = m
	}
	if gaps < 50 {
		t.Errorf("%d gaps in 300 messages: too few to show anything", gaps)
	}
	if before.Header.Drops["queue"]+before.Header.Drops["rate"] == 0 {
		t.Errorf("drops %v: none by the daemon", before.Header.Drops)
	}
}

// pid is the process id as text.
func pid(p *e2etest.Process) string { return strconv.Itoa(p.Process.Pid) }

// command asks the node and returns the reply.
func command(t *testing.T, port, verb, args string) string {
	t.Helper()
	topic := "test/replies/" + verb
	replies := subscribe(t, port, false, topic)
	availability := subscribe(t, port, false, "toklip/"+node+"/availability")
	availability.LineWith(t, api.Online) // the subscription before is in place once a later one is
	message := `{"id":"x","reply_to":"` + topic + `","args":` + args + `}`
	if out, err := exec.Command("mosquitto_pub", "-p", port, "-q", "1", "-t", "toklip/"+node+"/command/"+verb, "-m", message).CombinedOutput(); err != nil {
		t.Fatalf("publish: %v %s", err, out)
	}
	return replies.LineWith(t, `"id":"x"`)
}
