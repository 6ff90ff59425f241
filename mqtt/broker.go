package mqtt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	server "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// DefaultListen is where a Broker listens unless told otherwise: this machine only.
const DefaultListen = "127.0.0.1:1883"

// BrokerOptions of an embedded broker.
type BrokerOptions struct {
	Listen          []string          // host:port of MQTT; DefaultListen if empty; port 0 takes a free one
	ListenWebSocket []string          // host:port of MQTT over WebSocket; none if empty
	Users           map[string]string // password by user name; empty: nobody is asked
	Logger          *slog.Logger      // discards if nil
}

// Broker is an MQTT server (3.1.1 and 5) inside the program. It keeps everything in memory
// and little of it: see capabilities.
type Broker struct {
	log     *slog.Logger
	server  *server.Server
	inside  []*trackedListener
	web     []net.Listener
	upgrade websocket.Upgrader
	once    sync.Once
	closed  chan struct{}
}

// NewBroker opens the listeners, so that Addr is known and a port that is taken is an
// error here, and serves clients once Run is called. Close it if Run is not.
func NewBroker(opt BrokerOptions) (*Broker, error) {
	if len(opt.Listen) == 0 {
		opt.Listen = []string{DefaultListen}
	}
	log := opt.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{
		log:    log,
		closed: make(chan struct{}),
		server: server.New(&server.Options{
			Capabilities:           capabilities(),
			Logger:                 slog.New(quiet{log.Handler()}),
			SysTopicResendInterval: 10,
		}),
		// Without CheckOrigin the library refuses pages of other origins: no web page anywhere
		// may reach a broker on the visitor's loopback address.
		upgrade: websocket.Upgrader{Subprotocols: []string{"mqtt"}, HandshakeTimeout: 10 * time.Second},
	}
	fail := func(err error) (*Broker, error) {
		b.Close()
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	if err := b.server.AddHook(newAccess(opt.Users), nil); err != nil {
		return fail(err)
	}
	for i, address := range opt.Listen {
		l, err := listen(address)
		if err != nil {
			return fail(err)
		}
		tracked := &trackedListener{Listener: l, log: log, open: make(map[net.Conn]struct{})}
		b.inside = append(b.inside, tracked)
		if err := b.server.AddListener(listeners.NewNet(fmt.Sprintf("mqtt-%d", i), tracked)); err != nil {
			return fail(err)
		}
		if len(opt.Users) == 0 && !onLoopback(l.Addr()) {
			log.Warn("embedded broker asks nobody for a password and is open to the network: whoever reaches it reads all frames and sends commands",
				"address", l.Addr().String())
		}
	}
	for _, address := range opt.ListenWebSocket {
		l, err := listen(address)
		if err != nil {
			return fail(err)
		}
		b.web = append(b.web, l)
	}
	return b, nil
}

// capabilities are the limits: the library's own allow a single subscriber to hoard
// 8192 messages twice over, and packets of any size.
func capabilities() *server.Capabilities {
	c := server.NewDefaultServerCapabilities()
	c.MaximumClients = 256
	c.MaximumPacketSize = 8 << 20        // features of 576 tokens in fp32 take 2.7 MB
	c.MaximumClientWritesPending = 256   // then messages to this client are dropped
	c.MaximumInflight = 256              // same, for messages it has not acknowledged
	c.ReceiveMaximum = 256               //
	c.MaximumSessionExpiryInterval = 300 // seconds that a durable session outlives its connection
	// Not lowered but turned off: this interval also deletes retained messages, whatever
	// version they came with, and an "online" or a status has to stay for as long as it is
	// true. What a session may hoard is bounded by the two lines above instead.
	c.MaximumMessageExpiryInterval = 0
	return c
}

// Addr is where the broker listens; URL the same as a client wants it.
func (b *Broker) Addr() net.Addr { return b.inside[0].Addr() }

// URL is where a client on this machine reaches the broker.
func (b *Broker) URL() string { return "mqtt://" + reachable(b.Addr()) }

// WebSocketURL is the same over WebSocket; empty if it does not listen there.
func (b *Broker) WebSocketURL() string {
	if len(b.web) == 0 {
		return ""
	}
	return "ws://" + reachable(b.web[0].Addr()) + "/mqtt"
}

// reachable makes an address to connect to of one that may stand for all interfaces.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// Run serves until ctx ends, then gives messages on their way a moment and closes all
// connections and listeners.
func (b *Broker) Run(ctx context.Context) error {
	if err := b.server.Serve(); err != nil {
		b.Close()
		return fmt.Errorf("embedded broker: %w", err)
	}
	b.log.Info("embedded broker listens", "address", b.Addr().String())
	var serving sync.WaitGroup
	failed := make(chan error, len(b.web))
	h := &http.Server{Handler: b.Handler(), ReadHeaderTimeout: 10 * time.Second}
	for _, l := range b.web {
		serving.Add(1)
		go func() {
			defer serving.Done()
			if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				failed <- err
			}
		}()
	}
	var err error
	select {
	case <-ctx.Done():
		b.drain()
	case <-b.closed:
	case err = <-failed:
		err = fmt.Errorf("embedded broker: websocket: %w", err)
	}
	_ = h.Close()
	b.Close()
	serving.Wait()
	return err
}

