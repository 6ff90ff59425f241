package mqtt

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/toklip/toklip/api"
)

const (
	// maxEvents wait for the broker: a camera's whole set of 1000 labels may go at once.
	maxEvents = 4096
	// eventWindow is how many events are under way at a time. One after the other a distant
	// broker's round trips would add up; more than 100 some brokers do not allow.
	eventWindow = 64
)

// PublishEvent hands an event over to be published with QoS 1 and returns at once;
// e.Camera names the topic. Events keep their order. They are kept while the broker is
// away and until it has acknowledged them; when too many wait, the oldest is dropped and
// counted in Stats. An event whose acknowledgement was lost with the connection is
// published again.
//
// The error says what is wrong with the event, which is then dropped.
func (c *Client) PublishEvent(e api.LabelEvent) error {
	if err := e.Check(); err != nil {
		return fmt.Errorf("publish event: %w", err)
	}
	c.events.put(e)
	c.docs.signal()
	return nil
}

// eventQueue holds events that the broker has not acknowledged, in a ring.
type eventQueue struct {
	mu                 sync.Mutex
	ring               []api.LabelEvent // grows up to maxEvents
	first              uint64           // number of the oldest event
	next               uint64           // number of the next event to come; next-first wait
	published, dropped uint64
}

func (q *eventQueue) put(e api.LabelEvent) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if waiting := int(q.next - q.first); waiting == len(q.ring) {
		if waiting == maxEvents {
			q.first++
			q.dropped++
		} else {
			q.grow()
		}
	}
	q.ring[q.next%uint64(len(q.ring))] = e
	q.next++
}

// grow doubles the ring; events move to where their numbers belong in it.
func (q *eventQueue) grow() {
	ring := make([]api.LabelEvent, min(max(2*len(q.ring), eventWindow), maxEvents))
	for n := q.first; n != q.next; n++ {
		ring[n%uint64(len(ring))] = q.ring[n%uint64(len(q.ring))]
	}
	q.ring = ring
}

// oldest appends up to eventWindow events to dst; the first has the number given back.
func (q *eventQueue) oldest(dst []api.LabelEvent) ([]api.LabelEvent, uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n := q.first; n != q.next && n-q.first < eventWindow; n++ {
		dst = append(dst, q.ring[n%uint64(len(q.ring))])
	}
	return dst, q.first
}

// sent forgets the event of that number, which is the oldest unless it was dropped while
// it was under way.
func (q *eventQueue) sent(number uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.published++
	if number < q.first {
		q.dropped-- // it got through after all
		return
	}
	q.ring[q.first%uint64(len(q.ring))] = api.LabelEvent{}
	q.first++
}

func (q *eventQueue) stats() (published, waiting, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.published, q.next - q.first, q.dropped
}

// sendEvents publishes the oldest events and waits for their acknowledgements. It reports
// whether there were any. Those that were not acknowledged stay for the next connection.
func (c *Client) sendEvents(s *session) (bool, error) {
	var window [eventWindow]api.LabelEvent
	events, number := c.events.oldest(window[:0])
	var tokens [eventWindow]paho.Token
	for i := range events {
		payload, err := json.Marshal(&events[i])
		if err != nil { // Check let it through: strings and finite numbers always can be
			return true, fmt.Errorf("encode event: %w", err)
		}
		tokens[i] = s.paho.Publish(c.topics.Camera(events[i].Camera, api.KindEvent), 1, false, payload)
	}
	deadline := time.Now().Add(c.opt.AckTimeout)
	for i := range events {
		if err := c.wait(s, tokens[i], c.topics.Camera(events[i].Camera, api.KindEvent), time.Until(deadline)); err != nil {
			return true, err
		}
		c.events.sent(number + uint64(i))
	}
	return len(events) > 0, nil
}
