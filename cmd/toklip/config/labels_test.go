package config

import (
	"reflect"
	"testing"
	"time"

	"github.com/toklip/toklip/engine/labels"
)

const labelled = `
[labels]
set = ["red box", "person"]
threshold = 0.4
templates = ["a {}"]
[[labels.label]]
name = "person"
prompts = ["somebody", "a human"]
threshold = 0.1
hold = "3s"
[[labels.label]]
name = "robot"
templates = ["{}"]
hysteresis = 0.0
[[camera]]
name = "left"
source = "test://pattern"
[[camera.region]]
name = "door"
rect = [0.1, 0.2, 0.3, 0.5]
[[camera.region]]
name = "ramp"
polygon = [[0.0, 1.0], [0.5, 0.5], [1.0, 1.0]]
[[camera]]
name = "right"
source = "test://pattern"
labels = ["person", "cone"]
[[camera]]
name = "dark"
source = "test://pattern"
labels = []
`

// Labels have what they say themselves, then what [labels] says, and a hysteresis that fits their threshold.
func TestLabelSets(t *testing.T) {
	cfg, err := Parse("f.toml", labelled)
	if err != nil {
		t.Fatal(err)
	}
	box := labels.Label{Name: "red box", Templates: []string{"a {}"}, Threshold: 0.4, Hysteresis: 0.1, Hold: time.Second}
	person := labels.Label{Name: "person", Prompts: []string{"somebody", "a human"}, Templates: []string{"a {}"}, Threshold: 0.1, Hysteresis: 0.05, Hold: 3 * time.Second}
	robot := labels.Label{Name: "robot", Templates: []string{"{}"}, Threshold: 0.4, Hold: time.Second}
	cone := box
	cone.Name = "cone"
	for i, want := range [][]labels.Label{{box, person, robot}, {person, cone}, nil} {
		if got := cfg.Labels.LabelSet(cfg.Cameras[i]).Labels; !reflect.DeepEqual(got, want) {
			t.Errorf("camera %s has %+v, want %+v", cfg.Cameras[i].Name, got, want)
		}
	}
	regions := cfg.Cameras[0].Regions
	if got, want := regions[0].Area(), labels.Rect("door", 0.1, 0.2, 0.3, 0.5); !reflect.DeepEqual(got, want) {
		t.Errorf("door is %+v, want %+v", got, want)
	}
	if got, want := regions[1].Area().Polygon, []labels.Point{{X: 0, Y: 1}, {X: 0.5, Y: 0.5}, {X: 1, Y: 1}}; !reflect.DeepEqual(got, want) {
		t.Errorf("ramp is %+v, want %+v", got, want)
	}
}

// A reload takes over labels and regions; what else changed is named.
func TestRestartNamesWhatAReloadLeaves(t *testing.T) {
	running, err := Parse("f.toml", labelled)
	if err != nil {
		t.Fatal(err)
	}
	read, err := Parse("f.toml", labelled)
	if err != nil {
		t.Fatal(err)
	}
	if keys := Restart(running, read); keys != nil {
		t.Errorf("the same file again: %v", keys)
	}
	threshold := 0.7
	read.Labels.Set, read.Labels.Threshold, read.Labels.Publish, read.Labels.Regions.MaxFPS = []string{"x"}, 0.3, "change", 1
	read.Labels.Label = []Label{{Name: "y", Threshold: &threshold}}
	read.Cameras[0].Labels, read.Cameras[0].Regions = []string{"x"}, nil
	if keys := Restart(running, read); keys != nil {
		t.Errorf("labels and regions: %v", keys)
	}
	read.Node, read.Engine.TensorRT.Device, read.Labels.StateFile = "other", 1, "elsewhere"
	read.Cameras[0], read.Cameras[1] = read.Cameras[1], read.Cameras[0]
	read.Cameras[0].MaxFPS = 3
	read.Cameras[2].Name = "light"
	want := []string{"node", "engine.tensorrt.device", "labels.state_file", "camera right.max_fps", "camera dark", "camera light"}
	if keys := Restart(running, read); !reflect.DeepEqual(keys, want) {
		t.Errorf("got %v, want %v", keys, want)
	}
}
