package mqtt_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/mqtt"
)

// event makes an event whose content follows from its sequence.
func event(sequence uint64) api.LabelEvent {
	return api.LabelEvent{
		BootID: "boot", Camera: "front", Sequence: sequence, Label: fmt.Sprintf("box %d", sequence%7), Event: api.LabelAppeared,
		Reason: api.ReasonScore, LabelSet: "l1", AtNS: 1000 + int64(sequence), SinceNS: 1000 + int64(sequence), Score: 0.75, Peak: 0.75,
	}
}

// sendEvents publishes the events from one number to before another.
func sendEvents(t testing.TB, c *mqtt.Client, from, to uint64) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := c.PublishEvent(event(n)); err != nil {
			t.Fatal(err)
		}
	}
}

// events that an observer has seen, without those that came twice. It fails if one came
// before an older one.
func (o *observer) events(t testing.TB) []api.LabelEvent {
	t.Helper()
	var out []api.LabelEvent
	seen := map[uint64]bool{}
	for _, m := range o.all() {
		if !strings.HasSuffix(m.topic, "/event") {
			continue
		}
		e, err := api.ParseLabelEvent([]byte(m.payload))
		if err != nil {
			t.Fatal(err)
		}
		if m.retained || m.qos != 1 {
			t.Fatalf("event came with QoS %d, retained %v", m.qos, m.retained)
		}
		if seen[e.Sequence] {
			continue
		}
		if len(out) > 0 && e.Sequence < out[len(out)-1].Sequence {
			t.Fatalf("event %d came after %d", e.Sequence, out[len(out)-1].Sequence)
		}
		seen[e.Sequence] = true
		out = append(out, *e)
	}
	return out
}

// awaitEvents waits for the events from one number to before another, all of them and in
// order.
func (o *observer) awaitEvents(t testing.TB, from, to uint64) {
	t.Helper()
	o.await(t, "toklip/robot-1/camera/front/event", func(payload string) bool {
		return strings.Contains(payload, fmt.Sprintf(`"sequence":%d,`, to-1))
	})
	got := o.events(t)
	if len(got) != int(to-from) {
		t.Fatalf("%d events came, from %d on; want %d from %d on", len(got), got[0].Sequence, to-from, from)
	}
	for i, e := range got {
		if want := event(from + uint64(i)); e != want {
			t.Fatalf("event came as %+v, want %+v", e, want)
		}
	}
}

// Events outlast a broker that is away, from before the first connect too; they come in
// order, none is lost, and figures tell of them.
func TestEvents(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		b.stop()
		c, _ := client(t, mqtt.Options{Broker: b.url})
		sendEvents(t, c, 0, 100)
		if s := c.Stats(); s.EventsWaiting != 100 || s.Events != 0 || s.EventsDropped != 0 {
			t.Errorf("without a broker: %+v", s)
		}
		b.start()
		eventually(t, "the events are out", func() bool { return c.Stats().Events == 100 })

		o := observe(t, b.url, "toklip/robot-1/camera/+/event", "toklip/robot-1/metrics")
		sendEvents(t, c, 100, 200)
		o.awaitEvents(t, 100, 200)
		b.stop()
		eventually(t, "the loss is noticed", func() bool { return !c.Connected() })
		sendEvents(t, c, 200, 300)
		b.start()
		eventually(t, "the events are out", func() bool { return c.Stats().EventsWaiting == 0 })
		o = observe(t, b.url, "toklip/robot-1/camera/+/event", "toklip/robot-1/metrics") // it came too late for those
		sendEvents(t, c, 300, 400)
		o.awaitEvents(t, 300, 400)
		eventually(t, "all are acknowledged", func() bool { return c.Stats().Events >= 400 })
		if s := c.Stats(); s.EventsWaiting != 0 || s.EventsDropped != 0 {
			t.Errorf("in the end: %+v", s)
		}
		if err := c.PublishMetrics(api.Metrics{}); err != nil {
			t.Fatal(err)
		}
		m := unmarshal[api.Metrics](t, o.await(t, c.Topics().Metrics(), any1).payload)
		if m.MQTT.Events < 400 || m.MQTT.EventsWaiting != 0 || m.MQTT.EventsDropped != 0 {
			t.Errorf("metrics say %+v", m.MQTT)
		}
	})
}