// How long Run waits, once its context ended, for messages on their way to subscribers.
const (
	drainQuiet   = 50 * time.Millisecond  // nothing was written for so long: all are out
	drainLongest = 800 * time.Millisecond // although others go on publishing, or a subscriber does not acknowledge
)

// drain lets messages that were taken reach their subscribers, above all a last "offline".
// The server queues them for each client and tells nobody how many are left. Of those with
// acknowledgement it does tell; for the others quiet has to do, which a busy machine may
// take for the end.
func (b *Broker) drain() {
	began := time.Now()
	for time.Since(began) < drainLongest {
		last, clients := began, 0
		for _, l := range b.inside {
			wrote, open := l.activity()
			clients += open
			if wrote.After(last) {
				last = wrote
			}
		}
		left := drainQuiet - time.Since(last)
		if clients == 0 || left <= 0 && atomic.LoadInt64(&b.server.Info.Inflight) <= 0 {
			return
		}
		left = max(left, time.Millisecond)
		select {
		case <-time.After(left):
		case <-b.closed:
			return
		}
	}
}

// Close ends everything at once; Run then returns. It may be called again.
func (b *Broker) Close() {
	b.once.Do(func() {
		close(b.closed)
		for _, l := range b.web {
			_ = l.Close()
		}
		for _, l := range b.inside {
			_ = l.Close() // and its connections, without which the server would wait for ever for a client that never said CONNECT
		}
		_ = b.server.Close() // never fails
	})
}

// Handler serves MQTT over WebSocket, to be mounted in a web server of the program.
// Requests of pages from another origin are refused.
func (b *Broker) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := b.upgrade.Upgrade(w, r, nil)
		if err != nil {
			return // Upgrade has answered
		}
		if ws.Subprotocol() != "mqtt" {
			_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseProtocolError, "sub-protocol mqtt is wanted"), time.Now().Add(time.Second))
			_ = ws.Close()
			return
		}
		ws.SetReadLimit(int64(b.server.Options.Capabilities.MaximumPacketSize) + 1024)
		conn := b.inside[0].track(&wsConn{ws: ws})
		if conn == nil {
			_ = ws.Close()
			return
		}
		defer conn.Close()
		_ = b.server.EstablishConnection("websocket", conn) // the server has logged why it ended
	})
}

