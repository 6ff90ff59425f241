package mqtt

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"crypto/tls"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"

	"github.com/toklip/toklip/api"
)

// session is one connection to the broker, from connect to loss. It is never used again:
// reusing a client of the library after Disconnect is unsafe (its README).
type session struct {
	paho   paho.Client
	lost   chan struct{} // closed when the connection is gone
	reason error         // why; to be read after lost was closed

	once sync.Once
	mu   sync.Mutex
	conn net.Conn
	born bool // "online" was acknowledged

	reassert chan struct{} // holds one: somebody overwrote our availability
}

// fail ends the connection with a reason of ours. Closing the socket is what makes the
// library let go at once, wherever it stands; the broker then sends our will.
func (s *session) fail(err error) {
	s.once.Do(func() {
		s.reason = err
		close(s.lost)
	})
	s.closeConn()
}

// end lets the library's goroutines go. It takes an error of a socket that we closed for
// its own doing and would otherwise notice at the next ping; without a socket no
// disconnect packet leaves, so the will is sent.
func (s *session) end() {
	s.closeConn()
	s.paho.Disconnect(1)
}

func (s *session) closeConn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.Close()
	}
}

func (s *session) isBorn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.born
}

// options of one connection. Each line that is not obvious avoids a known trap of
// paho.mqtt.golang 1.5.1.
func (c *Client) options(ctx context.Context, s *session) *paho.ClientOptions {
	o := paho.NewClientOptions()
	o.Servers = []*url.URL{{Scheme: c.address.Scheme, Host: c.address.Host, Path: c.address.Path}}
	o.SetClientID(c.opt.ClientID)
	o.SetUsername(c.opt.Username)
	o.SetPassword(c.opt.Password)
	// Unset, the library falls back to MQTT 3.1 when 3.1.1 is refused for any reason, even
	// a wrong password, and then reports the second refusal.
	o.SetProtocolVersion(4)
	// A clean session: the documents are sent again anyway, and commands that waited while
	// the node was away are not to be carried out late.
	o.SetCleanSession(true)
	// The will is retained, as "online" is: were only one of them, the other would stick.
	o.SetWill(c.topics.Availability(), api.Offline, 1, true)
	// Reconnecting is Run's: see the package comment. With both off, IsConnected and
	// IsConnectionOpen agree, publishing without connection is an error rather than a nil
	// one, and tokens of lost messages complete with an error.
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetConnectTimeout(c.opt.ConnectTimeout)
	// Without it Publish blocks for 30 s although "0 never times out", and a write to a
	// stalled broker for ever.
	o.SetWriteTimeout(c.opt.WriteTimeout)
	o.SetKeepAlive(c.opt.KeepAlive)
	o.SetPingTimeout(min(c.opt.KeepAlive, 10*time.Second))
	// The default store forgets the order. This one is bounded, though its type is not, for
	// few QoS 1 messages of ours are under way at a time (publishAcked, sendEvents).
	o.SetStore(paho.NewOrderedMemoryStore())
	// Handlers that block stop the whole client when order matters, hence the advice to turn
	// that off. Ours only put into a bounded queue, so commands can keep their order.
	o.SetOrderMatters(true)
	// Without a default handler, messages nobody subscribed to stay unacknowledged.
	o.SetDefaultPublishHandler(func(paho.Client, paho.Message) {})
	o.SetConnectionLostHandler(func(_ paho.Client, err error) {
		s.fail(fmt.Errorf("connection to %s lost: %w", c.address, explainLoss(err)))
	})
	// Our own opening, because the library's cannot be cancelled.
	o.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) {
		conn, err := c.dial(ctx)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.conn = conn
		s.mu.Unlock()
		// Had ctx ended before the line above, closeConn would have found nothing to close,
		// and the handshake would hold up the end for ConnectTimeout.
		if err := ctx.Err(); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	})
	return o
}

// dial opens the transport.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opt.ConnectTimeout)
	defer cancel()
	plain := &net.Dialer{KeepAlive: c.opt.KeepAlive}
	switch {
	case c.address.WebSocket():
		d := websocket.Dialer{
			NetDialContext: plain.DialContext, Proxy: http.ProxyFromEnvironment,
			TLSClientConfig: c.tls, HandshakeTimeout: c.opt.ConnectTimeout, Subprotocols: []string{"mqtt"},
		}
		ws, response, err := d.DialContext(ctx, c.address.String(), nil)
		if err != nil {
			if response != nil {
				return nil, fmt.Errorf("%w: HTTP status %s; is %q the path of MQTT there?", err, response.Status, c.address.Path)
			}
			return nil, err
		}
		if got := ws.Subprotocol(); got != "mqtt" {
			_ = ws.Close()
			return nil, fmt.Errorf("the server at %s does not speak MQTT over WebSocket (sub-protocol %q)", c.address, got)
		}
		return &wsConn{ws: ws}, nil
	case c.address.TLS():
		d := tls.Dialer{NetDialer: plain, Config: c.tls}
		return d.DialContext(ctx, "tcp", c.address.Host)
	}
	return plain.DialContext(ctx, "tcp", c.address.Host)
}

