package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// explainConnect adds to an error of an attempt to connect what is likely wrong and what
// to do about it.
func explainConnect(a Address, opt Options, err error) error {
	hint := func(text string) error { return fmt.Errorf("connect to %s: %w: %s", a, err, text) }
	var (
		unknownCA  x509.UnknownAuthorityError
		hostname   x509.HostnameError
		invalid    x509.CertificateInvalidError
		notTLS     tls.RecordHeaderError
		dns        *net.DNSError
		timeout    net.Error
		remoteText = strings.Contains(err.Error(), "remote error: tls:")
	)
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		if opt.Username == "" {
			return fmt.Errorf("connect to %s: %w: it wants a user name and password, none are configured (%w)", a, ErrNotAuthorised, err)
		}
		return fmt.Errorf("connect to %s: %w: check the password of user %q (%w)", a, ErrNotAuthorised, opt.Username, err)
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return fmt.Errorf("connect to %s: %w: it does not accept the client id %q (%w)", a, ErrNotAuthorised, opt.ClientID, err)
	case errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return hint("the broker does not speak MQTT 3.1.1")
	case errors.Is(err, packets.ErrorRefusedServerUnavailable):
		return hint("the broker is there but takes no clients now")
	case errors.As(err, &unknownCA):
		return hint("its certificate is signed by an authority this machine does not know; name that authority's certificate as CA file")
	case errors.As(err, &hostname):
		return hint("its certificate is for another name; use a name the certificate holds")
	case errors.As(err, &invalid):
		return hint("its certificate is not valid; check its dates and this machine's clock")
	case errors.As(err, &notTLS):
		return hint("what answers there is not encrypted; use mqtt:// or the broker's TLS port")
	case remoteText:
		return hint("the broker refused our side of TLS; it may want a client certificate")
	case errors.Is(err, syscall.ECONNREFUSED):
		return hint("nothing listens there; start the broker or correct the address")
	case errors.As(err, &dns):
		return hint("the name cannot be resolved; check it and the network")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return hint("no answer; is the broker's port open to this machine?")
	case a.TLS() && opt.CertFile == "" && hungUp(err): // TLS 1.3: a client learns of it only by the end
		return hint("it hung up on us; it may want a client certificate")
	case hungUp(err):
		return hint("it hung up at once; is that an MQTT port, and does it want TLS (mqtts://)?")
	}
	return fmt.Errorf("connect to %s: %w", a, err)
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// explainLoss says in words what ended a connection.
func explainLoss(err error) error {
	switch {
	case err == nil:
		return errors.New("no reason given")
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the broker hung up: it ended, or another client has our client id", err)
	case strings.Contains(err.Error(), "pingresp not received"):
		return fmt.Errorf("%w: the network or the broker fell silent", err)
	}
	return err
}
