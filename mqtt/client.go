package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

// Options of a Client. Zero durations take the defaults stated.
type Options struct {
	Broker string // URL, see ParseAddress
	Prefix string // of all topics; api.DefaultPrefix if empty
	Node   string // name of the node, [a-z0-9-]+

	// ClientID is the same on every connect, so that the broker ends a dead connection of
	// ours, and publishes its will, before it accepts the new one. A random id would let
	// the old will, a retained "offline", arrive after the new "online". "toklip-<node>"
	// if empty.
	ClientID string

	Username, Password string // override those of the URL
	CAFile             string // PEM; the system's authorities if empty
	CertFile, KeyFile  string // PEM, for brokers that want a client certificate

	JSON          bool           // publish the JSON twins as well
	EmbeddingType toklipv1.DType // of embedding and features; fp16 if zero
	Normalize     bool           // publish embeddings with length 1

	KeepAlive       time.Duration // 15 s: a silent connection is noticed after at most twice as long
	ConnectTimeout  time.Duration // 10 s, for one attempt
	WriteTimeout    time.Duration // 5 s: a connection that takes nothing for so long is given up
	AckTimeout      time.Duration // 5 s: same for a QoS 1 message without acknowledgement
	RetryMin        time.Duration // 1 s: pause after the first failed attempt; doubles up to
	RetryMax        time.Duration // 15 s
	ShutdownTimeout time.Duration // 2 s: longest that Run takes to end

	// OnConnection is told of every connect, lost connection and failed attempt, one call
	// at a time, and must not block. May be nil.
	OnConnection func(Connection)
	Logger       *slog.Logger // discards if nil
}

// Connection is what became of the connection to the broker.
type Connection struct {
	Connected bool
	Err       error // why not; nil after a shutdown
	Attempt   int   // failed attempts in a row
}

// ErrNotAuthorised is wrapped by errors that a broker's refusal of user name, password or
// client id causes. Trying again is of no use before one of them changes, but is done, as
// brokers are reconfigured while robots drive.
var ErrNotAuthorised = errors.New("broker refused user name or password")

// Stats of a Client since it was made.
type Stats struct {
	Connected      bool
	Connects       uint64 // successful connects
	Published      uint64 // frame messages that the broker's connection took
	Bytes          uint64 // of their payloads
	DroppedPublish uint64 // frames replaced by a newer one before they could be sent
	DroppedBroker  uint64 // frames dropped for want of a connection
	Events         uint64 // acknowledged by the broker
	EventsWaiting  uint64 // for the broker
	EventsDropped  uint64 // gave way to newer ones, too many waiting
	Commands       uint64 // received
	LastError      error  // why the connection was lost or failed; nil while connected
}

// CameraStats of one camera since it first published.
type CameraStats struct {
	Published      uint64 // frames of which all messages were taken by the connection
	DroppedPublish uint64
	DroppedBroker  uint64

	RegionsPublished uint64 // messages of regions that were taken by the connection
	RegionsDropped   uint64 // for want of time or of a connection
}

// Client is a node's connection to a broker. Its methods may be called from several
// goroutines, before, during and after Run.
type Client struct {
	opt     Options
	topics  api.Topics
	address Address
	tls     *tls.Config
	log     *slog.Logger

	docs     *documents
	frames   *frameQueue
	events   eventQueue
	commands *commandQueue
	stale    stale

	running atomic.Bool
	open    atomic.Bool // between birth and loss of a connection

	connects, published, bytes atomic.Uint64

	mu       sync.Mutex
	state    api.State
	stopping bool
	lastErr  error
}