// listen opens a TCP listener; what may go wrong is explained.
func listen(address string) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("listen address %q: write host:port, for example %s: %w", address, DefaultListen, err)
	}
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: %w: %s holds the port; use that broker (broker = \"mqtt://%s\"), stop it, or listen on another port",
			address, err, portHolder(address), address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("listen on %s: %w: ports below 1024 need privileges; use one above", address, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("listen on %s: %w: no interface of this machine has that address", address, err)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

func onLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// access asks for user and password, if there are users, and mends subscriptions.
type access struct {
	server.HookBase
	users map[string][sha256.Size]byte
}

func newAccess(users map[string]string) *access {
	a := &access{users: make(map[string][sha256.Size]byte, len(users))}
	for name, password := range users {
		a.users[name] = sha256.Sum256([]byte(password))
	}
	return a
}

// ID names the hook in the log.
func (a *access) ID() string { return "access" }

// Provides says which of the hook's methods are called.
func (a *access) Provides(b byte) bool {
	return bytes.Contains([]byte{server.OnConnectAuthenticate, server.OnACLCheck, server.OnSubscribe}, []byte{b})
}

// OnConnectAuthenticate lets a client in.
func (a *access) OnConnectAuthenticate(_ *server.Client, pk packets.Packet) bool {
	if len(a.users) == 0 {
		return true
	}
	want, known := a.users[string(pk.Connect.Username)]
	got := sha256.Sum256(pk.Connect.Password) // hashed, so that neither length nor content shows in the time taken
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && known
}

// OnACLCheck allows everything but writing to the broker's own topics.
func (a *access) OnACLCheck(_ *server.Client, topic string, write bool) bool {
	return !write || len(topic) == 0 || topic[0] != '$'
}

// OnSubscribe keeps the server library (2.7.9) from refusing a subscription because its
// packet id is that of a message on its way to the same client. The two directions have
// ids of their own (MQTT 3.1.1, 2.3.1), but the library looks both up in one table. The
// message was sent and is forgotten here a little early: only a durable session that
// breaks before acknowledging it would have got it again.
func (a *access) OnSubscribe(cl *server.Client, pk packets.Packet) packets.Packet {
	if m, ok := cl.State.Inflight.Get(pk.PacketID); ok && m.FixedHeader.Type == packets.Publish {
		if cl.State.Inflight.Delete(pk.PacketID) {
			cl.State.Inflight.IncreaseSendQuota()
		}
	}
	return pk
}

// trackedListener gives connections a write deadline and closes them with itself.
type trackedListener struct {
	net.Listener
	log *slog.Logger

	wrote atomic.Int64 // when something was last written to a client, ns since the Unix epoch

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

// activity is when something was last written to a client, and how many clients there are.
func (l *trackedListener) activity() (wrote time.Time, clients int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Unix(0, l.wrote.Load()), len(l.open)
}

// Accept goes on after errors that pass, such as too many open files: the server would
// take any error for the end.
func (l *trackedListener) Accept() (net.Conn, error) {
	pause := 5 * time.Millisecond
	for {
		conn, err := l.Listener.Accept()
		if err == nil {
			if tracked := l.track(conn); tracked != nil {
				return tracked, nil
			}
			_ = conn.Close()
			return nil, net.ErrClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		l.log.Warn("connection not accepted; going on", "error", err, "pause", pause)
		time.Sleep(pause)
		pause = min(2*pause, time.Second)
	}
}

func (l *trackedListener) track(conn net.Conn) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	t := &trackedConn{Conn: conn, listener: l}
	l.open[t] = struct{}{}
	return t
}

// Close ends the listener and its connections. They end as if the machine had: clients
// reconnect, and no will is lost, since the retained messages go with the broker.
func (l *trackedListener) Close() error {
	l.mu.Lock()
	l.closed = true
	open := make([]net.Conn, 0, len(l.open))
	for conn := range l.open {
		open = append(open, conn)
	}
	l.mu.Unlock()
	err := l.Listener.Close()
	for _, conn := range open {
		_ = conn.Close()
	}
	return err
}

// writeTimeout is how long a client may take nothing before it is given up.
const writeTimeout = 10 * time.Second

type trackedConn struct {
	net.Conn
	listener *trackedListener
}

func (c *trackedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	c.listener.wrote.Store(time.Now().UnixNano())
	return n, err
}

func (c *trackedConn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.open, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// quiet lowers the server library's chatter: what it calls Info is Debug to us, and its
// warnings without text are ends of connections.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, lowered(level))
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	lower := slog.NewRecord(r.Time, lowered(r.Level), r.Message, r.PC)
	if r.Message == "" {
		lower.Level, lower.Message = slog.LevelDebug, "client's connection ended"
	}
	r.Attrs(func(a slog.Attr) bool { lower.AddAttrs(a); return true })
	if !q.Handler.Enabled(ctx, lower.Level) {
		return nil
	}
	return q.Handler.Handle(ctx, lower)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }

func lowered(level slog.Level) slog.Level {
	if level == slog.LevelInfo {
		return slog.LevelDebug
	}
	return level
}
