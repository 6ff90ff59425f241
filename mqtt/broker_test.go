package mqtt_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"

	"github.com/toklip/toklip/mqtt"
)

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = mqtt.NewBroker(mqtt.BrokerOptions{Listen: []string{l.Addr().String()}})
	want := fmt.Sprintf("(process %d)", os.Getpid())
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v names neither %s nor the holder %s", err, l.Addr(), want)
	}
	for address, want := range map[string]string{"1883": "write host:port", "203.0.113.1:0": "no interface"} {
		if _, err := mqtt.NewBroker(mqtt.BrokerOptions{Listen: []string{address}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen on %s: error %v does not say %q", address, err, want)
		}
	}
}

// Close without Run gives the port back, and twice does no harm.
func TestBrokerClose(t *testing.T) {
	b, err := mqtt.NewBroker(mqtt.BrokerOptions{Listen: []string{"127.0.0.1:0"}, ListenWebSocket: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	b.Close()
	l, err := net.Listen("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

// The server waits for its clients when it ends; one that never says CONNECT must not
// hold it.
func TestBrokerEndsWithSilentClient(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "mqtt://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	time.Sleep(20 * time.Millisecond) // accepted by now, usually
	b.stop()
}

func TestUsers(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		testUsers(t, embedded(t, mqtt.BrokerOptions{Users: map[string]string{"robot": "right"}}))
	})
	t.Run("mosquitto", func(t *testing.T) {
		passwords := filepath.Join(t.TempDir(), "passwords")
		if out, err := exec.Command("mosquitto_passwd", "-b", "-c", passwords, "robot", "right").CombinedOutput(); err != nil {
			t.Skipf("mosquitto_passwd: %v %s", err, out)
		}
		testUsers(t, mosquitto(t, "allow_anonymous false", "password_file "+passwords))
	})
}

func testUsers(t *testing.T, b *anyBroker) {
	for name, c := range map[string]struct{ user, password, want string }{
		"wrong password": {"robot", "wrong", `check the password of user "robot"`},
		"unknown user":   {"nobody", "right", `check the password of user "nobody"`},
		"anonymous":      {"", "", "none are configured"},
	} {
		t.Run(name, func(t *testing.T) {
			cl, _ := client(t, mqtt.Options{Broker: b.url, Username: c.user, Password: c.password})
			eventually(t, "a refusal", func() bool { return cl.Stats().LastError != nil })
			err := cl.Stats().LastError
			if !errors.Is(err, mqtt.ErrNotAuthorised) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "wrong") {
				t.Errorf("error %v does not say %q", err, c.want)
			}
		})
	}
	t.Run("right", func(t *testing.T) {
		cl, _ := client(t, mqtt.Options{Broker: strings.Replace(b.url, "mqtt://", "mqtt://robot:right@", 1)})
		connected(t, cl)
	})
}

// Subscriptions whose packet id is also that of a message under way the other way.
func TestSubscribeWhileMessagesAreUnacknowledged(t *testing.T) {
	b := embedded(t, mqtt.BrokerOptions{})
	sender := observe(t, b.url)
	for i := range 8 {
		sender.send(t, fmt.Sprintf("first/%d", i), true, "x")
	}
	o := paho.NewClientOptions().AddBroker(strings.Replace(b.url, "mqtt", "tcp", 1)).SetClientID("slow").SetAutoAckDisabled(true).SetAutoReconnect(false)
	c := paho.NewClient(o)
	if token := c.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	defer c.Disconnect(100)
	seen := make(chan paho.Message, 100)
	keep := func(_ paho.Client, m paho.Message) { seen <- m } // and acknowledge nothing
	for i, filter := range []string{"first/#", "second", "third", "fourth"} {
		token := c.Subscribe(filter, 1, keep)
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatal(token.Error())
		}
		if granted := token.(*paho.SubscribeToken).Result()[filter]; granted != 1 {
			t.Errorf("subscription %d is granted %#x, want QoS 1", i+1, granted)
		}
	}
	topics := make(map[string]bool) // a message may come twice: QoS 1
	for len(topics) < 8 {
		topics[(<-seen).Topic()] = true
	}
	sender.send(t, "third", false, "y")
	for (<-seen).Topic() != "third" {
	}
}