// New checks the options and reads the certificates. It does not connect; see Run.
func New(opt Options) (*Client, error) {
	topics, err := api.NewTopics(opt.Prefix, opt.Node)
	if err != nil {
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	address, err := ParseAddress(opt.Broker)
	if err != nil {
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	tlsCfg, err := tlsConfig(address, opt.CAFile, opt.CertFile, opt.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	if opt.ClientID == "" {
		opt.ClientID = "toklip-" + opt.Node
	}
	if len(opt.ClientID) > 65535 {
		return nil, fmt.Errorf("mqtt: client id has %d bytes: MQTT allows 65535", len(opt.ClientID))
	}
	if opt.Username == "" {
		opt.Username = address.Username
		if opt.Password == "" {
			opt.Password = address.Password
		}
	}
	if opt.Password != "" && opt.Username == "" {
		return nil, errors.New("mqtt: a password without user name: MQTT 3.1.1 sends a password only with a user name")
	}
	switch opt.EmbeddingType {
	case toklipv1.DType_DTYPE_UNSPECIFIED:
		opt.EmbeddingType = toklipv1.DType_DTYPE_FP16
	case toklipv1.DType_DTYPE_FP16, toklipv1.DType_DTYPE_FP32:
	default:
		return nil, fmt.Errorf("mqtt: embedding type %v is unknown: use fp16 or fp32", opt.EmbeddingType)
	}
	for _, d := range []struct {
		value *time.Duration
		name  string
		def   time.Duration
	}{
		{&opt.KeepAlive, "keep alive", 15 * time.Second},
		{&opt.ConnectTimeout, "connect timeout", 10 * time.Second},
		{&opt.WriteTimeout, "write timeout", 5 * time.Second},
		{&opt.AckTimeout, "acknowledge timeout", 5 * time.Second},
		{&opt.RetryMin, "shortest retry pause", time.Second},
		{&opt.RetryMax, "longest retry pause", 15 * time.Second},
		{&opt.ShutdownTimeout, "shutdown timeout", 2 * time.Second},
	} {
		if *d.value < 0 {
			return nil, fmt.Errorf("mqtt: %s is %v, must not be negative", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	opt.RetryMax = max(opt.RetryMax, opt.RetryMin)
	log := opt.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("broker", address.String())
	if opt.Password != "" && !address.TLS() && !address.loopback() {
		log.Warn("password travels unencrypted; use mqtts:// where others share the network")
	}
	c := &Client{
		opt: opt, topics: topics, address: address, tls: tlsCfg, log: log,
		docs: newDocuments(), frames: newFrameQueue(), stale: stale{seen: make(map[string]bool)},
	}
	c.commands = newCommandQueue(topics, log, c.docs.signal)
	return c, nil
}

// Topics are the names of the node's topics.
func (c *Client) Topics() api.Topics { return c.topics }

// Connected reports whether there is a connection on which the node was announced. (The
// library's IsConnected is also true while it tries to connect; that is why this is not
// asked.)
func (c *Client) Connected() bool { return c.open.Load() }

// Stats are the figures so far.
func (c *Client) Stats() Stats {
	s := Stats{
		Connected: c.open.Load(), Connects: c.connects.Load(), Published: c.published.Load(), Bytes: c.bytes.Load(),
		Commands: c.commands.received.Load(),
	}
	s.Events, s.EventsWaiting, s.EventsDropped = c.events.stats()
	s.DroppedPublish, s.DroppedBroker = c.frames.dropped()
	c.mu.Lock()
	s.LastError = c.lastErr
	c.mu.Unlock()
	return s
}

// CameraStats are the figures of one camera so far.
func (c *Client) CameraStats(camera string) CameraStats { return c.frames.stats(camera) }

// Run connects and stays connected until ctx ends, whatever the broker does. Then it
// publishes the state "stopping" and the availability "offline", disconnects, and returns
// nil, within ShutdownTimeout. It may be called once.
func (c *Client) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("mqtt: Run was called before: make a new Client")
	}
	commands := make(chan struct{})
	commandCtx, stopCommands := context.WithCancel(ctx)
	go func() {
		defer close(commands)
		c.commands.run(commandCtx)
	}()
	defer func() { // handlers see the cancelled context and end before us
		stopCommands()
		select {
		case <-commands:
		case <-time.After(c.opt.ShutdownTimeout):
			c.log.Error("a command handler does not end with its context; leaving it behind")
		}
	}()

	attempt := 0
	for {
		began := time.Now()
		s, err := c.connect(ctx)
		if err == nil {
			err = c.serve(ctx, s)
			s.end()
			if time.Since(began) > 10*time.Second {
				attempt = 0 // it held; a quick end, such as being kicked by a namesake, backs off
			}
		}
		if ctx.Err() != nil {
			c.report(Connection{})
			return nil
		}
		attempt++
		c.report(Connection{Err: err, Attempt: attempt})
		select {
		case <-time.After(backoff(attempt, c.opt.RetryMin, c.opt.RetryMax)):
		case <-ctx.Done():
			return nil
		}
	}
}

// backoff is the pause after so many failed attempts: doubling, with a fifth of chance, so
// that a fleet does not fall upon a restarted broker all at once.
func backoff(attempt int, shortest, longest time.Duration) time.Duration {
	d := shortest
	for i := 1; i < attempt && d < longest; i++ {
		d *= 2
	}
	d = min(d, longest)
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// report tells the log and the callback. Failures that repeat are told once.
func (c *Client) report(n Connection) {
	c.mu.Lock()
	same := n.Err != nil && c.lastErr != nil && n.Err.Error() == c.lastErr.Error()
	c.lastErr = n.Err
	c.mu.Unlock()
	switch {
	case n.Connected:
		c.log.Info("connected to broker", "client_id", c.opt.ClientID)
	case n.Err != nil && same:
		c.log.Debug("broker still not reached", "attempt", n.Attempt, "error", n.Err)
	case n.Err != nil:
		c.log.Warn("no connection to broker; trying again", "error", n.Err, "longest_pause", c.opt.RetryMax)
	}
	if c.opt.OnConnection != nil {
		c.opt.OnConnection(n)
	}
}
