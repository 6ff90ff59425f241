package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/toklip/toklip/api"
)

// Handler carries out one verb. args is what the command carries, nil if nothing; it
// belongs to the handler. The result is encoded as JSON; an error becomes the reply's text
// and should say what is wrong and what to do. Handlers run one at a time, so a slow one
// delays the others, but for those registered with HandleLong, which have a turn of their
// own; ctx ends when the client does, and a handler must end with it.
//
// QoS 1 means at least once: a command may arrive twice, and must do no harm then.
type Handler func(ctx context.Context, args json.RawMessage) (result any, err error)

// Bounds of what waits. A command that finds its lane full is answered with an error;
// the oldest reply gives way to a new one.
const (
	maxCommands = 16 // of a lane
	maxReplies  = 64
)

// Handle registers the handler of a verb (see api.ValidVerb): a command sent to
// <prefix>/<node>/command/<verb>. It may be called at any time; a verb can be registered
// once.
func (c *Client) Handle(verb string, h Handler) error {
	return c.commands.register(verb, h, c.commands.quick)
}

// HandleLong is Handle for handlers that take seconds. They run one at a time as well,
// beside the others, so that they do not hold those up.
func (c *Client) HandleLong(verb string, h Handler) error {
	return c.commands.register(verb, h, c.commands.long)
}

type commandQueue struct {
	topics      api.Topics
	log         *slog.Logger
	wake        func() // tells the connection that a reply waits
	quick, long lane
	received    atomic.Uint64

	mu       sync.Mutex
	handlers map[string]registered
	replies  []reply
}

// lane is a queue of commands that are carried out one after the other.
type lane chan command

type registered struct {
	handler Handler
	lane    lane
}

type command struct {
	verb string
	api.Command
	handler Handler
}

type reply struct {
	topic   string
	payload []byte
}

func newCommandQueue(topics api.Topics, log *slog.Logger, wake func()) *commandQueue {
	return &commandQueue{
		topics: topics, log: log, wake: wake,
		quick: make(lane, maxCommands), long: make(lane, maxCommands), handlers: make(map[string]registered),
	}
}

func (q *commandQueue) register(verb string, h Handler, l lane) error {
	if err := api.ValidVerb(verb); err != nil {
		return fmt.Errorf("register command: %w", err)
	}
	if h == nil {
		return fmt.Errorf("register command %q: no handler", verb)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, taken := q.handlers[verb]; taken {
		return fmt.Errorf("register command %q: it is registered already", verb)
	}
	q.handlers[verb] = registered{handler: h, lane: l}
	return nil
}

// receive is called by the library for each message below command/. It never blocks: the
// library's one receiving goroutine waits for it.
func (q *commandQueue) receive(topic string, payload []byte, retained bool) {
	q.received.Add(1)
	verb := strings.TrimPrefix(topic, q.topics.Command(""))
	short := fmt.Sprintf("%.64s", verb) // anybody may send one of 64 kB
	c, err := api.ParseCommand(payload)
	if c.ReplyTo != "" {
		if bad := q.checkReplyTo(c.ReplyTo); bad != nil {
			err = errors.Join(err, bad)
			c.ReplyTo = "" // cannot be told, only logged
		}
	}
	if retained {
		// It would be carried out again on every connect, for ever.
		err = fmt.Errorf("command %q is retained: send it without the retain flag, and clear it with an empty retained message to %s", short, q.topics.Command(short))
	}
	var to registered
	if err == nil {
		q.mu.Lock()
		var known string
		if to = q.handlers[verb]; to.handler == nil {
			known = q.verbs()
		}
		q.mu.Unlock()
		if to.handler == nil {
			err = fmt.Errorf("verb %q is unknown: this node knows %s", short, known)
		}
	}
	if err == nil {
		select {
		case to.lane <- command{verb: verb, Command: c, handler: to.handler}:
			return
		default:
			err = fmt.Errorf("command %q refused: %d others wait already; try again later", verb, maxCommands)
		}
	}
	q.log.Warn("command refused", "verb", short, "id", c.ID, "error", err)
	q.answer(c, nil, err)
}

// checkReplyTo refuses topics that a reply would forge a message on.
func (q *commandQueue) checkReplyTo(topic string) error {
	if err := api.ValidTopic(topic); err != nil {
		return fmt.Errorf("reply_to: %w", err)
	}
	_, ours := api.ParseTopic(q.topics.Prefix(), topic)
	if ours || q.topics.Owns(topic) {
		return fmt.Errorf("reply_to %q is a topic that nodes publish or listen to: use one of your own, for example %q", topic, q.topics.Reply("me"))
	}
	return nil
}

// verbs lists what is registered; the mutex is held.
func (q *commandQueue) verbs() string {
	if len(q.handlers) == 0 {
		return "none"
	}
	names := make([]string, 0, len(q.handlers))
	for name := range q.handlers {
		names = append(names, name)
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}

// run carries out commands until ctx ends.
func (q *commandQueue) run(ctx context.Context) {
	var lanes sync.WaitGroup
	for _, l := range []lane{q.quick, q.long} {
		lanes.Add(1)
		go func() {
			defer lanes.Done()
			q.carryOut(ctx, l)
		}()
	}
	lanes.Wait()
}

func (q *commandQueue) carryOut(ctx context.Context, l lane) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-l:
			if ctx.Err() != nil { // select chooses by chance
				return
			}
			result, err := q.call(ctx, c)
			if err != nil {
				q.log.Warn("command failed", "verb", c.verb, "id", c.ID, "error", err)
			} else {
				q.log.Info("command done", "verb", c.verb, "id", c.ID)
			}
			q.answer(c.Command, result, err)
		}
	}
}

// call keeps a handler's panic from ending the daemon: a message from the network must
// not.
func (q *commandQueue) call(ctx context.Context, c command) (result any, err error) {
	defer func() {
		if v := recover(); v != nil {
			q.log.Error("command panicked", "verb", c.verb, "panic", v, "stack", string(debug.Stack()))
			result, err = nil, fmt.Errorf("command %q failed inside: %v; please report it", c.verb, v)
		}
	}()
	return c.handler(ctx, c.Args)
}

func (q *commandQueue) answer(c api.Command, result any, err error) {
	if c.ReplyTo == "" {
		return
	}
	r := api.Reply{ID: c.ID, OK: err == nil, Result: result}
	if err != nil {
		r.Error, r.Result = err.Error(), nil
	}
	payload, encodeErr := json.Marshal(r)
	if encodeErr != nil {
		q.log.Error("result cannot be encoded", "id", c.ID, "error", encodeErr)
		payload, _ = json.Marshal(api.Reply{ID: c.ID, Error: "the result cannot be encoded: " + encodeErr.Error()}) // strings always can
	}
	q.mu.Lock()
	if len(q.replies) == maxReplies {
		q.log.Warn("reply dropped: too many wait for the broker", "topic", q.replies[0].topic)
		q.replies = q.replies[1:]
	}
	q.replies = append(q.replies, reply{topic: c.ReplyTo, payload: payload})
	q.mu.Unlock()
	q.wake()
}

func (q *commandQueue) nextReply() (reply, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.replies) == 0 {
		return reply{}, false
	}
	r := q.replies[0]
	q.replies = q.replies[1:]
	return r, true
}

// putBack a reply whose connection was lost: the next one sends it.
func (q *commandQueue) putBack(r reply) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.replies) < maxReplies {
		q.replies = append([]reply{r}, q.replies...)
	}
}