// connect makes one attempt.
func (c *Client) connect(ctx context.Context) (*session, error) {
	s := &session{lost: make(chan struct{}), reassert: make(chan struct{}, 1)}
	s.paho = paho.NewClient(c.options(ctx, s))
	stop := context.AfterFunc(ctx, s.closeConn) // the handshake after dial knows no context
	token := s.paho.Connect()
	<-token.Done() // bounded by ConnectTimeout
	if !stop() {
		s.end()
		return nil, ctx.Err()
	}
	if err := token.Error(); err != nil {
		s.closeConn()
		return nil, explainConnect(c.address, c.opt, err)
	}
	c.connects.Add(1)
	return s, nil
}

// serve lives on one connection until it is lost or ctx ends, and returns why.
func (c *Client) serve(ctx context.Context, s *session) error {
	defer c.boundEnd(ctx, s)()
	// Subscriptions do not survive with a clean session: they are made on every connection.
	// Never the own prefix with #: the node would get all its frames back.
	if err := c.subscribe(s); err != nil {
		s.fail(err)
		return err
	}
	// Everything retained, again: the broker may have been restarted without memory.
	// Availability last, so that whoever sees "online" finds the rest.
	c.docs.reconnected()
	err := c.sendDocuments(ctx, s)
	if err == nil {
		err = c.announce(s)
	}
	if err != nil {
		if ctx.Err() != nil {
			c.goodbye(s)
			return nil
		}
		s.fail(err)
		return err
	}

	publishing := make(chan struct{})
	publishCtx, stopPublishing := context.WithCancel(ctx)
	c.open.Store(true)
	c.frames.open()
	c.report(Connection{Connected: true})
	go func() {
		defer close(publishing)
		c.frames.run(publishCtx, c, s)
	}()

	err = c.attend(ctx, s)

	c.open.Store(false)
	c.frames.close()
	stopPublishing()
	if ctx.Err() == nil {
		s.fail(err)
		<-publishing
		return err
	}
	<-publishing // no frame may follow "offline"
	c.goodbye(s)
	return nil
}

// boundEnd gives the connection up once ctx has been over for ShutdownTimeout. All that may
// wait then, for an acknowledgement above all, sees it lost; the broker sends the will.
// release ends the watch.
func (c *Client) boundEnd(ctx context.Context, s *session) (release func()) {
	served := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ctx.Done():
		case <-served:
			return
		}
		timer := time.NewTimer(c.opt.ShutdownTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			s.fail(fmt.Errorf("%s took more than %v to let us go", c.address, c.opt.ShutdownTimeout))
		case <-served:
		}
	}()
	return func() {
		close(served)
		<-watched
	}
}

