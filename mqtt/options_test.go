package mqtt_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/toklip/toklip/mqtt"
)

func TestBadOptions(t *testing.T) {
	for _, c := range []struct {
		opt  mqtt.Options
		want string
	}{
		{mqtt.Options{Broker: "", Node: "a"}, "broker URL is empty"},
		{mqtt.Options{Broker: "localhost:1883", Node: "a"}, "has no scheme: write mqtt://"},
		{mqtt.Options{Broker: "http://localhost", Node: "a"}, `scheme "http" is unknown`},
		{mqtt.Options{Broker: "mqtt://", Node: "a"}, "names no host"},
		{mqtt.Options{Broker: "mqtt://h:99999", Node: "a"}, `port "99999"`},
		{mqtt.Options{Broker: "mqtt://h:x", Node: "a"}, "invalid port"},
		{mqtt.Options{Broker: "mqtt://u:secret@h/topic", Node: "a"}, `path "/topic"`},
		{mqtt.Options{Broker: "ws://h/mqtt?x=1", Node: "a"}, "query or fragment"},
		{mqtt.Options{Broker: "mqtt://h", Node: "Node 1"}, `name "Node 1"`},
		{mqtt.Options{Broker: "mqtt://h", Node: "a", Prefix: "x/#"}, "wildcard"},
		{mqtt.Options{Broker: "mqtt://h", Node: "a", Password: "p"}, "without user name"},
		{mqtt.Options{Broker: "mqtt://h", Node: "a", CAFile: "ca.pem"}, "is not encrypted"},
		{mqtt.Options{Broker: "mqtts://h", Node: "a", CAFile: "/missing.pem"}, "read CA file"},
		{mqtt.Options{Broker: "mqtts://h", Node: "a", CAFile: os.Args[0]}, "no PEM certificate"},
		{mqtt.Options{Broker: "mqtts://h", Node: "a", CertFile: "c.pem"}, "belong together"},
		{mqtt.Options{Broker: "mqtts://h", Node: "a", CertFile: "c.pem", KeyFile: "k.pem"}, "load client certificate"},
		{mqtt.Options{Broker: "mqtt://h", Node: "a", EmbeddingType: 9}, "embedding type"},
		{mqtt.Options{Broker: "mqtt://h", Node: "a", RetryMin: -1}, "must not be negative"},
	} {
		_, err := mqtt.New(c.opt)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v does not say %q", c.opt.Broker, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("error shows the password: %v", err)
		}
	}
	for in, want := range map[string]string{
		"mqtt://h": "mqtt://h:1883", "tcp://h:7": "mqtt://h:7", "mqtts://h": "mqtts://h:8883", "ssl://h": "mqtts://h:8883", "tls://h": "mqtts://h:8883",
		"ws://h/mqtt": "ws://h:80/mqtt", "wss://h": "wss://h:443", "mqtt://u:p@[::1]:9": "mqtt://[::1]:9",
	} {
		a, err := mqtt.ParseAddress(in)
		if err != nil || a.String() != want {
			t.Errorf("%s is %s, %v; want %s", in, a, err, want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("mqtt://user:password@host:1883")
	f.Add("wss://[::1]:9001/mqtt")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := mqtt.ParseAddress(text)
		if err != nil {
			return
		}
		again, err := mqtt.ParseAddress(a.String())
		a.Username, a.Password = "", ""
		if err != nil || again != a {
			t.Errorf("%q is %+v, whose text reads as %+v, %v", text, a, again, err)
		}
	})
}

func TestRunOnce(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	c, stop := client(t, mqtt.Options{Broker: b.url})
	connected(t, c)
	stop()
	if err := c.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "make a new Client") {
		t.Errorf("second Run: %v", err)
	}
}
