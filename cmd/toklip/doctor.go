package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/engine/onnxruntime"
)

// finding is one line of the doctor's report.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // "ok", "note" or "missing"
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"`
}

func newDoctorCommand() *cobra.Command {
	var asJSON bool
	var worker, library string
	flags := newTensorRTFlags()
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what works on this machine and what to do about the rest",
		Long: `Looks at what toklip needs: ONNX Runtime, the camera worker, cameras, the broker's port, leftovers of a crash; TensorRT, the shim that drives it, GPU, engines.
Nothing is changed. The exit code is 1 if something that every use needs is missing.`,
		Example: "  toklip doctor\n  toklip doctor --json | jq '.[] | select(.state == \"missing\")'",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings := append(examine(cmd.Context(), worker, library), examineTensorRT(tensorrtOptions(flags.TensorRT, warnings(io.Discard)))...)
			if asJSON {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(findings); err != nil {
					return err
				}
			} else {
				printFindings(cmd, findings)
			}
			missing := 0
			for _, f := range findings {
				if f.State == "missing" {
					missing++
				}
			}
			if missing > 0 {
				return fmt.Errorf("%s missing", plural(missing, "thing"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	flags.addLibraries(cmd)
	cmd.Flags().StringVar(&worker, "worker", "", "`path` of toklip-capture, if it is neither beside toklip nor in PATH")
	cmd.Flags().StringVar(&library, "onnxruntime-library", "", "`path` of libonnxruntime.so, if it is not found by itself")
	return cmd
}

func printFindings(cmd *cobra.Command, findings []finding) {
	mark := map[string]string{"ok": "✓", "note": "·", "missing": "✗"}
	for _, f := range findings {
		fmt.Fprintf(cmd.OutOrStdout(), "%s %-16s %s\n", mark[f.State], f.Check, f.Found)
		if f.Remedy != "" {
			fmt.Fprintf(cmd.OutOrStdout(), "  %-16s → %s\n", "", f.Remedy)
		}
	}
}

// examine makes every check in turn. None takes longer than a few seconds.
func examine(ctx context.Context, worker, library string) []finding {
	return []finding{
		examineSystem(),
		examineONNXRuntime(library),
		examineWorker(ctx, worker),
		examineCameras(),
		examinePort("127.0.0.1:1883"),
		examineOrphans(),
	}
}

func examineSystem() finding {
	found := fmt.Sprintf("%s/%s, %s", runtime.GOOS, runtime.GOARCH, plural(runtime.NumCPU(), "CPU core"))
	if model, err := os.ReadFile("/proc/device-tree/model"); err == nil {
		found = strings.TrimRight(string(model), "\x00\n") + ", " + found
	}
	if release, err := os.ReadFile("/etc/nv_tegra_release"); err == nil {
		found += ", L4T " + strings.SplitN(string(release), "\n", 2)[0]
	}
	return finding{Check: "machine", State: "ok", Found: found}
}

func examineONNXRuntime(library string) finding {
	f := finding{Check: "ONNX Runtime"}
	path, err := onnxruntime.FindLibrary(library)
	if err != nil {
		f.State, f.Found, f.Remedy = "missing", err.Error(), "run `make deps`, or give the path with onnxruntime_library in the configuration"
		return f
	}
	rt, err := onnxruntime.Open(path)
	if err != nil {
		f.State, f.Found, f.Remedy = "missing", err.Error(), "replace the library by the version that `make deps` fetches"
		return f
	}
	f.State, f.Found = "ok", rt.Version()+" at "+path
	return f
}

func examineWorker(ctx context.Context, worker string) finding {
	f := finding{Check: "camera worker"}
	path, err := capture.FindWorker(worker)
	if err != nil {
		f.State, f.Found, f.Remedy = "missing", err.Error(), "run `make build`: it builds toklip-capture beside toklip"
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		f.State, f.Found = "missing", fmt.Sprintf("%s does not start: %v: %s", path, err, firstLine(out))
		f.Remedy = "install OpenCV's libraries (`make deps`); `ldd " + path + "` names what is missing"
		return f
	}
	f.State, f.Found = "ok", fmt.Sprintf("%s (%s)", path, firstLine(out))
	return f
}

func examineCameras() finding {
	devices, _ := filepath.Glob("/dev/video*")
	f := finding{Check: "cameras", State: "ok", Found: strings.Join(devices, " ")}
	if len(devices) == 0 {
		f.State, f.Found = "note", "no /dev/video*: files, RTSP and test patterns work all the same"
		return f
	}
	for _, device := range devices {
		if file, err := os.OpenFile(device, os.O_RDWR, 0); err != nil {
			f.State, f.Remedy = "note", fmt.Sprintf("%v: add the user to the group video", err)
		} else {
			file.Close()
		}
	}
	return f
}

func examinePort(address string) finding {
	f := finding{Check: "embedded broker"}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		f.State, f.Found = "note", err.Error()
		f.Remedy = "another broker runs here: use it with broker = \"mqtt://" + address + "\", or set another listen address"
		return f
	}
	listener.Close()
	f.State, f.Found = "ok", address+" is free"
	return f
}

func examineOrphans() finding {
	f := finding{Check: "leftovers", State: "ok", Found: "no camera worker left by a crash"}
	orphans, err := capture.FindOrphans(capture.OrphanOptions{})
	if err != nil {
		f.State, f.Found = "note", err.Error()
	} else if len(orphans) > 0 {
		f.State, f.Found, f.Remedy = "note", plural(len(orphans), "camera worker")+" left by a crash", "`toklip run` of the same node ends them at start"
	}
	return f
}

func firstLine(text []byte) string {
	return string(bytes.TrimSpace(bytes.SplitN(bytes.TrimSpace(text), []byte("\n"), 2)[0]))
}
