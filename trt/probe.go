package trt

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"
)

// Found is what Probe found out about a machine. What is missing is no error but told in Missing,
// for people.
type Found struct {
	// Use is the index in Libraries of what Open takes, -1 if there is nothing to open.
	Use int `json:"use"`
	// Libraries are the TensorRT libraries that were looked for, in the order of preference.
	Libraries []FoundLibrary `json:"libraries"`
	// Driver is the CUDA driver.
	Driver FoundDriver `json:"driver"`
	// Missing says, in whole sentences, what keeps TensorRT from being used and what to do
	// about it. Empty when Use is not -1 and there is a driver.
	Missing []string `json:"missing"`
}

// FoundLibrary is one TensorRT library that was looked for.
type FoundLibrary struct {
	Name    string  `json:"name"`    // soname, or the path that was given
	Family  string  `json:"family"`  // of its shim: "trt8", "trt10", "trt11", "rtx"; empty if unknown
	Path    string  `json:"path"`    // of the file; empty if it could not be opened
	Version Version `json:"version"` // zero if it could not be opened
	Shim    string  `json:"shim"`    // path of the shim that fits; empty if there is none
	// ShimTried are the paths where the shim was looked for, with what was wrong there.
	ShimTried []Tried `json:"shim_tried"`
	// Problem says why the library cannot be used; empty if it can.
	Problem string `json:"problem"`
	// Absent is true where there is no such library, the most common problem.
	Absent bool `json:"absent"`
}

// leftToShim is the name of a library that the shim itself opens.
const leftToShim = "opened by the shim"

// Tried is a file that was tried.
type Tried struct {
	Path    string `json:"path"`
	Problem string `json:"problem"` // empty if it could be opened
}

// FoundDriver is the CUDA driver of a machine.
type FoundDriver struct {
	Path    string `json:"path"`    // of libcuda; empty if there is none
	Version int    `json:"version"` // of CUDA: 12060 is 12.6; 0 if it does not tell
	Problem string `json:"problem"` // why it could not be opened or asked; empty if it could
}

// Probe looks for TensorRT, the shim that fits it, and the driver. It asks every library it can open
// for its version, in this order of preference:
//
//   - Options.TensorRT, if given; then nothing else counts,
//   - libnvinfer.so.11, libnvinfer.so.10, libnvinfer.so.8: the newest first,
//   - libtensorrt_rtx.so.1: TensorRT for RTX, last because it compiles its kernels at the first run.
//
// The shim is libtoklip_trt11.so, libtoklip_trt10.so, libtoklip_trt8.so or libtoklip_trt_rtx.so,
// looked for in the program's folder, in lib beside it, in ../lib, and last where the dynamic loader
// looks. With Options.Shim or ShimVariable only that shim counts, and TensorRT is left to it.
//
// Nothing is initialised and no GPU is touched. Libraries that were opened stay mapped.
func Probe(o Options) Found { return probe(system{}, o, true) }

// family is an ABI family of TensorRT: what one shim can drive.
type family struct {
	name   string // as the shim calls itself
	shim   string // file name
	soname string
	parser string // soname
	oldest int32  // oldest version the shim can drive, as the library counts
}

// families are in the order of preference.
var families = [...]family{
	{"trt11", "libtoklip_trt11.so", "libnvinfer.so.11", "libnvonnxparser.so.11", 110000},
	{"trt10", "libtoklip_trt10.so", "libnvinfer.so.10", "libnvonnxparser.so.10", 100000},
	{"trt8", "libtoklip_trt8.so", "libnvinfer.so.8", "libnvonnxparser.so.8", 8500},
	{"rtx", "libtoklip_trt_rtx.so", "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1", 10500},
}

// decode splits what getInferLibVersion says and finds the family. TensorRT counted in thousands up
// to 8, in ten thousands since 10; TensorRT for RTX began at 1 with ten thousands, so that no two
// families share a number.
func decode(v int32) (Version, family, bool) {
	var version Version
	if v < 10000 {
		version = Version{Major: int(v / 1000), Minor: int(v / 100 % 10), Patch: int(v % 100)}
	} else {
		version = Version{Major: int(v / 10000), Minor: int(v / 100 % 100), Patch: int(v % 100)}
	}
	for _, f := range families {
		if major := f.oldest / 10000; v >= 10000 && major > 0 && v/10000 == major || v < 10000 && f.oldest < 10000 && v/1000 == f.oldest/1000 {
			return version, f, true
		}
	}
	return version, family{}, false
}

