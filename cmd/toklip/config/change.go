package config

import (
	"fmt"
	"reflect"
	"slices"
)

// reloaded are the keys that [Restart] leaves out: a running daemon takes them over.
var reloaded = []string{
	"labels.publish", "labels.min_change", "labels.threshold", "labels.hysteresis", "labels.hold", "labels.templates",
	"labels.set", "labels.label", "labels.regions", "camera.labels", "camera.region",
}

// Restart lists the keys whose values differ and that a running daemon does not take over. A camera that came or went is
// "camera NAME".
func Restart(running, read Config) []string {
	var keys []string
	differ("", "", reflect.ValueOf(running), reflect.ValueOf(read), &keys)
	return keys
}

// differ appends the keys of a table whose values are not the same in a and b. key has names of cameras in it, plain has not.
func differ(key, plain string, a, b reflect.Value, keys *[]string) {
	for i := range a.NumField() {
		name := a.Type().Field(i).Tag.Get("toml")
		key, plain, a, b := join(key, name), join(plain, name), a.Field(i), b.Field(i)
		switch {
		case slices.Contains(reloaded, plain):
		case plain == "camera":
			differCameras(a.Interface().([]Camera), b.Interface().([]Camera), keys)
		case a.Kind() == reflect.Struct:
			differ(key, plain, a, b, keys)
		case !reflect.DeepEqual(a.Interface(), b.Interface()):
			*keys = append(*keys, key)
		}
	}
}

// differCameras tells cameras by their names: their order means nothing.
func differCameras(a, b []Camera, keys *[]string) {
	named := func(cameras []Camera, name string) int {
		return slices.IndexFunc(cameras, func(c Camera) bool { return c.Name == name })
	}
	for _, camera := range a {
		key := fmt.Sprintf("camera %s", camera.Name)
		if i := named(b, camera.Name); i >= 0 {
			differ(key, "camera", reflect.ValueOf(camera), reflect.ValueOf(b[i]), keys)
		} else {
			*keys = append(*keys, key)
		}
	}
	for _, camera := range b {
		if named(a, camera.Name) < 0 {
			*keys = append(*keys, fmt.Sprintf("camera %s", camera.Name))
		}
	}
}
