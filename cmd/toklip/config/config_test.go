package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestReferenceIsComplete holds configs/reference.toml to its word: every key is
// there, and its value is the default.
func TestReferenceIsComplete(t *testing.T) {
	path := filepath.Join("..", "..", "..", "configs", "reference.toml")
	cfg, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	camera := defaultCamera()
	camera.Name, camera.Source = "front", "v4l2:///dev/video0"
	want.Cameras = []Camera{camera}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("values in reference.toml are not the defaults:\n got %+v\nwant %+v", cfg, want)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(rt reflect.Type)
	walk = func(rt reflect.Type) {
		for i := range rt.NumField() {
			f := rt.Field(i)
			key := f.Tag.Get("toml")
			if !strings.Contains(string(text), key) {
				t.Errorf("reference.toml does not mention %q", key)
			}
			elem := f.Type
			if elem.Kind() == reflect.Slice {
				elem = elem.Elem()
			}
			if elem.Kind() == reflect.Struct {
				walk(elem)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}

func TestShippedFilesLoad(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "configs", "*.toml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("found %d files in configs/ (%v), want at least 4", len(files), err)
	}
	for _, file := range files {
		if _, err := Load(file); err != nil {
			t.Errorf("%v", err)
		}
	}
}

const twoCameras = "[[camera]]\nname = \"a\"\nsource = \"test://pattern\"\n[[camera]]\nname = \"b\"\nsource = \"test://pattern\"\n"

func TestProblemsNameLineKeyAndRemedy(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"syntax", "node = \"a\"\nthreads = = 1", "f.toml:2"},
		{"unknown key", "[engine]\nbackand = \"auto\"", `f.toml:2: engine.backand: unknown key: did you mean "backend"?`},
		{"unknown table", "[nonsense]\nx = 1", "f.toml:1: nonsense: unknown key: see configs/ for every key there is"},
		{"unknown key in second camera", "[[camera]]\nname = \"a\"\nsource = \"test://pattern\"\n[[camera]]\nname = \"b\"\nsource = \"test://pattern\"\nfps = 3",
			"f.toml:7: camera[1].fps: unknown key"},
		{"wrong type", "[engine]\nthreads = \"two\"", "f.toml:2: engine.threads: incompatible types"},
		{"duration", "[mqtt]\n\nstale_after = \"soon\"", `f.toml:3: mqtt.stale_after: "soon" is not a duration`},
		{"level", "[log]\nlevel = \"loud\"", `f.toml:2: log.level: "loud" is not a log level: choose debug, info, warn or error`},
		{"node", "node = \"My Robot\"", `f.toml:1: node: name "My Robot" has 'M' at position 1: use a-z, 0-9 and - only, for example "my-robot"`},
		{"range", "[engine]\nmax_batch = 0", "f.toml:2: engine.max_batch: 0 is not between 1 and 64"},
		{"choice", "[engine]\nbackend = \"cuda\"", `f.toml:2: engine.backend: "cuda" is not one of auto, onnxruntime, tensorrt`},
		{"fp16 on the CPU", "[engine]\nbackend = \"onnxruntime\"\nprecision = \"fp16\"", "f.toml:3: engine.precision: fp16 needs TensorRT"},
		{"size", "[engine.tensorrt]\nworkspace = \"much\"", `f.toml:2: engine.tensorrt.workspace: "much" is not a size: write for example "512MB"`},
		{"in flight", "[engine.tensorrt]\nin_flight = 3", "f.toml:2: engine.tensorrt.in_flight: 3 is not between 0 and 2"},
		{"DLA core", "[engine.tensorrt]\ndla_core = -2", "f.toml:2: engine.tensorrt.dla_core: -2 is not between -1 and 7"},
		{"floor", "[engine.tensorrt]\ntoken_floor = 95.0", "f.toml:2: engine.tensorrt.token_floor: 95 is not between 0"},
		{"timeout", "[engine.tensorrt]\ntimeout = \"1ms\"", "f.toml:2: engine.tensorrt.timeout: 1ms is too short"},
		{"TensorRT's key", "[engine.tensorrt]\nworkspac = \"1GB\"", `f.toml:2: engine.tensorrt.workspac: unknown key: did you mean "workspace"?`},
		{"missing source", "[[camera]]\nname = \"a\"", "f.toml:1: camera[0].source: missing"},
		{"unknown source", "[[camera]]\nname = \"a\"\nsource = \"ftp://x\"", "f.toml:3: camera[0].source: "},
		{"twice", "[[camera]]\nname = \"a\"\nsource = \"test://pattern\"\n[[camera]]\nname = \"a\"\nsource = \"test://pattern\"",
			`f.toml:5: camera[1].name: "a" is the name of camera[0] already`},
		{"publish", "[[camera]]\nname = \"a\"\nsource = \"test://pattern\"\npublish = [\"pixels\"]", `f.toml:4: camera[0].publish: "pixels" is not one of`},
		{"password in URL", "[mqtt]\nbroker = \"mqtt://u:p@h:1883\"", "f.toml:2: mqtt.broker: a password in the URL ends up in logs"},
		{"broker", "[mqtt]\nbroker = \"localhost\"", `f.toml:2: mqtt.broker: "localhost" is neither "embedded" nor a URL`},
		{"no label", "[labels]\nset = [\"a\", \"\"]", "f.toml:2: labels.set: label 2: the name is empty"},
		{"label twice", "[labels]\nset = [\"Red box\", \"red_box\"]", `f.toml:2: labels.set: label 2: name "red_box" is the same as that of label 1, "Red box"`},
		{"label twice in tables", "[[labels.label]]\nname = \"a\"\n[[labels.label]]\nname = \"a\"", `f.toml:4: labels.label[1].name: "a" is the name of labels.label[0] already`},
		{"label without name", "[[labels.label]]\nthreshold = 0.2", "f.toml:1: labels.label[0].name: missing"},
		{"label's threshold", "[labels]\nset = [\"b\"]\n[[labels.label]]\nname = \"a\"\nthreshold = 1.5", "f.toml:5: labels.label[0].threshold: threshold is 1.5"},
		{"label's hysteresis", "[[labels.label]]\nname = \"a\"\nthreshold = 0.3\nhysteresis = 0.3", "f.toml:4: labels.label[0].hysteresis: hysteresis is 0.3"},
		{"label's template", "[[labels.label]]\nname = \"a\"\ntemplates = [\"x\"]", `f.toml:3: labels.label[0].templates: template "x" has no {}`},
		{"label's key", "[[labels.label]]\nname = \"a\"\ntreshold = 0.3", `f.toml:3: labels.label[0].treshold: unknown key: did you mean "threshold"?`},
		{"threshold", "[labels]\nthreshold = 0", "f.toml:2: labels.threshold: threshold is 0"},
		{"hysteresis", "[labels]\nhysteresis = -1", "f.toml:2: labels.hysteresis: hysteresis is -1"},
		{"hold", "[labels]\nhold = \"2h\"", "f.toml:2: labels.hold: hold is 2h"},
		{"templates", "[labels]\ntemplates = []", "f.toml:2: labels.templates: no templates"},
		{"labels published", "[labels]\npublish = \"never\"", `f.toml:2: labels.publish: "never" is not one of every, change`},
		{"least change", "[labels]\nmin_change = 2.0", "f.toml:2: labels.min_change: 2 is not between"},
		{"rate of regions", "[labels.regions]\nmax_fps = -1", "f.toml:2: labels.regions.max_fps: -1 is not between"},
		{"camera's labels", twoCameras + "labels = [\"a\", \"!\"]", `f.toml:7: camera[1].labels: label 2: name "!" is nothing but punctuation`},
		{"region", twoCameras + "[[camera.region]]\nname = \"door\"\nrect = [0.5, 0.5, 0.6, 0.1]", "f.toml:9: camera[1].region[0].rect: "},
		{"region without area", twoCameras + "[[camera.region]]\nname = \"door\"", "f.toml:7: camera[1].region[0]: give either rect"},
		{"region of two points", twoCameras + "[[camera.region]]\nname = \"door\"\npolygon = [[0.0, 0.0], [1.0, 1.0]]", "f.toml:9: camera[1].region[0].polygon: "},
		{"region twice", twoCameras + "[[camera.region]]\nname = \"d\"\nrect = [0.0, 0.0, 1.0, 1.0]\n[[camera.region]]\nname = \"d\"\nrect = [0.0, 0.0, 1.0, 1.0]",
			`f.toml:11: camera[1].region[1].name: "d" is the name of camera[1].region[0] already`},
		{"region's key", twoCameras + "[[camera.region]]\nname = \"d\"\nrec = [0.0, 0.0, 1.0, 1.0]", `f.toml:9: camera[1].region[0].rec: unknown key: did you mean "rect"?`},
		{"missing file", "[mqtt]\nca_file = \"/nonexistent/ca.pem\"", "f.toml:2: mqtt.ca_file: stat /nonexistent/ca.pem"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f.toml", tt.text)
			var problems *Error
			if !errors.As(err, &problems) {
				t.Fatalf("got error %v, want *Error", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %s\nwant it to contain %s", err, tt.want)
			}
		})
	}
}