// probe does what Probe says. With all false it stops at the first library that can be used.
func probe(ld loader, o Options, all bool) Found {
	found := Found{Use: -1, Driver: probeDriver(ld, o.CUDA)}
	shim := shimOption(o)
	candidates := make([]string, 0, len(families))
	switch {
	case o.TensorRT != "":
		candidates = append(candidates, o.TensorRT)
	case shim != "": // it opens TensorRT by its soname
	default:
		for _, f := range families {
			candidates = append(candidates, f.soname)
		}
	}
	dirs := shimFolders()
	for _, name := range candidates {
		l := probeLibrary(ld, name)
		if l.Problem == "" {
			if shim != "" {
				l.Shim, l.ShimTried = findShim(ld, []string{shim})
			} else {
				l.Shim, l.ShimTried = findShim(ld, shimPaths(dirs, l.Family))
			}
			if l.Shim == "" {
				l.Problem = shimProblem(l)
			} else if found.Use < 0 {
				found.Use = len(found.Libraries)
			}
		}
		found.Libraries = append(found.Libraries, l)
		if found.Use >= 0 && !all {
			break
		}
	}
	if len(candidates) == 0 {
		l := FoundLibrary{Name: leftToShim}
		if l.Shim, l.ShimTried = findShim(ld, []string{shim}); l.Shim == "" {
			l.Problem = shimProblem(l)
		} else {
			found.Use = 0
		}
		found.Libraries = append(found.Libraries, l)
	}
	found.Missing = missing(found, o)
	return found
}

// shimOption is the shim that the user named, empty if none.
func shimOption(o Options) string {
	if o.Shim != "" {
		return o.Shim
	}
	return os.Getenv(ShimVariable)
}

func probeLibrary(ld loader, name string) FoundLibrary {
	l := FoundLibrary{Name: name}
	for _, f := range families {
		if filepath.Base(name) == f.soname {
			l.Family = f.name
		}
	}
	object, err := ld.open(name)
	if err != nil {
		l.Problem = err.Error()
		// The loader's own words for a file that is not there; anything else is worth reading.
		l.Absent = strings.Contains(l.Problem, name+": cannot open shared object file")
		return l
	}
	ask := ld.symbol(object, "getInferLibVersion")
	if ask == nil {
		l.Problem = "it is no TensorRT library: it has no function getInferLibVersion"
		return l
	}
	l.Path = resolved(ld.file(ask))
	number := ld.version(ask)
	version, f, known := decode(number)
	if build := ld.symbol(object, "getInferLibBuildVersion"); build != nil {
		version.Build = int(ld.version(build))
	}
	l.Version, l.Family = version, f.name
	switch {
	case !known:
		l.Problem = fmt.Sprintf("version %v is not supported: toklip drives TensorRT 8.5 to 8.6, 10 and 11, and TensorRT for RTX 1.5 and later", version)
	case number < f.oldest:
		oldest, _, _ := decode(f.oldest)
		l.Problem = fmt.Sprintf("version %v is too old: install %d.%d or later", version, oldest.Major, oldest.Minor)
	}
	return l
}

func probeDriver(ld loader, path string) FoundDriver {
	if path == "" {
		path = "libcuda.so.1"
	}
	object, err := ld.open(path)
	if err != nil {
		return FoundDriver{Problem: err.Error()}
	}
	ask := ld.symbol(object, "cuDriverGetVersion")
	if ask == nil {
		return FoundDriver{Problem: path + " is no CUDA driver: it has no function cuDriverGetVersion"}
	}
	d := FoundDriver{Path: resolved(ld.file(ask))}
	version, result := ld.driverVersion(ask)
	if result != 0 {
		d.Problem = fmt.Sprintf("cuDriverGetVersion fails with error %d", result)
	}
	d.Version = int(version)
	return d
}

// resolved follows links, so that a path tells the version.
func resolved(path string) string {
	if r, err := filepath.EvalSymlinks(path); err == nil {
		return r
	}
	return path
}

// shimFolders are where shims are looked for before the loader's path.
func shimFolders() []string {
	executable, err := os.Executable()
	if err != nil {
		return nil
	}
	dir := filepath.Dir(resolved(executable))
	return []string{dir, filepath.Join(dir, "lib"), filepath.Join(dir, "..", "lib")}
}

