// Package watch shows what nodes publish, live: `toklip watch`.
//
// It subscribes to the topics of a prefix, decodes what arrives and shows it in one of
// three ways: a terminal view that is drawn ten times a second, one line of text for
// each message, or one line of JSON for each message.
//
// Data flows one way: [Run] connects (subscribe.go), each payload is decoded once
// (decode.go), the events are gathered in a state of bounded size (state.go, camera.go),
// of which the view takes snapshots (snapshot.go) that a pure function turns into text
// (render.go, card.go, grid.go). Lines skip the state (plain.go).
//
// Everything that arrives is treated as untrusted: text is cleaned of what a terminal
// would obey, sizes are limited, and what cannot be decoded is shown as bytes.
package watch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/toklip/toklip/api"
)

// DefaultBroker is where `toklip run --demo` serves.
const DefaultBroker = "mqtt://127.0.0.1:1883"

// Options say what to watch and how to show it. The zero value watches every node of
// the prefix "toklip" on DefaultBroker and writes to standard output.
type Options struct {
	// Broker is the URL of the broker: mqtt://[user[:password]@]host[:1883], mqtts://
	// for TLS (port 8883), ws:// and wss:// for WebSocket. Empty: DefaultBroker.
	Broker string
	// Prefix is the first part of the topics. Empty: "toklip".
	Prefix string
	// Filter is an MQTT topic filter, subscribed to as it is. Empty: the topics that a
	// view needs, which are a few percent of the traffic of "#".
	Filter string
	// TLS is used with mqtts and wss. Nil: the system's certificates, always verified.
	TLS *tls.Config

	// JSON writes {"topic":…,"message":…} lines even if Out is a terminal.
	JSON bool
	// Plain writes lines of text even if Out is a terminal.
	Plain bool
	// Count ends the run after so many messages. 0: no limit.
	Count int
	// Duration ends the run. 0: no limit. With Count, a run that ends early is an error.
	Duration time.Duration

	// In gives the keys of the terminal view. Nil: standard input.
	In io.Reader
	// Out is written to by one goroutine. A terminal gets the view. Nil: standard output.
	Out io.Writer
	// Width of lines and view, columns. 0: that of the terminal, no limit for lines.
	Width int
	// ClientID is the MQTT client id; a broker ends the older of two clients with the same
	// one. Empty: toklip-watch- and 8 random digits.
	ClientID string
	// Log is told of lost connections and dropped messages when lines are written; the
	// view shows them itself. Nil: nobody is told.
	Log *slog.Logger
}

// Run watches until ctx ends, the user quits, or Count or Duration is reached; all of
// these return nil, except a Duration that ends before Count messages came. It returns
// an error for a filter, prefix or URL that cannot be used, for a broker that refuses the
// client or the subscription, and, when writing lines, for a broker that cannot be
// reached at the start. The terminal view waits for such a broker and says so. A
// connection lost later is made again by itself.
func Run(ctx context.Context, o Options) error {
	o, broker, filters, err := o.complete()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var timeUp <-chan time.Time
	if o.Duration > 0 {
		timer := time.NewTimer(o.Duration)
		defer timer.Stop()
		timeUp = timer.C
	}
	link := subscribe(broker, filters, o)
	defer link.close()

	var shown int
	if o.view() {
		shown, err = runView(ctx, o, link, timeUp)
	} else {
		shown, err = runLines(ctx, o, link, timeUp)
	}
	if errors.Is(err, errTimeUp) {
		if shown < o.Count {
			return fmt.Errorf("received %d of %d messages in %v from %s: is a node publishing there? %s",
				shown, o.Count, o.Duration, broker.shown, hintDemo)
		}
		return nil
	}
	return err
}

const hintDemo = "`toklip run --demo` starts one, with a broker"

// errTimeUp ends a run of limited duration.
var errTimeUp = errors.New("time is up")

// complete fills defaults and checks what can be checked before connecting.
func (o Options) complete() (Options, broker, map[string]byte, error) {
	if o.Prefix == "" {
		o.Prefix = api.DefaultPrefix
	}
	if err := api.ValidPrefix(o.Prefix); err != nil {
		return o, broker{}, nil, err
	}
	if o.Count < 0 {
		return o, broker{}, nil, fmt.Errorf("count %d is negative: use 0 for no limit", o.Count)
	}
	if o.Duration < 0 {
		return o, broker{}, nil, fmt.Errorf("duration %v is negative: use 0 for no limit", o.Duration)
	}
	if o.Broker == "" {
		o.Broker = DefaultBroker
	}
	b, err := parseBroker(o.Broker)
	if err != nil {
		return o, broker{}, nil, err
	}
	filters := defaultFilters(o.Prefix)
	if o.Filter != "" {
		if err := validFilter(o.Filter); err != nil {
			return o, broker{}, nil, err
		}
		filters = map[string]byte{o.Filter: 0}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.In == nil {
		o.In = os.Stdin
	}
	if o.Out == nil {
		o.Out = os.Stdout
	}
	return o, b, filters, nil
}

// view reports whether the terminal view is wanted, rather than lines.
func (o *Options) view() bool { return !o.JSON && !o.Plain && isTerminal(o.Out) }

// isTerminal reports whether the view can be drawn on w.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// runLines writes a line for each message.
func runLines(ctx context.Context, o Options, link *link, timeUp <-chan time.Time) (shown int, err error) {
	line := appendPlain
	if o.JSON {
		line = appendJSON
	}
	defer func() {
		if n := link.dropped.Load(); n > 0 {
			o.Log.Warn("messages dropped: lines could not be written fast enough", "dropped", n)
		}
	}()
	var buf []byte
	for o.Count == 0 || shown < o.Count {
		select {
		case m := <-link.messages:
			link.taken(m)
			buf = line(buf[:0], decode(o.Prefix, m), o.Width)
			if _, err := o.Out.Write(buf); err != nil {
				return shown, fmt.Errorf("write line: %w", err)
			}
			shown++
		case err := <-link.failed:
			return shown, err
		case <-timeUp:
			return shown, errTimeUp
		case <-ctx.Done():
			return shown, nil
		}
	}
	return shown, nil
}
