package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/mqtt"
)

// info is the birth document.
func (d *daemon) info() api.Info {
	m, about := d.model.manifest, d.pipeline.Describe()
	info := api.Info{
		Schema: api.Schema, Version: version, Node: d.node, BootID: d.bootID, StartedNS: d.started.UnixNano(),
		Model: short(m.ModelHash), ModelName: m.Name, ModelSource: m.Source, ModelLicence: m.Licence,
		Codebook: short(m.CodebookHash), CodebookSize: m.Tokens.Codebook, BitsPerToken: m.Tokens.Bits,
		Grid: [2]int{m.Tokens.Rows, m.Tokens.Cols}, ImageSize: m.Image.Size,
		FeatureDim: m.Encoder.FeatureDim, EmbeddingDim: m.Encoder.EmbeddingDim, EmbeddingSpace: m.EmbeddingSpace,
		EmbeddingType: d.cfg.MQTT.EmbeddingType, Normalized: d.cfg.MQTT.Normalize,
		Backend: about.Name, BackendVersion: about.Version, Precision: about.Precision,
		Cameras: []api.CameraInfo{},
	}
	d.accelerator.describe(&info)
	for _, c := range d.cameras {
		info.Cameras = append(info.Cameras, api.CameraInfo{
			Name: c.cfg.Name, Source: api.RedactURI(c.cfg.Source), Enabled: c.cfg.Enabled, Resize: c.cfg.Resize,
			MaxFPS: c.cfg.MaxFPS, Publish: c.cfg.Publish, FrameID: c.cfg.OpticalFrame(),
		})
	}
	d.labels.Describe(&info)
	return info
}

// publishInfo publishes the birth document again.
func (d *daemon) publishInfo() {
	d.informing.Lock()
	defer d.informing.Unlock()
	if err := d.client.SetInfo(d.info()); err != nil {
		d.log.Error("publishing the birth document failed", "error", err)
	}
}

// header is what the headers of all messages of this run share.
func (d *daemon) header() *toklipv1.Header {
	m := d.model.manifest
	return &toklipv1.Header{
		Schema: api.Schema, Node: d.node, BootId: d.bootID,
		Model: short(m.ModelHash), Codebook: short(m.CodebookHash), EmbeddingSpace: m.EmbeddingSpace,
		StaleAfterMs: uint32(d.cfg.MQTT.StaleAfter.Std().Milliseconds()),
	}
}

// short is the part of a hash that stands in messages.
func short(hash string) string { return hash[:min(12, len(hash))] }

// setState publishes what the node is doing, if it changed. After "stopping" comes nothing else: cameras that end are
// no news of the node.
func (d *daemon) setState(state api.NodeState, reason string, progress *api.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	same := d.state.State == state && d.state.Reason == reason && (d.state.Progress == nil) == (progress == nil)
	if same && (progress == nil || *progress == *d.state.Progress) {
		return
	}
	if d.state.State == api.StateStopping && state != api.StateStopping {
		return
	}
	since := d.state.SinceNS
	if d.state.State != state {
		since = time.Now().UnixNano()
	}
	d.state = api.State{State: state, Reason: reason, Progress: progress, SinceNS: since}
	if err := d.client.SetState(d.state); err != nil {
		d.log.Error("publishing the state failed", "error", err)
	}
}

// backendFailed is told of every batch that the backend failed. What fails may fail for every frame: only news are
// told. (The pipeline logs the failures, ever more rarely.)
func (d *daemon) backendFailed(err error) {
	if d.accelerator != nil {
		d.accelerator.backendFailed(err)
	}
	d.mu.Lock()
	news := d.fault != err.Error()
	d.fault = err.Error()
	d.mu.Unlock()
	if news {
		d.review()
	}
}

// backendChanged tells that another backend serves.
func (d *daemon) backendChanged() {
	d.publishInfo()
	d.judgeState()
}

// review publishes every camera's status and the node's state.
func (d *daemon) review() {
	d.reviewing.Lock()
	defer d.reviewing.Unlock()
	dropped := d.engineDrops()
	for _, c := range d.cameras {
		if err := d.client.SetCameraStatus(c.cfg.Name, d.cameraStatus(c, c.capture.Status(), dropped[c.cfg.Name])); err != nil {
			d.log.Error("publishing a camera's status failed", "camera", c.cfg.Name, "error", err)
		}
	}
	d.deriveState()
}

// judgeState publishes the node's state.
func (d *daemon) judgeState() {
	d.reviewing.Lock()
	defer d.reviewing.Unlock()
	d.deriveState()
}

