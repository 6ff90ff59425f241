package mqtt

import (
	"sync"

	"github.com/toklip/toklip/api"
)

// stale finds cameras that the broker still retains a status of and the node has no more:
// they were renamed or taken out of the configuration, and would look online for ever.
// Calibrations are left alone; they stay true of a camera that comes back.
type stale struct {
	mu    sync.Mutex
	seen  map[string]bool // cameras of retained statuses; at most maxStale
	known map[string]bool // cameras of the node; nil as long as nobody said
}

// maxStale bounds what a broker can make us remember.
const maxStale = 1024

// receive is called by the library for statuses below the node, its own among them. Only
// what was there before the subscription comes with the retain flag.
func (c *Client) receiveStatus(topic string, payload []byte, retained bool) {
	t, ok := api.ParseTopic(c.topics.Prefix(), topic)
	if !retained || len(payload) == 0 || !ok {
		return
	}
	c.stale.mu.Lock()
	defer c.stale.mu.Unlock()
	if len(c.stale.seen) < maxStale {
		c.stale.seen[t.Camera] = true
	}
	c.forgetStale()
}

// knowCameras notes which cameras the node has.
func (c *Client) knowCameras(cameras []api.CameraInfo) {
	c.stale.mu.Lock()
	defer c.stale.mu.Unlock()
	c.stale.known = make(map[string]bool, len(cameras))
	for _, camera := range cameras {
		c.stale.known[camera.Name] = true
	}
	c.forgetStale()
}

// forgetStale has the broker forget what it can be told to by now. stale.mu is held.
func (c *Client) forgetStale() {
	if c.stale.known == nil {
		return
	}
	for camera := range c.stale.seen {
		topic := c.topics.Camera(camera, api.KindStatus)
		if !c.stale.known[camera] && c.docs.clear(topic, rankCamera) {
			c.log.Info("the broker forgets the status of a camera that this node has no more", "camera", camera)
		}
		delete(c.stale.seen, camera)
	}
}
