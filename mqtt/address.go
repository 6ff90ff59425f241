package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
)

// Address is where a broker is reached.
type Address struct {
	Scheme   string // "mqtt", "mqtts", "ws" or "wss"
	Host     string // host:port
	Path     string // of ws and wss
	Username string // as the URL gives them; empty if it does not
	Password string
}

// ParseAddress reads a broker's URL: mqtt://host, mqtts://host, ws://host/path or
// wss://host/path, each with an optional port (1883, 8883, 80, 443 by default) and
// user:password@. tcp:// means mqtt://, ssl:// and tls:// mean mqtts://.
func ParseAddress(text string) (Address, error) {
	const forms = "write mqtt://host:1883, mqtts://host:8883, ws://host/mqtt or wss://host/mqtt"
	if strings.TrimSpace(text) == "" {
		return Address{}, errors.New("broker URL is empty: " + forms)
	}
	if !strings.Contains(text, "://") {
		return Address{}, fmt.Errorf("broker URL %q has no scheme: %s", text, forms)
	}
	u, err := url.Parse(text)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // its text would repeat the URL with the password
			err = ue.Err
		}
		scheme, _, _ := strings.Cut(text, "://")
		return Address{}, fmt.Errorf("broker URL %s://…: %w: %s", scheme, err, forms)
	}
	a := Address{Path: u.EscapedPath()}
	var port string
	switch u.Scheme {
	case "mqtt", "tcp":
		a.Scheme, port = "mqtt", "1883"
	case "mqtts", "ssl", "tls":
		a.Scheme, port = "mqtts", "8883"
	case "ws":
		a.Scheme, port = "ws", "80"
	case "wss":
		a.Scheme, port = "wss", "443"
	default:
		return Address{}, fmt.Errorf("broker URL %q: scheme %q is unknown: %s", u.Redacted(), u.Scheme, forms)
	}
	if u.Hostname() == "" {
		return Address{}, fmt.Errorf("broker URL %q names no host: %s", u.Redacted(), forms)
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && strings.ContainsAny(u.Hostname(), ":%[] ") {
		return Address{}, fmt.Errorf("broker URL %q: %q is neither a host name nor an address: %s", u.Redacted(), u.Hostname(), forms)
	}
	if p := u.Port(); p != "" {
		if n, err := net.LookupPort("tcp", p); err != nil || n == 0 {
			return Address{}, fmt.Errorf("broker URL %q: port %q is not between 1 and 65535", u.Redacted(), p)
		}
		port = p
	}
	a.Host = net.JoinHostPort(u.Hostname(), port)
	switch {
	case u.RawQuery != "" || u.Fragment != "":
		return Address{}, fmt.Errorf("broker URL %q has a query or fragment: %s", u.Redacted(), forms)
	case !a.WebSocket() && a.Path != "" && a.Path != "/":
		return Address{}, fmt.Errorf("broker URL %q has the path %q, which only ws:// and wss:// may have; topics are set by the prefix", u.Redacted(), a.Path)
	case !a.WebSocket():
		a.Path = ""
	}
	if u.User != nil {
		a.Username = u.User.Username()
		a.Password, _ = u.User.Password()
	}
	return a, nil
}

// String is the URL without user and password.
func (a Address) String() string {
	return a.Scheme + "://" + strings.ReplaceAll(a.Host, "%", "%25") + a.Path // the zone of an IPv6 address
}

// TLS reports whether the connection is encrypted.
func (a Address) TLS() bool { return a.Scheme == "mqtts" || a.Scheme == "wss" }

// WebSocket reports whether MQTT runs inside a WebSocket.
func (a Address) WebSocket() bool { return a.Scheme == "ws" || a.Scheme == "wss" }

// loopback reports whether the broker is on this machine by its name.
func (a Address) loopback() bool {
	host, _, err := net.SplitHostPort(a.Host)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// tlsConfig reads the files of an encrypted connection. The broker's certificate is
// always verified, against caFile or else the system's authorities.
func tlsConfig(a Address, caFile, certFile, keyFile string) (*tls.Config, error) {
	if !a.TLS() {
		if caFile != "" || certFile != "" || keyFile != "" {
			return nil, fmt.Errorf("certificates are given but %s is not encrypted: write mqtts:// or wss://", a)
		}
		return nil, nil
	}
	host, _, err := net.SplitHostPort(a.Host)
	if err != nil {
		return nil, fmt.Errorf("broker %s: %w", a, err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read CA file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %q holds no PEM certificate (-----BEGIN CERTIFICATE-----)", caFile)
		}
	}
	if (certFile == "") != (keyFile == "") {
		return nil, errors.New("client certificate and key belong together: give both files or neither")
	}
	if certFile != "" {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("load client certificate %q with key %q: %w", certFile, keyFile, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
