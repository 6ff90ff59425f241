package mqtt_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/mqtt"
)

// A broker that dies and comes back without memory: everything retained is there again,
// the publisher never waited, every frame is accounted for.
func TestBrokerRestart(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		var mu sync.Mutex
		var events []bool
		c, stop := client(t, mqtt.Options{Broker: b.url, OnConnection: func(n mqtt.Connection) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, n.Connected)
		}})
		setDocuments(t, c)
		connected(t, c)
		var lent owner
		send := func(n int) {
			for range n {
				if err := c.PublishFrame(frame(uint64(lent.lent.Load()), &lent)); err != nil {
					t.Fatal(err)
				}
			}
		}
		send(50)
		b.stop()
		eventually(t, "the loss is noticed and told", func() bool { return !c.Connected() && c.Stats().LastError != nil })
		// What waited when the connection went has to be settled first.
		eventually(t, "all frames are given back", func() bool { return lent.back.Load() == lent.lent.Load() })
		s := c.Stats()
		send(100)
		if d := c.Stats().DroppedBroker - s.DroppedBroker; d != 100 {
			t.Errorf("%d of 100 frames without a broker are counted", d)
		}
		if lent.back.Load() != lent.lent.Load() {
			t.Errorf("%d of %d frames given back without a broker", lent.back.Load(), lent.lent.Load())
		}
		if err := c.SetState(api.State{State: api.StateDegraded, Reason: "changed while away"}); err != nil {
			t.Fatal(err)
		}
		b.start()
		connected(t, c)
		o := observe(t, b.url, "toklip/robot-1/+", "toklip/robot-1/camera/+/+")
		topics := c.Topics()
		o.await(t, topics.Availability(), is("online"))
		o.await(t, topics.Info(), any1)
		o.await(t, topics.Camera("front", api.KindStatus), any1)
		o.await(t, topics.Camera("front", api.KindCalibration), any1)
		if m := o.await(t, topics.State(), any1); unmarshal[api.State](t, m.payload).Reason != "changed while away" {
			t.Errorf("state = %s", m.payload)
		}
		send(1)
		m := o.await(t, topics.Camera("front", api.KindTokens), any1)
		var tokens toklipv1.Tokens
		if err := proto.Unmarshal([]byte(m.payload), &tokens); err != nil {
			t.Fatal(err)
		}
		if tokens.Header.Drops.Broker < 100 {
			t.Errorf("header tells of %d frames dropped for want of a broker, want 100 or more", tokens.Header.Drops.Broker)
		}
		eventually(t, "all frames are given back", func() bool { return lent.back.Load() == lent.lent.Load() })
		cs := c.CameraStats("front")
		if sum := cs.Published + cs.DroppedBroker + cs.DroppedPublish; sum != uint64(lent.lent.Load()) {
			t.Errorf("%+v add up to %d of %d frames", cs, sum, lent.lent.Load())
		}
		if c.Stats().Connects != 2 {
			t.Errorf("%d connects, want 2", c.Stats().Connects)
		}
		stop()
		mu.Lock()
		defer mu.Unlock()
		if !events[0] || events[1] || events[len(events)-1] {
			t.Errorf("connection events = %v", events)
		}
	})
}

// The broker is not there at first.
func TestBrokerComesLater(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	b.stop()
	c, _ := client(t, mqtt.Options{Broker: b.url})
	setDocuments(t, c)
	eventually(t, "a failed attempt", func() bool {
		err := c.Stats().LastError
		return err != nil && strings.Contains(err.Error(), "nothing listens there")
	})
	b.start()
	o := observe(t, b.url, "toklip/robot-1/availability")
	o.await(t, c.Topics().Availability(), is("online"))
}