func TestAllProblemsAreReportedInOrder(t *testing.T) {
	_, err := Parse("f.toml", "nod = \"x\"\n[engine]\nmax_batch = 99\nthreads = -1\n")
	var problems *Error
	if !errors.As(err, &problems) || len(problems.Problems) != 3 {
		t.Fatalf("got %v, want three problems", err)
	}
	for i, p := range problems.Problems {
		if want := []int{1, 3, 4}[i]; p.Line != want {
			t.Errorf("problem %d (%s) is on line %d, want %d", i, p.Key, p.Line, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join("..", "..", "..", "configs", "*.toml"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("[[camera]]\nname = '''\na'''")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := Parse("fuzz.toml", text)
		if err != nil {
			var problems *Error
			if !errors.As(err, &problems) || len(problems.Problems) == 0 {
				t.Fatalf("error %v does not say what is wrong", err)
			}
			if !reflect.DeepEqual(cfg, Config{}) {
				t.Fatal("a configuration came with the error")
			}
			return
		}
		for _, camera := range cfg.Cameras {
			if camera.Name == "" || camera.Source == "" {
				t.Fatalf("accepted a camera without name or source: %+v", camera)
			}
		}
	})
}

func TestSize(t *testing.T) {
	for text, want := range map[string]uint64{"0": 0, "512": 512, "2GB": 2e9, "1GiB": 1 << 30, "1.5 MB": 1.5e6, "3kB": 3000, "7B": 7} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s.Bytes() != want {
			t.Errorf("%q is %d, %v; want %d", text, s.Bytes(), err, want)
		}
	}
	for _, text := range []string{"", "GB", "-1", "NaN", "1e30GB", "1 TB"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %d", text, s.Bytes())
		}
	}
}
