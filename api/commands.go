package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Command is a request to a node, sent with QoS 1 and not retained to the topic of its
// verb. MQTT 3.1.1 has no response topic, so that it is a member here.
type Command struct {
	ID      string          `json:"id"`             // chosen by the sender, comes back in the reply
	ReplyTo string          `json:"reply_to"`       // topic for the reply; empty: none is sent
	Args    json.RawMessage `json:"args,omitempty"` // as the verb wants them
}

// Reply answers a Command.
type Reply struct {
	ID     string `json:"id"`
	OK     bool   `json:"ok"`
	Error  string `json:"error,omitempty"`  // why not, with the next step
	Result any    `json:"result,omitempty"` // as the verb gives it
}

// Limits of commands.
const (
	MaxCommandBytes = 256 << 10 // a set of 1000 labels with a prompt or two each
	MaxCommandID    = 128
	maxReplyTo      = 1024
)

// ParseCommand reads a command. Unknown members are refused: a misspelt "reply_to"
// would otherwise be silence. On an error, even for a payload that is too large or no
// valid JSON, the command holds what could be read of ID and ReplyTo, so that the sender
// can be told.
func ParseCommand(payload []byte) (Command, error) {
	if len(payload) > MaxCommandBytes {
		return findSender(payload), fmt.Errorf("command has %d bytes: at most %d are read; send less at a time", len(payload), MaxCommandBytes)
	}
	if at := invalidUTF8(payload); at >= 0 {
		return findSender(payload), fmt.Errorf("command: byte %d (0x%02x) is not valid UTF-8: encode the text as UTF-8", at+1, payload[at])
	}
	var members map[string]json.RawMessage
	if err := decodeJSON(payload, &members); err != nil {
		return findSender(payload), fmt.Errorf("command: %w; send an object such as {\"id\":\"1\",\"reply_to\":\"my/topic\",\"args\":{}}", err)
	}
	if members == nil {
		return Command{}, errors.New("command: null where an object is wanted")
	}
	if at := loneSurrogate(payload); at >= 0 {
		return findSender(payload), fmt.Errorf(`command: byte %d: %s is half of a character: write \ud83d\ude00 for U+1F600, or the character itself`, at+1, payload[at:at+6])
	}
	var c Command
	var errs []error
	text := func(name string, to *string, longest int) {
		raw, ok := members[name]
		if !ok {
			return
		}
		var s *string
		if err := json.Unmarshal(raw, &s); err != nil || s == nil {
			errs = append(errs, fmt.Errorf("command: %q is %.40s: a text is wanted", name, raw))
			return
		}
		if len(*s) > longest {
			errs = append(errs, fmt.Errorf("command: %q has %d bytes: at most %d are allowed", name, len(*s), longest))
			return
		}
		*to = *s
	}
	text("id", &c.ID, MaxCommandID)
	text("reply_to", &c.ReplyTo, maxReplyTo)
	c.Args = members["args"]
	for name := range members {
		switch name {
		case "id", "reply_to", "args":
		default:
			errs = append(errs, fmt.Errorf("command: unknown member %.40q: id, reply_to and args are known", name))
		}
	}
	return c, errors.Join(errs...)
}

// invalidUTF8 is where text stops being UTF-8, -1 if it never does. The JSON decoder would
// put U+FFFD there without a word.
func invalidUTF8(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return -1
}

// loneSurrogate is where a valid JSON text escapes one half of a surrogate pair, -1 if it
// does not. The decoder would put U+FFFD there as well.
func loneSurrogate(text []byte) int {
	escape := func(at int) rune { // the code that \uXXXX at that place stands for, else 0
		if at+6 > len(text) || text[at] != '\\' || text[at+1] != 'u' {
			return 0
		}
		code, err := strconv.ParseUint(string(text[at+2:at+6]), 16, 16)
		if err != nil { // not in valid JSON
			return 0
		}
		return rune(code)
	}
	for at := 0; at < len(text); {
		i := bytes.IndexByte(text[at:], '\\')
		if i < 0 {
			return -1
		}
		at += i
		switch first := escape(at); {
		case !utf16.IsSurrogate(first):
			at += 2
		case utf16.DecodeRune(first, escape(at+6)) == utf8.RuneError:
			return at
		default:
			at += 12
		}
	}
	return -1
}

// maxFindSender bounds the search for the sender of a payload that is refused.
const maxFindSender = 16 << 20

// findSender reads "id" and "reply_to" of a payload that ParseCommand refuses, as far as
// it is JSON. It walks over the text in place: nothing of the rest is copied or kept.
func findSender(payload []byte) Command {
	w := walker{text: payload[:min(len(payload), maxFindSender)]}
	var c Command
	w.members(func(name, value []byte) {
		switch shortText(name, len("reply_to")) {
		case "id":
			c.ID = shortText(value, MaxCommandID)
		case "reply_to":
			c.ReplyTo = shortText(value, maxReplyTo)
		}
	})
	return c
}

// shortText is the JSON string raw, or nothing if it is none, too long or not UTF-8.
func shortText(raw []byte, longest int) string {
	const longestEscape = 6 // \u0041
	if len(raw) > longestEscape*longest+2 || len(raw) == 0 || raw[0] != '"' || !utf8.Valid(raw) {
		return ""
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil || len(s) > longest {
		return ""
	}
	return s
}

// walker goes over a JSON text without building anything of it.
type walker struct {
	text []byte
	at   int
}

// members calls visit with the name, in quotes, and the value of each member of the
// object that the text is, up to where it ceases to be JSON.
func (w *walker) members(visit func(name, value []byte)) {
	if !w.accept('{') {
		return
	}
	for {
		name, ok := w.value()
		if !ok || name[0] != '"' || !w.accept(':') {
			return
		}
		value, ok := w.value()
		if !ok {
			return
		}
		visit(name, value)
		if !w.accept(',') {
			return
		}
	}
}

// accept steps over c, and white space before it, if that is what comes.
func (w *walker) accept(c byte) bool {
	w.space()
	if w.at < len(w.text) && w.text[w.at] == c {
		w.at++
		return true
	}
	return false
}

func (w *walker) space() {
	for w.at < len(w.text) && bytes.IndexByte([]byte(" \t\r\n"), w.text[w.at]) >= 0 {
		w.at++
	}
}

// value steps over one value. Of arrays and objects only the nesting is looked at.
func (w *walker) value() ([]byte, bool) {
	w.space()
	start, depth := w.at, 0
	for w.at < len(w.text) {
		switch c := w.text[w.at]; c {
		case '"':
			if !w.string() {
				return nil, false
			}
		case '{', '[':
			depth++
			w.at++
		case '}', ']':
			depth--
			w.at++
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return nil, false
			}
			w.at++
			continue
		default: // a number, true, false or null
			for w.at < len(w.text) && bytes.IndexByte([]byte(",:{}[]\" \t\r\n"), w.text[w.at]) < 0 {
				w.at++
			}
		}
		if depth < 0 {
			return nil, false
		}
		if depth == 0 {
			return w.text[start:w.at], true
		}
	}
	return nil, false
}

// string steps over a string.
func (w *walker) string() bool {
	for w.at++; w.at < len(w.text); w.at++ {
		switch w.text[w.at] {
		case '\\':
			w.at++
		case '"':
			w.at++
			return true
		}
	}
	return false
}
