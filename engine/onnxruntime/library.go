package onnxruntime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// LibraryVariable is the environment variable that may name the library's file.
const LibraryVariable = "TOKLIP_ONNXRUNTIME"

// systemFolders are where distributions and ONNX Runtime's own packages put libraries.
var systemFolders = [...]string{
	"/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib",
	"/opt/onnxruntime/lib",
}

// FindLibrary finds ONNX Runtime's shared library and returns the path of its file.
// It takes the first of
//
//   - explicit, if not empty; then nothing else counts,
//   - the file that the environment variable TOKLIP_ONNXRUNTIME names; likewise,
//   - libonnxruntime.so or the newest libonnxruntime.so.* in the program's folder, or in lib or ../lib beside it,
//   - the same in .cache/lib of the source checkout that the working directory or the program lies in,
//   - the same in LD_LIBRARY_PATH and the system's library folders.
//
// The error lists where it looked. That a file is found does not mean that it loads;
// Open tells.
func FindLibrary(explicit string) (string, error) {
	for _, named := range [...]struct{ path, by string }{
		{explicit, "configured"},
		{os.Getenv(LibraryVariable), "in " + LibraryVariable},
	} {
		if named.path == "" {
			continue
		}
		info, err := os.Stat(named.path)
		if err != nil {
			return "", fmt.Errorf("find ONNX Runtime: library %q, %s: %w", named.path, named.by, err)
		}
		if info.IsDir() {
			if path := inFolder(named.path); path != "" {
				return path, nil
			}
			return "", fmt.Errorf("find ONNX Runtime: folder %q, %s, holds no libonnxruntime.so", named.path, named.by)
		}
		return named.path, nil
	}
	executable, err := os.Executable()
	if err == nil {
		if resolved, err := filepath.EvalSymlinks(executable); err == nil {
			executable = resolved
		}
	}
	working, err := os.Getwd()
	if err != nil {
		working = ""
	}
	folders := searchFolders(executable, working, os.Getenv("LD_LIBRARY_PATH"))
	for _, folder := range folders {
		if path := inFolder(folder); path != "" {
			return path, nil
		}
	}
	return "", fmt.Errorf("find ONNX Runtime: no libonnxruntime.so in %s: run `make deps` in a source checkout, or name the file in %s",
		strings.Join(folders, ", "), LibraryVariable)
}

// searchFolders lists where to look, in this order, each once.
func searchFolders(executable, working, libraryPath string) []string {
	var folders []string
	add := func(folder string) {
		if folder != "" && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	if executable != "" {
		beside := filepath.Dir(executable)
		add(beside)
		add(filepath.Join(beside, "lib"))
		add(filepath.Join(filepath.Dir(beside), "lib"))
	}
	for _, start := range [...]string{working, filepath.Dir(executable)} {
		if root := checkout(start); root != "" {
			add(filepath.Join(root, ".cache", "lib"))
		}
	}
	for _, folder := range filepath.SplitList(libraryPath) {
		add(folder)
	}
	for _, folder := range systemFolders {
		add(folder)
	}
	return folders
}

// checkout is the nearest folder at or above start that holds a go.mod, or "".
func checkout(start string) string {
	for folder := start; filepath.IsAbs(folder); folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		if folder == filepath.Dir(folder) {
			break
		}
	}
	return ""
}

// inFolder is the library's file in folder, or "": the plain name if it is there, which
// whoever installed it points at the version to use, else the highest version.
func inFolder(folder string) string {
	plain := filepath.Join(folder, "libonnxruntime.so")
	if info, err := os.Stat(plain); err == nil && info.Mode().IsRegular() {
		return plain
	}
	matches, err := filepath.Glob(filepath.Join(escapeGlob(folder), "libonnxruntime.so.*"))
	if err != nil || len(matches) == 0 {
		return ""
	}
	slices.SortFunc(matches, func(a, b string) int { return compareVersions(a[len(plain)+1:], b[len(plain)+1:]) })
	for _, path := range slices.Backward(matches) {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// compareVersions orders "1.9.0" before "1.30.0".
func compareVersions(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), func(x, y string) int {
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		return strings.Compare(x, y)
	})
}

// explainLoad says what a failure of the dynamic loader most likely means.
func explainLoad(path string, err error) error {
	text := err.Error()
	switch {
	case errors.Is(err, fs.ErrNotExist), strings.Contains(text, "No such file"):
		return fmt.Errorf("load ONNX Runtime %q: the file or a library it needs is missing: %w", path, err)
	case strings.Contains(text, "wrong ELF class"), strings.Contains(text, "invalid ELF header"),
		strings.Contains(text, "file too short"), strings.Contains(text, "cannot open shared object file"):
		return fmt.Errorf("load ONNX Runtime %q: not a shared library for this machine: %w", path, err)
	case strings.Contains(text, "OrtGetApiBase"):
		return fmt.Errorf("load ONNX Runtime %q: a shared library, but not ONNX Runtime: %w", path, err)
	case strings.Contains(text, "setting ORT API base"):
		return fmt.Errorf("load ONNX Runtime %q: its version is too old, %s or newer is needed (`make deps` fetches one): %w", path, MinimumVersion, err)
	}
	return fmt.Errorf("load ONNX Runtime %q: %w", path, err)
}
