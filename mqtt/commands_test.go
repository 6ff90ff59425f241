package mqtt_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/mqtt"
)

func TestCommands(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		c, _ := client(t, mqtt.Options{Broker: b.url})
		blocked, release := make(chan struct{}), make(chan struct{})
		var order []string
		for verb, h := range map[string]mqtt.Handler{
			"ping":       func(context.Context, json.RawMessage) (any, error) { return map[string]int{"n": 1}, nil },
			"echo":       func(_ context.Context, args json.RawMessage) (any, error) { return args, nil },
			"labels/get": func(context.Context, json.RawMessage) (any, error) { return "labels", nil },
			"fail":       func(context.Context, json.RawMessage) (any, error) { return "ignored", errTest },
			"panic":      func(context.Context, json.RawMessage) (any, error) { panic("oops") },
			"never":      func(context.Context, json.RawMessage) (any, error) { return func() {}, nil },
			"note": func(_ context.Context, args json.RawMessage) (any, error) {
				order = append(order, string(args))
				return order, nil
			},
			"block": func(ctx context.Context, _ json.RawMessage) (any, error) {
				blocked <- struct{}{}
				select {
				case <-release:
				case <-ctx.Done():
				}
				return nil, ctx.Err()
			},
		} {
			if err := c.Handle(verb, h); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Handle("ping", func(context.Context, json.RawMessage) (any, error) { return nil, nil }); err == nil {
			t.Error("a verb is registered twice")
		}
		if c.Handle("a/b/c", func(context.Context, json.RawMessage) (any, error) { return nil, nil }) == nil || c.Handle("x", nil) == nil {
			t.Error("a bad verb or handler is accepted")
		}
		connected(t, c)
		o := observe(t, b.url, "me/#", "toklip/robot-1/#")
		topics := c.Topics()
		ask := func(verb, payload string) api.Reply {
			t.Helper()
			n := len(o.all())
			o.send(t, topics.Command(verb), false, payload)
			var r api.Reply
			eventually(t, "a reply to "+verb, func() bool {
				for _, m := range o.all()[n:] {
					if m.topic == "me/replies" {
						r = unmarshal[api.Reply](t, m.payload)
						return true
					}
				}
				return false
			})
			return r
		}
		if r := ask("ping", `{"id":"1","reply_to":"me/replies"}`); !r.OK || r.ID != "1" || r.Result.(map[string]any)["n"] != 1.0 {
			t.Errorf("ping: %+v", r)
		}
		if r := ask("echo", `{"id":"2","reply_to":"me/replies","args":[1,"x"]}`); !r.OK || len(r.Result.([]any)) != 2 {
			t.Errorf("echo: %+v", r)
		}
		if r := ask("labels/get", `{"id":"2","reply_to":"me/replies"}`); !r.OK || r.Result != "labels" {
			t.Errorf("labels/get: %+v", r)
		}
		if r := ask("echo", `{"id":"2","reply_to":"me/replies","args":"`+strings.Repeat("x", 250_000)+`"}`); !r.OK || len(r.Result.(string)) != 250_000 {
			t.Errorf("a command of nearly the greatest size: ok %v, error %q", r.OK, r.Error)
		}
		for _, q := range []struct{ verb, payload, want string }{
			{"fail", `{"id":"3","reply_to":"me/replies"}`, errTest.Error()},
			{"panic", `{"id":"3","reply_to":"me/replies"}`, "oops"},
			{"never", `{"id":"3","reply_to":"me/replies"}`, "cannot be encoded"},
			{"unknown", `{"id":"3","reply_to":"me/replies"}`, `verb "unknown" is unknown: this node knows block, echo, fail, labels/get, never`},
			{"labels/got", `{"id":"3","reply_to":"me/replies"}`, `verb "labels/got" is unknown: this node knows block,`},
			{"labels/get/all", `{"id":"3","reply_to":"me/replies"}`, `verb "labels/get/all" is unknown`},
			{"labels", `{"id":"3","reply_to":"me/replies"}`, `verb "labels" is unknown`},
			{"echo", `{"id":"3","reply_to":"me/replies","args":{"text":"` + strings.Repeat("x", 1<<20) + `"}}`, "command has 1048629 bytes: at most 262144 are read"},
			{"echo", `{"args":{"text":"` + strings.Repeat("x", 1<<20) + `"},"id":"3","reply_to":"me/replies"}`, "at most 262144 are read"},
			{"echo", `{"id":"3","reply_to":"me/replies","args":"` + "\xff" + `"}`, "byte 43 (0xff) is not valid UTF-8"},
			{"echo", `{"id":"3","reply_to":"me/replies","args":`, "ends too early"},
			{"ping", `{"id":"3","reply_to":"me/replies","arg":1}`, `unknown member "arg"`},
		} {
			if r := ask(q.verb, q.payload); r.OK || r.ID != "3" || !strings.Contains(r.Error, q.want) || r.Result != nil {
				t.Errorf("%s %.80s: %+v does not say %q", q.verb, q.payload, r, q.want)
			}
		}

		// Topics a reply may not go to; nothing must appear there.
		for _, to := range []string{topics.Camera("front", api.KindTokensJSON), topics.State(), topics.Command("ping"), "toklip/other/command/ping", "me/#", "$SYS/x", ""} {
			o.send(t, topics.Command("ping"), false, `{"id":"bad","reply_to":"`+to+`"}`)
		}
		o.send(t, topics.Command("ping"), false, `{"id":"bad","reply_to":`)
		o.send(t, topics.Command("ping"), false, strings.Repeat("x", api.MaxCommandBytes+1))
		for i := range 10 { // and order is kept
			o.send(t, topics.Command("note"), false, `{"args":`+string(rune('0'+i))+`}`)
		}
		if r := ask("note", `{"id":"4","reply_to":"me/replies","args":"last"}`); len(r.Result.([]any)) != 11 {
			t.Errorf("note: %+v", r)
		}
		for i := range 10 {
			if order[i] != string(rune('0'+i)) {
				t.Errorf("commands came in the order %v", order)
				break
			}
		}
		for _, m := range o.all() {
			if strings.Contains(m.payload, `"bad"`) && !strings.HasPrefix(m.topic, topics.Command("")) {
				t.Errorf("a reply went to %s: %s", m.topic, m.payload)
			}
		}

		// Retained commands are refused when they come with the subscription. (One that is
		// sent while we listen arrives without the flag: MQTT 3.1.1, 3.3.1.3.)
		o.send(t, topics.Command("note"), true, `{"id":"old","reply_to":"me/replies","args":"retained"}`)
		b.stop()
		eventually(t, "the loss is noticed", func() bool { return !c.Connected() })
		b.start()
		o = observe(t, b.url, "me/#")
		o.send(t, topics.Command("note"), true, `{"id":"old","reply_to":"me/replies","args":"retained"}`)
		other, stopOther := client(t, mqtt.Options{Broker: b.url, ClientID: "fresh"}) // same node: subscribes anew
		connected(t, other)
		eventually(t, "a refusal", func() bool {
			return slices.ContainsFunc(o.all(), func(m message) bool { return strings.Contains(m.payload, "is retained: send it without") })
		})
		stopOther()

		// A full queue says so instead of growing.
		connected(t, c)
		for i := range 18 {
			o.send(t, topics.Command("block"), false, `{"id":"b","reply_to":"me/block"}`)
			if i == 0 {
				<-blocked
			}
		}
		eventually(t, "a refusal", func() bool {
			return slices.ContainsFunc(o.all(), func(m message) bool { return strings.Contains(m.payload, "others wait already") })
		})
		close(release)
		for range 16 {
			<-blocked
		}
	})
}

