package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/mqtt"
)

// registerCommands makes the node answer on its command topics.
func (d *daemon) registerCommands() {
	for verb, handler := range map[string]mqtt.Handler{
		"ping":    d.ping,
		"cameras": d.listCameras,
		"enable":  func(_ context.Context, args json.RawMessage) (any, error) { return d.enable(args, true) },
		"disable": func(_ context.Context, args json.RawMessage) (any, error) { return d.enable(args, false) },
		"max-fps": d.setMaxFPS,
	} {
		if err := d.client.Handle(verb, handler); err != nil {
			d.log.Error("registering a command failed", "verb", verb, "error", err) // a mistake of ours
		}
	}
	for verb, handler := range d.labelCommands() {
		if err := d.client.HandleLong(verb, handler); err != nil {
			d.log.Error("registering a command failed", "verb", verb, "error", err)
		}
	}
}

// ping answers with the time and the run of the daemon.
func (d *daemon) ping(context.Context, json.RawMessage) (any, error) {
	return map[string]any{"node": d.node, "boot_id": d.bootID, "time_ns": time.Now().UnixNano()}, nil
}

// listCameras answers with the status of every camera, by name.
func (d *daemon) listCameras(context.Context, json.RawMessage) (any, error) {
	all := map[string]api.CameraStatus{}
	cameras := d.serving()
	if len(cameras) == 0 {
		return all, nil
	}
	dropped := d.engineDrops()
	for _, c := range cameras {
		all[c.cfg.Name] = d.cameraStatus(c, c.capture.Status(), dropped[c.cfg.Name])
	}
	return all, nil
}

// enable switches a camera on or off: {"camera": name}.
func (d *daemon) enable(args json.RawMessage, on bool) (any, error) {
	var request struct {
		Camera string `json:"camera"`
	}
	if err := decodeArgs(args, &request); err != nil {
		return nil, err
	}
	c, err := d.camera(request.Camera)
	if err != nil {
		return nil, err
	}
	if c.capture.Status().Ended {
		return nil, fmt.Errorf("camera %s has ended: its source gave its last frame and does not loop; restart the node to play it again", request.Camera)
	}
	c.capture.SetEnabled(on)
	return map[string]any{"camera": request.Camera, "enabled": on}, nil
}

// setMaxFPS limits a camera's rate: {"camera": name, "max_fps": number}.
func (d *daemon) setMaxFPS(_ context.Context, args json.RawMessage) (any, error) {
	var request struct {
		Camera string   `json:"camera"`
		MaxFPS *float64 `json:"max_fps"`
	}
	if err := decodeArgs(args, &request); err != nil {
		return nil, err
	}
	if request.MaxFPS == nil {
		return nil, fmt.Errorf("max_fps is missing: send {\"camera\": name, \"max_fps\": frames a second, 0 for no limit}")
	}
	c, err := d.camera(request.Camera)
	if err != nil {
		return nil, err
	}
	if err := c.slot.SetMaxFPS(*request.MaxFPS); err != nil {
		return nil, err
	}
	return map[string]any{"camera": request.Camera, "max_fps": *request.MaxFPS}, nil
}

// camera finds a camera by name.
func (d *daemon) camera(name string) (*camera, error) {
	var known []string
	for _, c := range d.serving() {
		if c.cfg.Name == name {
			return c, nil
		}
		known = append(known, c.cfg.Name)
	}
	if len(known) == 0 {
		return nil, fmt.Errorf("camera %.64q: the node is starting and has no cameras yet; try again when its state is ready", name)
	}
	return nil, fmt.Errorf("camera %.64q is not known: this node has %s", name, strings.Join(known, ", "))
}

// serving is the list of cameras, empty until all are there.
func (d *daemon) serving() []*camera {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.assembled {
		return nil
	}
	return d.cameras
}

// decodeArgs reads a command's arguments strictly: a misspelt name would otherwise be silence.
func decodeArgs(args json.RawMessage, into any) error {
	if len(args) == 0 {
		return fmt.Errorf("args are missing")
	}
	decoder := json.NewDecoder(bytes.NewReader(args))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("args: %w", err)
	}
	return nil
}
