package mqtt

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/toklip/toklip/api"
)

// documents keeps the newest text of each document and knows which the broker has not
// yet acknowledged. It is bounded by the number of topics: one text each.
type documents struct {
	mu   sync.Mutex
	all  map[string]*document
	wake chan struct{} // holds one; tells the connection that something is to be sent
}

type document struct {
	topic    string
	payload  []byte // never changed, only replaced: the library keeps what it publishes
	qos      byte
	retained bool
	rank     int  // order of publishing after a connect
	dirty    bool // not acknowledged since it was set or since the connect
	gone     bool // forget once the empty text is acknowledged
}

func newDocuments() *documents {
	return &documents{all: make(map[string]*document), wake: make(chan struct{}, 1)}
}

func (d *documents) set(topic string, rank int, qos byte, retained bool, payload []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all[topic] = &document{topic: topic, payload: payload, qos: qos, retained: retained, rank: rank, dirty: true}
	d.signal()
}

// remove has the broker forget a retained document, by an empty text.
func (d *documents) remove(topic string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if doc := d.all[topic]; doc != nil {
		d.all[topic] = &document{topic: topic, payload: []byte{}, qos: doc.qos, retained: true, rank: doc.rank, dirty: true, gone: true}
		d.signal()
	}
}

// clear has the broker forget a retained document that is none of ours, by an empty text.
// It does nothing, and says so, if the document is one of ours.
func (d *documents) clear(topic string, rank int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all[topic] != nil {
		return false
	}
	d.all[topic] = &document{topic: topic, payload: []byte{}, qos: 1, retained: true, rank: rank, dirty: true, gone: true}
	d.signal()
	return true
}

func (d *documents) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// reconnected marks all that is retained to be sent again, and forgets what was only of
// the moment.
func (d *documents) reconnected() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for topic, doc := range d.all {
		if !doc.retained {
			delete(d.all, topic)
			continue
		}
		doc.dirty = true
	}
}

// next is the first document to be sent, nil if there is none.
func (d *documents) next() *document {
	d.mu.Lock()
	defer d.mu.Unlock()
	var first *document
	for _, doc := range d.all {
		if doc.dirty && (first == nil || doc.rank < first.rank || doc.rank == first.rank && doc.topic < first.topic) {
			first = doc
		}
	}
	return first
}

// sent notes that the broker has the document, unless it was replaced meanwhile.
func (d *documents) sent(doc *document) {
	d.mu.Lock()
	defer d.mu.Unlock()
	doc.dirty = false
	if d.all[doc.topic] == doc && (doc.gone || !doc.retained) {
		delete(d.all, doc.topic)
	}
}

// Ranks: what a consumer should know first comes first.
const (
	rankState = iota
	rankInfo
	rankCamera
	rankMetrics
)

func (c *Client) setJSON(topic string, rank int, qos byte, retained bool, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", topic, err)
	}
	c.docs.set(topic, rank, qos, retained, payload)
	return nil
}

// SetInfo publishes the birth document, now if connected and on every connect. The broker
// is made to forget statuses of cameras that are neither in it nor set by SetCameraStatus.
// The error is about encoding: a number that is not finite.
func (c *Client) SetInfo(info api.Info) error {
	info.Cameras = append([]api.CameraInfo{}, info.Cameras...) // the caller's stay as they are
	if info.Engines == nil {
		info.Engines = []api.EngineInfo{}
	}
	for i := range info.Cameras {
		camera := &info.Cameras[i]
		if camera.Publish == nil {
			camera.Publish = []string{}
		}
		if camera.LabelNames == nil {
			camera.LabelNames = []string{}
		}
		if camera.Regions == nil {
			camera.Regions = []api.RegionInfo{}
		}
	}
	c.knowCameras(info.Cameras)
	return c.setJSON(c.topics.Info(), rankInfo, 1, true, info)
}

// SetState publishes what the node is doing, now if connected and on every connect. Run
// itself publishes "stopping" when it ends.
func (c *Client) SetState(state api.State) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping && state.State != api.StateStopping {
		return nil // whoever still works must not make the node look alive again
	}
	c.state = state
	return c.setJSON(c.topics.State(), rankState, 1, true, state)
}

// SetCameraStatus publishes what a camera is doing, now if connected and on every
// connect.
func (c *Client) SetCameraStatus(camera string, status api.CameraStatus) error {
	if err := api.ValidName(camera); err != nil {
		return fmt.Errorf("camera: %w", err)
	}
	return c.setJSON(c.topics.Camera(camera, api.KindStatus), rankCamera, 1, true, status)
}

// SetCalibration publishes a camera's calibration, now if connected and on every connect.
func (c *Client) SetCalibration(camera string, calibration api.Calibration) error {
	if err := api.ValidName(camera); err != nil {
		return fmt.Errorf("camera: %w", err)
	}
	if calibration.D == nil {
		calibration.D = []float64{}
	}
	return c.setJSON(c.topics.Camera(camera, api.KindCalibration), rankCamera, 1, true, calibration)
}

// RemoveCamera has the broker forget the retained documents of a camera and drops what
// waits to be published of it.
func (c *Client) RemoveCamera(camera string) {
	c.docs.remove(c.topics.Camera(camera, api.KindStatus))
	c.docs.remove(c.topics.Camera(camera, api.KindCalibration))
	c.frames.remove(camera)
}

// PublishMetrics publishes figures once, or not at all while there is no connection. Its
// MQTT part is filled in here.
func (c *Client) PublishMetrics(m api.Metrics) error {
	if !c.Connected() {
		return nil
	}
	s := c.Stats()
	m.MQTT = api.MQTTMetrics{Connected: true, Connects: s.Connects, Published: s.Published, Bytes: s.Bytes,
		Dropped: s.DroppedPublish + s.DroppedBroker, Commands: s.Commands,
		Events: s.Events, EventsWaiting: s.EventsWaiting, EventsDropped: s.EventsDropped}
	if m.Cameras == nil {
		m.Cameras = map[string]api.CameraMetrics{}
	}
	return c.setJSON(c.topics.Metrics(), rankMetrics, 0, false, m)
}