// A long handler holds up others of its kind and nobody else, and ends with the client.
func TestLongCommands(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		c, stop := client(t, mqtt.Options{Broker: b.url})
		began, release := make(chan string), make(chan struct{})
		long := func(ctx context.Context, args json.RawMessage) (any, error) {
			if ctx.Err() != nil {
				t.Error("a command is begun after the end")
			}
			select {
			case began <- string(args):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			select {
			case <-release:
				return "done", nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		pong := func(context.Context, json.RawMessage) (any, error) { return "pong", nil }
		for _, err := range []error{c.HandleLong("labels/set", long), c.HandleLong("score", long), c.Handle("ping", pong)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if c.HandleLong("ping", long) == nil || c.Handle("score", pong) == nil {
			t.Error("a verb is registered twice")
		}
		connected(t, c)
		o := observe(t, b.url, "me/#")
		topics := c.Topics()
		count := func(text string) int {
			n := 0
			for _, m := range o.all() {
				if strings.Contains(m.payload, text) {
					n++
				}
			}
			return n
		}
		o.send(t, topics.Command("labels/set"), false, `{"id":"first","reply_to":"me/replies","args":1}`)
		if got := <-began; got != "1" {
			t.Errorf("began with %s", got)
		}
		o.send(t, topics.Command("score"), false, `{"id":"second","reply_to":"me/replies","args":2}`)
		for range 20 { // more than a lane holds: each is done before the next
			n := count("pong")
			o.send(t, topics.Command("ping"), false, `{"id":"quick","reply_to":"me/replies"}`)
			eventually(t, "a quick command is carried out", func() bool { return count("pong") == n+1 })
		}
		if n := count(`"first"`) + count(`"second"`); n != 0 {
			t.Errorf("%d long commands are answered before they are done", n)
		}
		release <- struct{}{}
		if got := <-began; got != "2" {
			t.Errorf("went on with %s", got)
		}
		eventually(t, "the first one is answered", func() bool { return count(`"first"`) == 1 })

		// Their lane is bounded as well.
		for range 17 {
			o.send(t, topics.Command("score"), false, `{"id":"more","reply_to":"me/replies"}`)
		}
		eventually(t, "a refusal", func() bool { return count(`command \"score\" refused: 16 others wait already`) == 1 })
		stop() // fails if the second does not end with the client
	})
}