// A connection that swallows events and their acknowledgements: with those that were under
// way all begin again. Others go on publishing meanwhile.
func TestEventsWithoutAcknowledgement(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	p := newProxy(t, strings.TrimPrefix(b.url, "mqtt://"))
	c, _ := client(t, mqtt.Options{Broker: "mqtt://" + p.listener.Addr().String(), AckTimeout: 300 * time.Millisecond})
	connected(t, c)
	o := observe(t, b.url, "toklip/robot-1/camera/+/event")
	sendEvents(t, c, 0, 50)
	o.awaitEvents(t, 0, 50)
	for round := range uint64(3) {
		connected(t, c)
		p.stall()
		sendEvents(t, c, 50+round*100, 150+round*100)
		eventually(t, "the connection is given up", func() bool { return !c.Connected() })
		if round == 1 {
			time.Sleep(50 * time.Millisecond) // attempts that fail come between
		}
		p.resume()
	}
	o.awaitEvents(t, 0, 350)
	eventually(t, "all are acknowledged", func() bool { return c.Stats().EventsWaiting == 0 })
	if s := c.Stats(); s.Events != 350 || s.EventsDropped != 0 {
		t.Errorf("%+v", s)
	}
}

// Of too many events the oldest go, and are counted. The broker gets all of the rest,
// after the node was announced. (What it makes of them is its own affair: brokers drop what
// a subscriber is too slow to take.)
func TestEventsAreBounded(t *testing.T) {
	const most, sent = 4096, 5000
	brokers(t, func(t *testing.T, b *anyBroker) {
		o := observe(t, b.url, "toklip/robot-1/camera/+/event", "toklip/robot-1/availability")
		c, err := mqtt.New(mqtt.Options{Broker: b.url, Node: "robot-1", Logger: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		var senders sync.WaitGroup
		for range 4 { // from several goroutines: these are not what is checked
			senders.Add(1)
			go func() {
				defer senders.Done()
				sendEvents(t, c, 0, 1000)
			}()
		}
		senders.Wait()
		if s := c.Stats(); s.EventsWaiting != 4000 || s.EventsDropped != 0 {
			t.Errorf("%+v", s)
		}
		sendEvents(t, c, 0, sent)
		if s := c.Stats(); s.EventsWaiting != most || s.EventsDropped != 4000+sent-most {
			t.Errorf("%+v", s)
		}
		run(t, c)
		eventually(t, "all are acknowledged", func() bool { return c.Stats().Events == most })
		if s := c.Stats(); s.EventsWaiting != 0 || s.EventsDropped != 4000+sent-most {
			t.Errorf("%+v", s)
		}
		eventually(t, "an event", func() bool { return len(o.all()) > 1 })
		if got := o.events(t); got[0] != event(sent-most) {
			t.Errorf("the first event is %+v, want %d", got[0], sent-most)
		}
		if first := o.all()[0]; first.payload != api.Online {
			t.Errorf("the first message is %.60s on %s: events hold up %q", first.payload, first.topic, api.Online)
		}
	})
}

// What was said right before the end is out before "offline".
func TestLastEvents(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		c, stop := client(t, mqtt.Options{Broker: b.url})
		connected(t, c)
		o := observe(t, b.url, "toklip/robot-1/camera/+/event", "toklip/robot-1/availability")
		sendEvents(t, c, 0, 200)
		stop()
		o.await(t, c.Topics().Availability(), is(api.Offline))
		o.awaitEvents(t, 0, 200)
		all := o.all()
		if last := all[len(all)-1]; last.payload != api.Offline {
			t.Errorf("the last message is %.60s on %s", last.payload, last.topic)
		}
	})
}

func TestEventsRefused(t *testing.T) {
	c, err := mqtt.New(mqtt.Options{Broker: "mqtt://127.0.0.1", Node: "robot-1"})
	if err != nil {
		t.Fatal(err)
	}
	e := event(1)
	e.Camera = "Front"
	if err := c.PublishEvent(e); err == nil || !strings.Contains(err.Error(), `name "Front"`) {
		t.Errorf("error %v does not name the camera", err)
	}
	if s := c.Stats(); s.EventsWaiting != 0 || s.EventsDropped != 0 {
		t.Errorf("%+v", s)
	}
}
