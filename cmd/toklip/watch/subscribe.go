package watch

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/toklip/toklip/api"
)

const (
	// Messages wait here between network and view, at most so many and of so many
	// bytes together. A newer one that finds no room is dropped and counted.
	queueMessages = 4096
	queueBytes    = 64 << 20

	dialTimeout   = 5 * time.Second
	retryInterval = time.Second
	mostInterval  = 15 * time.Second
)

// message is what the broker sent.
type message struct {
	topic    string
	payload  []byte
	at       time.Time // of arrival
	retained bool      // kept by the broker from before we subscribed
}

// broker is where to connect to.
type broker struct {
	url        string // as the client library wants it, without user
	shown      string // for people: without password
	user, pass string
	secure     bool
}

// parseBroker reads the URL of a broker. A bare host[:port] is taken as mqtt.
func parseBroker(text string) (broker, error) {
	const usage = "write it as mqtt://host:1883, or mqtts://host:8883 for TLS"
	full := text
	if !strings.Contains(full, "://") {
		full = "mqtt://" + full
	}
	u, err := url.Parse(full)
	if err != nil {
		// The error of package url quotes the whole URL, which may hold a password.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return broker{}, fmt.Errorf("broker URL cannot be read: %w: %s", err, usage)
	}
	var b broker
	scheme, port := "", ""
	switch strings.ToLower(u.Scheme) {
	case "mqtt", "tcp":
		scheme, port = "tcp", "1883"
	case "mqtts", "ssl", "tls":
		scheme, port, b.secure = "ssl", "8883", true
	case "ws":
		scheme, port = "ws", "80"
	case "wss":
		scheme, port, b.secure = "wss", "443", true
	default:
		return broker{}, fmt.Errorf("broker URL %q has scheme %q: %s", u.Redacted(), u.Scheme, usage)
	}
	if u.Hostname() == "" {
		return broker{}, fmt.Errorf("broker URL %q has no host: %s", u.Redacted(), usage)
	}
	if p := u.Port(); p != "" {
		port = p
	}
	if u.User != nil {
		b.user = u.User.Username()
		b.pass, _ = u.User.Password()
	}
	path := ""
	if scheme == "ws" || scheme == "wss" {
		path = u.EscapedPath()
	} else if u.Path != "" && u.Path != "/" {
		return broker{}, fmt.Errorf("broker URL %q has the path %q: a topic is given as FILTER, not in the URL", u.Redacted(), u.Path)
	}
	host := net.JoinHostPort(u.Hostname(), port)
	b.url = scheme + "://" + host + path
	b.shown = clean(strings.ToLower(u.Scheme)+"://"+host+path, 80)
	return b, nil
}

// defaultFilters are what the view needs, with the quality of service of each. The
// heavy topics (features, the JSON twins) and everything others may put below the
// prefix stay out.
func defaultFilters(prefix string) map[string]byte {
	filters := make(map[string]byte)
	for _, k := range []api.Kind{api.KindAvailability, api.KindInfo, api.KindState} {
		filters[prefix+"/+/"+string(k)] = 1
	}
	filters[prefix+"/+/"+string(api.KindMetrics)] = 0
	filters[prefix+"/+/camera/+/"+string(api.KindStatus)] = 1
	filters[prefix+"/+/camera/+/"+string(api.KindEvent)] = 1
	for _, k := range []api.Kind{api.KindTokens, api.KindEmbedding, api.KindLabels, api.KindRegions} {
		filters[prefix+"/+/camera/+/"+string(k)] = 0
	}
	return filters
}

// validFilter checks a topic filter as MQTT 3.1.1 section 4.7.1 wants it.
func validFilter(filter string) error {
	switch {
	case len(filter) > 65535:
		return fmt.Errorf("filter has %d bytes: MQTT allows 65535", len(filter))
	case !utf8.ValidString(filter) || strings.ContainsRune(filter, 0):
		return fmt.Errorf("filter %q is not a text that MQTT allows", filter)
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if strings.ContainsAny(level, "+#") && len(level) > 1 {
			return fmt.Errorf("filter %q: the wildcard in %q must be a whole level, as in toklip/+/state", filter, level)
		}
		if level == "#" && i < len(levels)-1 {
			return fmt.Errorf("filter %q: # can only be the last level", filter)
		}
	}
	return nil
}

// link is the connection to the broker. Its goroutines belong to the client library
// and end with close.
type link struct {
	messages chan message // never closed
	failed   chan error   // gets one error when there is no hope, or none yet and nobody to wait

	client  mqtt.Client
	connect mqtt.Token
	log     *slog.Logger
	shown   string
	patient bool // a broker that is not there yet is waited for
	queued  atomic.Int64
	dropped atomic.Uint64

	mu     sync.Mutex
	status linkStatus
}

// linkStatus is how the connection does.
type linkStatus struct {
	Broker    string
	Connected bool
	Connects  int
	Err       string // why not connected, for people
}

