package api_test

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/toklip/toklip/api"
)

func TestParseCommand(t *testing.T) {
	c, err := api.ParseCommand([]byte(`{"id":"7","reply_to":"me/replies","args":{"a":[1]}}`))
	if err != nil || c.ID != "7" || c.ReplyTo != "me/replies" || string(c.Args) != `{"a":[1]}` {
		t.Errorf("command = %+v, %v", c, err)
	}
	if c, err := api.ParseCommand([]byte(`{"id":"7","args":["\ud83d\ude00 \\ud83d","日本"]}`)); err != nil {
		t.Errorf("command = %+v, %v", c, err)
	}
	for in, want := range map[string]string{
		``:                                 "ends too early",
		`{"id":"7"`:                        "not valid JSON|ends too early",
		`[]`:                               "object is wanted",
		`null`:                             "null where an object",
		`{"id":7}`:                         `"id" is 7: a text is wanted`,
		`{"id":"1","replyto":"x"}`:         `unknown member "replyto"`,
		`{"id":"1"} {}`:                    "more text after",
		`{"id":"` + long(200) + `"}`:       "200 bytes",
		`{"args":"` + long(300_000) + `"}`: "at most 262144",
	} {
		_, err := api.ParseCommand([]byte(in))
		ok := false
		for _, w := range strings.Split(want, "|") {
			ok = ok || err != nil && strings.Contains(err.Error(), w)
		}
		if !ok {
			t.Errorf("%.40s: error %v does not say %q", in, err, want)
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

// The sender of a bad command can still be told.
func TestSenderOfBadCommand(t *testing.T) {
	const megabyte = 1 << 20
	for _, c := range []struct{ name, payload, want string }{
		{"unknown member", `{"id":"9","reply_to":"me","verb":"x"}`, "unknown member"},
		{"too large, sender first", `{"id":"9","reply_to":"me","args":{"text":"` + long(megabyte) + `"}}`, "at most 262144"},
		{"too large, sender last", `{"args":{"text":"` + long(megabyte) + `"},"reply_to":"me" , "id":"9"}`, "at most 262144"},
		{"too large, deep", `{"args":` + strings.Repeat(`[{"a":`, megabyte) + `1` + strings.Repeat(`}]`, megabyte) + `,"reply_to":"me","id":"9"}`, "at most 262144"},
		{"too large, quotes and braces in texts", `{"args":["\"}]","\\",` + strings.Repeat(`"}",`, megabyte) + `0],"reply_to":"\u006de","\u0069d":"9"}`, "at most 262144"},
		{"too large, cut off", `{"id":"9","reply_to":"me","args":"` + long(megabyte), "at most 262144"},
		{"not UTF-8", `{"id":"9","reply_to":"me","args":{"text":"a` + "\xff" + `b"}}`, "byte 44 (0xff) is not valid UTF-8"},
		{"half a character", `{"id":"9","reply_to":"me","args":{"text":"\ud83d"}}`, `byte 43: \ud83d is half of a character`},
		{"two first halves", `{"id":"9","reply_to":"me","args":"\ud83d\ud83d\ude00"}`, "half of a character"},
		{"no JSON", `{"id":"9","reply_to":"me","args":{}`, "ends too early"},
		{"a second value", `{"id":"9","reply_to":"me"}x`, "command: "},
	} {
		got, err := api.ParseCommand([]byte(c.payload))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %.200v does not say %q", c.name, err, c.want)
		}
		if got.ID != "9" || got.ReplyTo != "me" || got.Args != nil && c.name != "unknown member" {
			t.Errorf("%s: id %q, reply to %q, args %.20q", c.name, got.ID, got.ReplyTo, got.Args)
		}
	}
	// What cannot be used is not made up.
	for name, payload := range map[string]string{
		"no object":  `["id","9"]` + long(megabyte),
		"too long":   `{"id":"` + long(megabyte) + `","reply_to":"` + long(megabyte) + `"}`,
		"not a text": `{"id":9,"reply_to":{"id":"9"},"args":"` + long(megabyte) + `"}`,
		"not UTF-8":  `{"id":"` + "\xff" + `","reply_to":"` + "\xff" + `"}`,
		"inside":     `{"args":{"id":"9","reply_to":"me"},"x":"` + long(megabyte) + `"}`,
	} {
		if c, err := api.ParseCommand([]byte(payload)); err == nil || c.ID != "" || c.ReplyTo != "" {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// A payload that is too large is walked over, not copied: whoever may send commands must
// not make the node hold it twice.
func TestLargeCommandIsNotCopied(t *testing.T) {
	payload := []byte(`{"args":{"text":"` + long(4<<20) + `"},"id":"9","reply_to":"me"}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c, err := api.ParseCommand(payload)
	runtime.ReadMemStats(&after)
	if err == nil || c.ID != "9" {
		t.Errorf("command = %+v, %v", c, err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
		t.Errorf("%d bytes are allocated for a payload of %d", n, len(payload))
	}
}

func FuzzCommand(f *testing.F) {
	f.Add([]byte(`{"id":"1","reply_to":"a/b","args":{"x":[1,2]}}`))
	f.Add([]byte(`{"id":null}`))
	f.Add([]byte(`{"reply_to":"\u00e9\ud83d\ude00","args":"\\u\"","id":"}"}`))
	f.Add([]byte(`{"id":"1","id":"2","reply_to":"\ud83d"}`))
	padding := []byte(`,"args":"` + long(api.MaxCommandBytes) + `"}`)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := api.ParseCommand(data)
		if !utf8.ValidString(c.ID) || !utf8.ValidString(c.ReplyTo) || len(c.ID) > api.MaxCommandID {
			t.Fatalf("%q gave id %q, reply to %q", data, c.ID, c.ReplyTo)
		}
		if err != nil {
			return
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", c, err)
		}
		back, err := api.ParseCommand(b)
		if err != nil || back.ID != c.ID || back.ReplyTo != c.ReplyTo {
			t.Fatalf("%s came back as %+v, %v", data, back, err)
		}
		// Made too large, the same command has the same sender.
		end := strings.LastIndexByte(string(data), '}')
		if end < 1 || c.ID == "" && c.ReplyTo == "" {
			return
		}
		large, err := api.ParseCommand(append(append([]byte{}, data[:end]...), padding...))
		if err == nil || large.ID != c.ID || large.ReplyTo != c.ReplyTo {
			t.Fatalf("%s made too large: %+v, %v", data, large, err)
		}
	})
}