func TestWebSocket(t *testing.T) {
	server, err := mqtt.NewBroker(mqtt.BrokerOptions{Listen: []string{"127.0.0.1:0"}, ListenWebSocket: []string{"127.0.0.1:0"}, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	c, stop := client(t, mqtt.Options{Broker: server.WebSocketURL()})
	defer stop()
	connected(t, c)
	o := observe(t, server.URL(), c.Topics().Availability(), c.Topics().Camera("front", "embedding"))
	o.await(t, c.Topics().Availability(), is("online"))
	f := frame(1, nil)
	f.Embedding = make([]float32, 100_000) // more than any buffer between
	if err := c.PublishFrame(f); err != nil {
		t.Fatal(err)
	}
	if m := o.await(t, c.Topics().Camera("front", "embedding"), any1); len(m.payload) < 200_000 {
		t.Errorf("embedding has %d bytes", len(m.payload))
	}

	dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}}
	_, response, err := dialer.Dial(server.WebSocketURL(), http.Header{"Origin": {"http://evil.example"}})
	if err == nil || response == nil || response.StatusCode != http.StatusForbidden {
		t.Errorf("a page of another origin gets %v, %v", response, err)
	}
	if ws, _, err := (&websocket.Dialer{}).Dial(server.WebSocketURL(), nil); err == nil {
		if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseProtocolError) {
			t.Errorf("without sub-protocol: %v", err)
		}
		_ = ws.Close()
	} else {
		t.Error(err)
	}
	bad, stopBad := client(t, mqtt.Options{Broker: "ws://" + strings.TrimPrefix(server.URL(), "mqtt://")})
	defer stopBad()
	eventually(t, "an error", func() bool { return bad.Stats().LastError != nil })
}

// authority makes certificates in a folder: ca.pem, and NAME.pem with NAME.key.
type authority struct {
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{folder: t.TempDir()}
	a.cert, a.key = a.issue(t, "ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "toklip test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) issue(t *testing.T, name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(a.file(file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.folder, name) }

func TestTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	a.issue(t, "server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	a.issue(t, "elsewhere", &x509.Certificate{DNSNames: []string{"elsewhere.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	a.issue(t, "expired", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	a.issue(t, "node", &x509.Certificate{Subject: pkix.Name{CommonName: "robot-1"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	serve := func(name string, lines ...string) string {
		lines = append(lines, "allow_anonymous true", "cafile "+a.file("ca.pem"), "certfile "+a.file(name+".pem"), "keyfile "+a.file(name+".key"))
		return strings.Replace(mosquitto(t, lines...).url, "mqtt://", "mqtts://", 1)
	}
	url, other, old, mutual := serve("server"), serve("elsewhere"), serve("expired"), serve("server", "require_certificate true")
	ca := a.file("ca.pem")
	for name, opt := range map[string]mqtt.Options{
		"server certificate": {Broker: url, CAFile: ca},
		"client certificate": {Broker: mutual, CAFile: ca, CertFile: a.file("node.pem"), KeyFile: a.file("node.key")},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := client(t, opt)
			connected(t, c)
		})
	}
	for name, c := range map[string]struct {
		opt  mqtt.Options
		want string
	}{
		"system authorities":    {mqtt.Options{Broker: url}, "name that authority's certificate as CA file"},
		"another authority":     {mqtt.Options{Broker: url, CAFile: stranger.file("ca.pem")}, "name that authority's certificate as CA file"},
		"another name":          {mqtt.Options{Broker: other, CAFile: ca}, "use a name the certificate holds"},
		"expired":               {mqtt.Options{Broker: old, CAFile: ca}, "this machine's clock"},
		"no client certificate": {mqtt.Options{Broker: mutual, CAFile: ca}, "may want a client certificate"},
		"TLS to a plain port":   {mqtt.Options{Broker: strings.Replace(mosquitto(t, "allow_anonymous true").url, "mqtt://", "mqtts://", 1), CAFile: ca}, ""},
		"plain to a TLS port":   {mqtt.Options{Broker: strings.Replace(url, "mqtts://", "mqtt://", 1)}, "want TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			cl, _ := client(t, c.opt)
			eventually(t, "a refusal", func() bool { return cl.Stats().LastError != nil })
			if err := cl.Stats().LastError; !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not say %q", err, c.want)
			}
		})
	}
}