// deriveState makes the node's state of those of cameras and backend. Called with d.reviewing held.
func (d *daemon) deriveState() {
	var troubles []string
	for _, c := range d.cameras {
		status := c.capture.Status()
		// The first attempt to open a camera is no trouble, nor is one that is switched off.
		retrying := status.Restarts > 0 && (status.State == capture.Connecting || status.State == capture.NoPicture)
		if status.State == capture.Stalled || retrying {
			troubles = append(troubles, fmt.Sprintf("camera %s is %s: %s", c.cfg.Name, status.State, status.Reason))
		}
	}
	d.mu.Lock()
	if d.fault != "" {
		if _, failing := d.pipeline.Health(); failing > 0 {
			troubles = append(troubles, "backend: "+d.fault)
		} else {
			d.fault = ""
		}
	}
	d.mu.Unlock()
	var building *api.Progress
	if d.accelerator != nil {
		var trouble string
		if building, trouble = d.accelerator.condition(); trouble != "" && building == nil {
			troubles = append(troubles, trouble)
		}
	}
	if d.labels != nil {
		if trouble := d.labels.Condition(); trouble != "" {
			troubles = append(troubles, trouble)
		}
	}
	switch {
	case building != nil:
		reason := "TensorRT's engines are being built; " + d.pipeline.Describe().Name + " serves meanwhile"
		d.setState(api.StateBuildingEngine, strings.Join(append([]string{reason}, troubles...), "; "), building)
	case len(troubles) > 0:
		d.setState(api.StateDegraded, strings.Join(troubles, "; "), nil)
	default:
		d.setState(api.StateReady, "", nil)
	}
}

func (d *daemon) cameraStatus(c *camera, s capture.Status, e engine.Drops) api.CameraStatus {
	sent := d.client.CameraStats(c.cfg.Name)
	return api.CameraStatus{
		Status: api.CameraState(s.State), Reason: s.Reason, SinceNS: s.Since.UnixNano(),
		Counters: api.CameraCounters{Frames: s.Captured, Published: sent.Published, Restarts: s.Restarts, Drops: allDrops(s, e, sent)},
	}
}

// engineDrops are the pipeline's losses so far, by camera.
func (d *daemon) engineDrops() map[string]engine.Drops {
	var m engine.Metrics
	d.pipeline.Metrics(&m)
	drops := make(map[string]engine.Drops, len(m.Cameras))
	for _, c := range m.Cameras {
		drops[c.Name] = c.Drops
	}
	return drops
}

// allDrops adds up what worker, pipeline and publishing lost of a camera, by the causes that messages name.
func allDrops(s capture.Status, e engine.Drops, sent mqtt.CameraStats) api.Drops {
	lost := lostInCapture(s.Drops)
	return api.Drops{
		Capture: lost.Capture, Queue: e.Replaced, Rate: lost.Rate + e.Rate,
		Invalid: lost.Broken + e.Invalid, Failed: e.Failed, Closed: e.Closed,
		Publish: sent.DroppedPublish, Broker: sent.DroppedBroker,
	}
}

// report publishes metrics at every interval and keeps statuses and state fresh in between.
func (d *daemon) report(ctx context.Context) error {
	ticker := time.NewTicker(d.cfg.MQTT.MetricsInterval.Std())
	defer ticker.Stop()
	var before engine.Metrics
	last, lastCPU := time.Now(), processCPU()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			var m engine.Metrics
			d.pipeline.Metrics(&m)
			cpu := processCPU()
			if err := d.client.PublishMetrics(d.metrics(&m, &before, now, now.Sub(last), cpu-lastCPU)); err != nil {
				d.log.Error("publishing metrics failed", "error", err)
			}
			before, last, lastCPU = m, now, cpu
			d.review()
		}
	}
}

// metrics says what happened since before.
func (d *daemon) metrics(m, before *engine.Metrics, now time.Time, interval, cpu time.Duration) api.Metrics {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	sent := d.client.Stats()
	out := api.Metrics{
		BootID: d.bootID, TimeNS: now.UnixNano(), UptimeNS: now.Sub(d.started).Nanoseconds(), IntervalNS: interval.Nanoseconds(),
		Process: api.ProcessMetrics{
			RSSBytes: residentMemory(os.Getpid()), CPU: cpu.Seconds() / interval.Seconds(), Goroutines: runtime.NumGoroutine(),
			HeapBytes: memory.HeapAlloc, OpenFiles: openFiles(),
		},
		Cameras: map[string]api.CameraMetrics{},
		MQTT: api.MQTTMetrics{
			Connected: sent.Connected, Connects: sent.Connects, Published: sent.Published, Bytes: sent.Bytes,
			Dropped: sent.DroppedPublish + sent.DroppedBroker, Commands: sent.Commands,
		},
	}
	for i, c := range d.cameras {
		status := c.capture.Status()
		if status.PID > 0 {
			out.Process.WorkersRSS += residentMemory(status.PID)
		}
		if i >= len(m.Cameras) {
			continue
		}
		cm := m.Cameras[i]
		var earlier engine.CameraMetrics
		if i < len(before.Cameras) {
			earlier = before.Cameras[i]
		}
		changed, sequence, stages := d.publish.interval(c.cfg.Name)
		results := cm.Results - earlier.Results
		sent := d.client.CameraStats(c.cfg.Name)
		one := api.CameraMetrics{
			FPS: float64(results) / interval.Seconds(), CaptureFPS: float64(cm.Offered-earlier.Offered) / interval.Seconds(),
			Sequence: sequence, ChangedShare: changed, Stages: stages,
			Drops: allDrops(status, cm.Drops, sent), Regions: d.regionMetrics(c.cfg.Name, sent),
		}
		if results > 0 {
			one.ReusedShare = float64(cm.Reused-earlier.Reused) / float64(results)
		}
		out.Cameras[c.cfg.Name] = one
	}
	return out
}

// processCPU is the CPU time this process has used.
func processCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// residentMemory is a process's resident set in bytes; 0 if it is gone.
func residentMemory(pid int) uint64 {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(fields[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
