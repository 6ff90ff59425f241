package mqtt_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"google.golang.org/protobuf/proto"

	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/mqtt"
)

func benchBroker(b *testing.B) *mqtt.Broker {
	server, err := mqtt.NewBroker(mqtt.BrokerOptions{Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return server
}

func benchClient(b *testing.B, url string, json bool) *mqtt.Client {
	c, err := mqtt.New(mqtt.Options{Broker: url, Node: "bench", JSON: json})
	if err != nil {
		b.Fatal(err)
	}
	run(b, c)
	connected(b, c)
	return c
}

// BenchmarkPublishFrame is what publishing costs the pipeline (handover) and the machine
// (whole: until the socket took all messages of the frame).
func BenchmarkPublishFrame(b *testing.B) {
	server := benchBroker(b)
	b.Run("handover", func(b *testing.B) {
		c := benchClient(b, server.URL(), false)
		f := frame(1, nil)
		b.ReportAllocs()
		for b.Loop() {
			if err := c.PublishFrame(f); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, json := range map[string]bool{"protobuf": false, "protobuf+json": true} {
		b.Run("whole/"+name, func(b *testing.B) {
			c := benchClient(b, server.URL(), json)
			released := make(signal, 1)
			f := frame(1, nil)
			b.ReportAllocs()
			for b.Loop() {
				f.Owner = released
				before := c.Stats().Published
				if err := c.PublishFrame(f); err != nil {
					b.Fatal(err)
				}
				<-released
				for c.Stats().Published == before { // 2 or 4 messages, counted together
					time.Sleep(5 * time.Microsecond)
				}
			}
			if d := c.Stats().DroppedBroker; d != 0 {
				b.Fatalf("%d frames dropped", d)
			}
		})
	}
}

type signal chan struct{}

func (s signal) Release() { s <- struct{}{} }

// BenchmarkLatency is the time from PublishFrame until an independent subscriber has
// decoded the embedding, 2.8 kB, on the embedded broker over TCP.
func BenchmarkLatency(b *testing.B) {
	server := benchBroker(b)
	c := benchClient(b, server.URL(), false)
	arrived := make(chan time.Time, 1)
	o := paho.NewClientOptions().AddBroker(strings.Replace(server.URL(), "mqtt", "tcp", 1)).SetClientID("reader").SetAutoReconnect(false)
	sub := paho.NewClient(o)
	if token := sub.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		b.Fatal(token.Error())
	}
	defer sub.Disconnect(100)
	token := sub.Subscribe(c.Topics().Camera("front", "embedding"), 0, func(_ paho.Client, m paho.Message) {
		var e toklipv1.Embedding
		if err := proto.Unmarshal(m.Payload(), &e); err != nil || e.Dim != 1152 {
			b.Error("not an embedding")
		}
		arrived <- time.Now()
	})
	if !token.WaitTimeout(patience) || token.Error() != nil {
		b.Fatal(token.Error())
	}
	f := frame(1, nil)
	f.Tokens, f.Changed = nil, nil
	var all []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := c.PublishFrame(f); err != nil {
			b.Fatal(err)
		}
		all = append(all, (<-arrived).Sub(start))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}