// shimPaths are the names of a family's shim in these folders and for the loader.
func shimPaths(dirs []string, familyName string) []string {
	for _, f := range families {
		if f.name == familyName {
			paths := make([]string, 0, len(dirs)+1)
			for _, d := range dirs {
				paths = append(paths, filepath.Join(d, f.shim))
			}
			return append(paths, f.shim)
		}
	}
	return nil
}

// findShim opens the first of these files that opens and returns its path.
func findShim(ld loader, paths []string) (string, []Tried) {
	var tried []Tried
	for _, path := range paths {
		object, err := openShim(ld, path)
		if err != nil {
			tried = append(tried, Tried{path, err.Error()})
			continue
		}
		tried = append(tried, Tried{Path: path})
		return resolved(ld.file(ld.symbol(object, "toklip_trt_abi"))), tried
	}
	return "", tried
}

// openShim opens a file that must be a shim.
func openShim(ld loader, path string) (unsafe.Pointer, error) {
	if strings.ContainsRune(path, filepath.Separator) {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("not there: %w", errorOf(err))
		}
	}
	object, err := ld.open(path)
	if err != nil {
		return nil, err
	}
	if ld.symbol(object, "toklip_trt_abi") == nil {
		return nil, fmt.Errorf("it is no shim of toklip: it has no function toklip_trt_abi")
	}
	return object, nil
}

// errorOf drops the path of a file error, which stands beside it already.
func errorOf(err error) error {
	if pe, ok := err.(*os.PathError); ok {
		return pe.Err
	}
	return err
}

// shimProblem says that no shim was found.
func shimProblem(l FoundLibrary) string {
	var b strings.Builder
	if l.Family == "" && l.Path == "" {
		b.WriteString("its shim cannot be opened:")
	} else {
		fmt.Fprintf(&b, "the shim for TensorRT %v cannot be opened:", l.Version)
	}
	for i, t := range l.ShimTried {
		if i > 0 {
			b.WriteByte(';')
		}
		// The loader's messages begin with the path already.
		if strings.HasPrefix(t.Problem, t.Path) {
			fmt.Fprintf(&b, " %s", t.Problem)
		} else {
			fmt.Fprintf(&b, " %s: %s", t.Path, t.Problem)
		}
	}
	return b.String()
}

// missing says what a user has to do.
func missing(found Found, o Options) []string {
	var out []string
	if found.Use < 0 {
		absent := 0
		for _, l := range found.Libraries {
			if l.Absent {
				absent++
				continue
			}
			what := "TensorRT"
			if l.Path != "" {
				what = fmt.Sprintf("TensorRT %v (%s)", l.Version, l.Path)
			} else if l.Name != leftToShim {
				what = l.Name
			}
			advice := ""
			if l.Path != "" && l.Shim == "" && len(l.ShimTried) > 0 {
				advice = ". Build the shim with: cmake -S csrc -B build && cmake --build build, and put it into the program's folder or lib beside it"
			}
			out = append(out, fmt.Sprintf("%s cannot be used: %s%s.", what, l.Problem, advice))
		}
		if absent == len(found.Libraries) {
			if o.TensorRT != "" {
				out = append(out, fmt.Sprintf("TensorRT is not at %q: give the path of libnvinfer.so.N or libtensorrt_rtx.so.1, or leave it empty to have it found.", o.TensorRT))
			} else {
				names := make([]string, 0, len(found.Libraries))
				for _, l := range found.Libraries {
					names = append(names, l.Name)
				}
				out = append(out, fmt.Sprintf("TensorRT is not installed: the dynamic loader finds none of %s. "+
					"On a Jetson: sudo apt install nvidia-jetpack; elsewhere install TensorRT or TensorRT for RTX, and add its lib folder to LD_LIBRARY_PATH or give the library's path.",
					strings.Join(names, ", ")))
			}
		}
	}
	switch d := found.Driver; {
	case d.Path == "":
		out = append(out, fmt.Sprintf("There is no CUDA driver (%s): without NVIDIA's driver and a GPU nothing can run on TensorRT.", d.Problem))
	case d.Problem != "":
		out = append(out, fmt.Sprintf("The CUDA driver %s does not work: %s.", d.Path, d.Problem))
	}
	return out
}
