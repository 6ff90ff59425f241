package mqtt_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/mqtt"
)

// A broker that falls silent does not hold up the end beyond ShutdownTimeout, whatever the
// client waits for just then.
func TestStopAtSilentBroker(t *testing.T) {
	const (
		answer   = time.Hour // what the client would wait for an answer
		shutdown = 200 * time.Millisecond
	)
	options := func(address string) mqtt.Options {
		return mqtt.Options{
			Broker: "mqtt://" + address, ConnectTimeout: answer, AckTimeout: answer, WriteTimeout: answer,
			ShutdownTimeout: shutdown,
		}
	}
	stopIn := func(t *testing.T, stop func()) {
		t.Helper()
		began := time.Now()
		stop() // fails the test itself if it takes for ever
		if took := time.Since(began); took > shutdown+5*time.Second {
			t.Errorf("the end took %v, ShutdownTimeout is %v", took, shutdown)
		}
	}
	t.Run("document", func(t *testing.T) {
		b := embedded(t, mqtt.BrokerOptions{})
		p := newProxy(t, strings.TrimPrefix(b.url, "mqtt://"))
		c, stop := client(t, options(p.listener.Addr().String()))
		connected(t, c)
		o := observe(t, b.url, c.Topics().Availability())
		p.stall()
		for range 3 { // one passes, what the proxy was reading for; the next has no acknowledgement
			if err := c.SetState(api.State{State: api.StateReady, SinceNS: time.Now().UnixNano()}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		stopIn(t, stop)
		p.resume()
		o.await(t, c.Topics().Availability(), is(api.Offline))
	})
	t.Run("frames", func(t *testing.T) {
		b := embedded(t, mqtt.BrokerOptions{})
		p := newProxy(t, strings.TrimPrefix(b.url, "mqtt://"))
		c, stop := client(t, options(p.listener.Addr().String()))
		connected(t, c)
		p.stall()
		var lent owner
		eventually(t, "the socket takes no more", func() bool {
			f := frame(uint64(lent.lent.Load()), &lent)
			f.Features = make([]float32, 256*1152)
			if err := c.PublishFrame(f); err != nil {
				t.Fatal(err)
			}
			return c.Stats().DroppedPublish > 0
		})
		stopIn(t, stop)
		if lent.back.Load() != lent.lent.Load() {
			t.Errorf("%d of %d frames were given back", lent.back.Load(), lent.lent.Load())
		}
	})
	t.Run("subscription", func(t *testing.T) {
		// A broker that lets us in and then says nothing more.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		let, gone := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(gone)
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			packet := make([]byte, 1024)
			if _, err := conn.Read(packet); err != nil {
				t.Error(err)
			}
			if _, err := conn.Write([]byte{0x20, 2, 0, 0}); err != nil { // CONNACK, accepted
				t.Error(err)
			}
			if n, err := conn.Read(packet); err != nil || packet[0] != 0x82 {
				t.Errorf("%x (%v), want SUBSCRIBE", packet[:n], err)
			}
			close(let)
			_, _ = io.Copy(io.Discard, conn)
		}()
		_, stop := client(t, options(l.Addr().String()))
		<-let
		_ = l.Close()
		stopIn(t, stop)
		<-gone
	})
}

// The embedded broker, which ends right after the client, still hands its last words out.
func TestLastWordsAtEmbeddedBroker(t *testing.T) {
	for range 10 {
		b := embedded(t, mqtt.BrokerOptions{})
		c, stop := client(t, mqtt.Options{Broker: b.url})
		connected(t, c)
		observers := make([]*observer, 20)
		for i := range observers {
			observers[i] = observe(t, b.url, c.Topics().Availability())
		}
		stop()
		b.stop()
		for _, o := range observers {
			o.await(t, c.Topics().Availability(), is(api.Offline))
			o.close()
		}
	}
}