// attend sends documents, replies and events as they come, and defends the availability.
func (c *Client) attend(ctx context.Context, s *session) error {
	var asserted time.Time
	for {
		if err := c.sendWaiting(ctx, s); err != nil {
			return err
		}
		select {
		case <-c.docs.wake:
		case <-s.reassert:
			// The will of an earlier connection may arrive after our "online", and a namesake's
			// always does. At most once a second, so that two namesakes do not storm. And not at
			// once: a broker may still be handing the "offline" to its other subscribers, who
			// must not see it after our answer.
			select {
			case <-time.After(max(time.Until(asserted.Add(time.Second)), 100*time.Millisecond)):
			case <-s.lost:
				return s.reason
			case <-ctx.Done():
				return ctx.Err()
			}
			asserted = time.Now()
			c.log.Warn("availability was overwritten by somebody else; publishing \"online\" again", "topic", c.topics.Availability())
			if err := c.announce(s); err != nil {
				return err
			}
		case <-s.lost:
			return s.reason
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *Client) announce(s *session) error {
	if err := c.publishAcked(s, c.topics.Availability(), 1, true, []byte(api.Online), c.opt.AckTimeout); err != nil {
		return err
	}
	s.mu.Lock()
	s.born = true
	s.mu.Unlock()
	return nil
}

// sendWaiting sends what waits, documents and replies before events.
func (c *Client) sendWaiting(ctx context.Context, s *session) error {
	for {
		if err := c.sendDocuments(ctx, s); err != nil {
			return err
		}
		if sent, err := c.sendEvents(s); !sent || err != nil {
			return err
		}
	}
}

// sendDocuments sends documents and replies that wait, in this order.
func (c *Client) sendDocuments(ctx context.Context, s *session) error {
	for ctx.Err() == nil {
		if doc := c.docs.next(); doc != nil {
			if err := c.publishAcked(s, doc.topic, doc.qos, doc.retained, doc.payload, c.opt.AckTimeout); err != nil {
				return err
			}
			c.docs.sent(doc)
			continue
		}
		r, ok := c.commands.nextReply()
		if !ok {
			return nil
		}
		if err := c.publishAcked(s, r.topic, 1, false, r.payload, c.opt.AckTimeout); err != nil {
			c.commands.putBack(r)
			return err
		}
	}
	return ctx.Err()
}

// publishAcked publishes and waits until the broker has it (QoS 1) or the socket took it
// (QoS 0). Only one goroutine of a session calls it and sendEvents, so at most one QoS 1
// message, or one window of events, is under way. payload belongs to the library from here on.
func (c *Client) publishAcked(s *session, topic string, qos byte, retained bool, payload []byte, timeout time.Duration) error {
	token := s.paho.Publish(topic, qos, retained, payload)
	return c.wait(s, token, topic, timeout)
}

// wait for a token with a deadline of our own: the library's tokens have been seen to
// hang, and Error is nil while they do.
func (c *Client) wait(s *session, token paho.Token, what string, timeout time.Duration) error {
	select {
	case <-token.Done():
	default:
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-token.Done():
		case <-s.lost:
			return s.reason
		case <-timer.C:
			return fmt.Errorf("%s gave no acknowledgement for %s within %v", c.address, what, timeout)
		}
	}
	if err := token.Error(); err != nil {
		select {
		case <-s.lost: // the better reason
			return s.reason
		default:
		}
		return fmt.Errorf("publish to %s: %w", what, err)
	}
	return nil
}

func (c *Client) subscribe(s *session) error {
	commands := func(_ paho.Client, m paho.Message) {
		c.commands.receive(m.Topic(), m.Payload(), m.Retained())
	}
	availability := func(_ paho.Client, m paho.Message) {
		// Before "online" was acknowledged this is the retained "offline" of the last run.
		if string(m.Payload()) != api.Online && s.isBorn() {
			select {
			case s.reassert <- struct{}{}:
			default:
			}
		}
	}
	statuses := c.topics.Camera("+", api.KindStatus)
	filters := map[string]byte{c.topics.Commands(): 1, c.topics.Availability(): 1, statuses: 0}
	// All in one packet, and handlers before it: what is retained comes at once.
	s.paho.AddRoute(c.topics.Commands(), commands)
	s.paho.AddRoute(c.topics.Availability(), availability)
	s.paho.AddRoute(statuses, func(_ paho.Client, m paho.Message) { c.receiveStatus(m.Topic(), m.Payload(), m.Retained()) })
	token := s.paho.SubscribeMultiple(filters, nil)
	if err := c.wait(s, token, c.topics.Commands(), c.opt.AckTimeout); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if result, ok := token.(*paho.SubscribeToken); ok {
		for filter, granted := range result.Result() {
			if granted > 2 && filter != statuses { // what stays behind without it is untidy, no more
				return fmt.Errorf("subscribe to %s: %w: the broker's access list forbids it to user %q", filter, ErrNotAuthorised, c.opt.Username)
			}
		}
	}
	return nil
}

// goodbye takes leave: state, what else waits, "offline" (a clean disconnect suppresses
// the will), disconnect. boundEnd ends it if the broker does not answer.
func (c *Client) goodbye(s *session) {
	c.mu.Lock()
	c.stopping = true
	state := c.state
	c.mu.Unlock()
	if state.State != "" && state.State != api.StateStopping {
		// SetState has taken part in the same race before: the flag is set.
		if err := c.SetState(api.State{State: api.StateStopping, SinceNS: time.Now().UnixNano()}); err != nil {
			c.log.Error("encode state", "error", err)
		}
	}
	err := c.sendWaiting(context.Background(), s)
	if err != nil {
		c.log.Warn("last documents and events were not delivered", "error", err)
	}
	if err == nil {
		err = c.publishAcked(s, c.topics.Availability(), 1, true, []byte(api.Offline), c.opt.ShutdownTimeout)
	}
	if err != nil {
		// Without the disconnect packet the broker sends the will, which says the same.
		c.log.Warn("availability offline was not delivered; the will has to do it", "error", err)
		s.fail(err)
		return
	}
	s.paho.Disconnect(uint(c.opt.ShutdownTimeout.Milliseconds()))
}