// Run ends at once while there is no broker, however long the pause is.
func TestStopWithoutBroker(t *testing.T) {
	for name, url := range map[string]string{"refused": "mqtt://" + freePort(t), "silent": silent(t)} {
		t.Run(name, func(t *testing.T) {
			c, err := mqtt.New(mqtt.Options{Broker: url, Node: "robot-1", RetryMin: time.Hour, ConnectTimeout: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			stop := run(t, c)
			time.Sleep(50 * time.Millisecond) // inside the attempt or the pause
			stop()
		})
	}
}

// silent is a server that accepts and says nothing.
func silent(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Add(1)
	go func() {
		defer conns.Done()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			go func() {
				defer conns.Done()
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	return "mqtt://" + l.Addr().String()
}

// A killed node is offline, by its will.
func TestWillOfKilledProcess(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		o := observe(t, b.url, "toklip/victim/availability")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+b.url)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}()
		o.await(t, "toklip/victim/availability", is("online"))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		o.await(t, "toklip/victim/availability", is("offline"))
		late := observe(t, b.url, "toklip/victim/availability")
		if m := late.await(t, "toklip/victim/availability", is("offline")); !m.retained {
			t.Error("the will is not retained")
		}
	})
}

// Somebody, for instance the will of a dead connection, says we are offline.
func TestAvailabilityIsDefended(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		c, _ := client(t, mqtt.Options{Broker: b.url})
		connected(t, c)
		topic := c.Topics().Availability()
		o := observe(t, b.url, topic)
		o.await(t, topic, is("online"))
		o.send(t, topic, true, "offline")
		eventually(t, "online again", func() bool {
			all := o.all()
			n := len(all)
			return n >= 3 && all[n-2].payload == "offline" && all[n-1].payload == "online"
		})
	})
}

// Two nodes of one name kick each other; both must go on trying without a storm.
func TestNamesakes(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	kicked := make(chan error, 1000)
	mk := func() *mqtt.Client {
		c, err := mqtt.New(mqtt.Options{Broker: b.url, Node: "twin", RetryMin: 20 * time.Millisecond, RetryMax: 10 * time.Second, Logger: testLog(t),
			OnConnection: func(n mqtt.Connection) {
				if n.Err != nil {
					kicked <- n.Err
				}
			}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, second := mk(), mk()
	run(t, first)
	connected(t, first)
	run(t, second)
	if err := <-kicked; !strings.Contains(err.Error(), "another client has our client id") {
		t.Errorf("error %v does not tell of a namesake", err)
	}
}

// A broker that stops reading: publishing goes on dropping and never waits, and the
// connection is given up.
func TestStalledBroker(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	p := newProxy(t, strings.TrimPrefix(b.url, "mqtt://"))
	c, _ := client(t, mqtt.Options{Broker: "mqtt://" + p.listener.Addr().String(), WriteTimeout: 500 * time.Millisecond, AckTimeout: time.Second})
	connected(t, c)
	p.stall()
	var lent owner
	send := func() {
		f := frame(uint64(lent.lent.Load()), &lent)
		f.Features = make([]float32, 256*1152) // fills the sockets' buffers soon
		if err := c.PublishFrame(f); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a newer frame takes the place of a waiting one", func() bool {
		send()
		return c.Stats().DroppedPublish > 0
	})
	eventually(t, "the connection is given up", func() bool {
		send()
		return !c.Connected()
	})
	p.resume()
	connected(t, c)
	o := observe(t, b.url, c.Topics().Camera("front", api.KindTokens))
	send()
	o.await(t, c.Topics().Camera("front", api.KindTokens), any1)
	eventually(t, "all frames are given back", func() bool { return lent.back.Load() == lent.lent.Load() })
}

// proxy stands between client and broker and can stop reading.
type proxy struct {
	listener net.Listener
	mu       sync.Mutex
	gate     *sync.Cond
	stalled  bool
	over     bool
	conns    []net.Conn
	wg       sync.WaitGroup
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l}
	p.gate = sync.NewCond(&p.mu)
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", to)
			if err != nil {
				_ = from.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, from, back)
			p.mu.Unlock()
			p.wg.Add(2)
			go p.copy(back, from)
			go p.copy(from, back)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.over = true
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.gate.Broadcast()
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) copy(to, from net.Conn) {
	defer p.wg.Done()
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 4096)
	for {
		p.mu.Lock()
		for p.stalled && !p.over {
			p.gate.Wait()
		}
		p.mu.Unlock()
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = true
}

func (p *proxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = false
	p.gate.Broadcast()
}
