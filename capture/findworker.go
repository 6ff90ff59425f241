package capture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// WorkerName is the file name of the worker program.
const WorkerName = "toklip-capture"

// FindWorker returns the worker program's path: path itself if it is not empty
// and can be run, else WorkerName beside the running program, else on PATH.
func FindWorker(path string) (string, error) {
	if path != "" {
		p, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("capture worker %q cannot be run: %w", path, err)
		}
		return p, nil
	}
	if self, err := os.Executable(); err == nil {
		if p, err := exec.LookPath(filepath.Join(filepath.Dir(self), WorkerName)); err == nil {
			return p, nil
		}
	}
	p, err := exec.LookPath(WorkerName)
	if err != nil {
		return "", fmt.Errorf("capture worker %s is neither beside this program nor on PATH: build it with `make build` or install the whole package", WorkerName)
	}
	return p, nil
}