// subscribe starts to connect and returns at once.
func subscribe(b broker, filters map[string]byte, o Options) *link {
	l := &link{
		messages: make(chan message, queueMessages),
		failed:   make(chan error, 1),
		log:      o.Log.With("broker", b.shown),
		shown:    b.shown,
		patient:  o.view(),
		status:   linkStatus{Broker: b.shown},
	}
	id := o.ClientID
	if id == "" {
		var random [4]byte
		_, _ = rand.Read(random[:]) // never fails
		id = "toklip-watch-" + hex.EncodeToString(random[:])
	}
	c := mqtt.NewClientOptions().
		AddBroker(b.url).
		SetClientID(id).
		SetProtocolVersion(4). // unset, the library would fall back to 3.1 and hide the error
		SetCleanSession(true).
		SetOrderMatters(true). // lines in the order of arrival; the handler never blocks, which is all that this asks for
		SetDialer(&net.Dialer{Timeout: dialTimeout}).
		SetConnectTimeout(dialTimeout).
		SetConnectRetry(true).
		SetConnectRetryInterval(retryInterval).
		SetAutoReconnect(true).
		SetMaxReconnectInterval(mostInterval).
		SetKeepAlive(20 * time.Second).
		SetPingTimeout(5 * time.Second)
	c.SetUsername(b.user)
	c.SetPassword(b.pass)
	if b.secure {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if o.TLS != nil {
			config = o.TLS.Clone()
		}
		c.SetTLSConfig(config)
	}
	// Nothing may go unacknowledged, so that every message ends in receive.
	c.SetDefaultPublishHandler(l.receive)
	// The broker forgets a clean session's subscriptions; they are made at each connect.
	c.SetOnConnectHandler(func(client mqtt.Client) { l.subscribeAll(client, filters) })
	c.SetConnectionNotificationHandler(l.notice)
	l.client = mqtt.NewClient(c)
	l.connect = l.client.Connect()
	return l
}

// receive runs in a goroutine of the library for each message and never blocks.
func (l *link) receive(_ mqtt.Client, m mqtt.Message) {
	in := message{topic: m.Topic(), payload: m.Payload(), at: time.Now(), retained: m.Retained()}
	size := in.size()
	if l.queued.Add(size) > queueBytes {
		l.queued.Add(-size)
		l.dropped.Add(1)
		return
	}
	select {
	case l.messages <- in:
	default:
		l.queued.Add(-size)
		l.dropped.Add(1)
	}
}

func (m message) size() int64 { return int64(len(m.topic) + len(m.payload)) }

// taken makes room for what was taken from messages.
func (l *link) taken(m message) { l.queued.Add(-m.size()) }

func (l *link) subscribeAll(client mqtt.Client, filters map[string]byte) {
	token := client.SubscribeMultiple(filters, nil)
	if !token.WaitTimeout(dialTimeout) {
		// The reply may still come. If it was lost, the connection was too, and the
		// next one subscribes again.
		return
	}
	if t, ok := token.(*mqtt.SubscribeToken); ok {
		for filter, code := range t.Result() {
			if code == 0x80 {
				l.fail(fmt.Errorf("broker %s refuses the subscription to %q: may this user read it?", l.shown, filter))
				return
			}
		}
	}
}

// notice follows the connection.
func (l *link) notice(_ mqtt.Client, n mqtt.ConnectionNotification) {
	l.mu.Lock()
	before := l.status
	first := before.Connects == 0
	var err error
	switch n := n.(type) {
	case mqtt.ConnectionNotificationConnected:
		l.status.Connected, l.status.Err = true, ""
		l.status.Connects++
	case mqtt.ConnectionNotificationLost:
		l.status.Connected = l.client.IsConnectionOpen()
		if !l.status.Connected {
			l.status.Err = "connection lost"
		}
	case mqtt.ConnectionNotificationFailed:
		err = n.Reason
		l.status.Connected, l.status.Err = false, clean(shortReason(err), 120)
	}
	after := l.status
	l.mu.Unlock()
	if !l.patient && !first && before != after {
		if after.Connected {
			l.log.Info("connected again", "connects", after.Connects)
		} else {
			l.log.Warn("not connected", "reason", after.Err)
		}
	}
	if err != nil && (hopeless(err) || first && !l.patient) {
		l.fail(connectError(l.shown, err))
	}
}

func (l *link) fail(err error) {
	select {
	case l.failed <- err:
	default: // the first one counts
	}
}

// state is how the connection does now.
func (l *link) state() linkStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// close ends the connection and waits for its goroutines, but not longer than a dead
// network is worth.
func (l *link) close() {
	l.client.Disconnect(250)
	l.connect.WaitTimeout(retryInterval + 500*time.Millisecond)
}

// hopeless reports whether another attempt with the same settings would fail as well.
func hopeless(err error) bool {
	var verify *tls.CertificateVerificationError
	return errors.Is(err, packets.ErrorRefusedNotAuthorised) ||
		errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword) ||
		errors.Is(err, packets.ErrorRefusedBadProtocolVersion) ||
		errors.Is(err, packets.ErrorRefusedIDRejected) ||
		errors.As(err, &verify)
}

// connectError adds the likely next step.
func connectError(shown string, err error) error {
	var dns *net.DNSError
	var verify *tls.CertificateVerificationError
	hint := ""
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "no broker listens there; " + hintDemo
	case errors.As(err, &dns):
		hint = "is the host name right?"
	case errors.As(err, &verify):
		hint = "the broker's certificate is not signed by an authority this machine trusts"
	case errors.Is(err, packets.ErrorRefusedNotAuthorised), errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword):
		hint = "give user and password in the URL: mqtt://user:password@host"
	case isTimeout(err):
		hint = "is the address right and the port open?"
	default:
		hint = "is it an MQTT broker, and with TLS only if the URL says mqtts?"
	}
	return fmt.Errorf("connect to %s: %s: %s", shown, clean(shortReason(err), 200), hint)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// shortReason is the innermost words of what the library wraps several times.
func shortReason(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.As(err, &dns):
		return fmt.Sprintf("host %q is not known", dns.Name)
	case errors.Is(err, packets.ErrorRefusedNotAuthorised), errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword):
		return "not authorised"
	case isTimeout(err):
		return "no answer"
	}
	return strings.TrimPrefix(err.Error(), packets.ErrorNetworkError.Error()+" : ")
}
