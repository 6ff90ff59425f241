package capture

// Control protocol between camera and worker: one JSON object a packet over a
// SOCK_SEQPACKET socketpair, which the worker has as descriptor 3; descriptor 4 is
// a pipe that takes a byte for each new frame. The worker speaks first.
//
//	worker  {"event":"hello","protocol":1,"version":"v0.1.0","pid":4711}
//	daemon  {"command":"open","uri":"rtsp://…","width":0,"height":0,"fps":10,"slots":4}
//	worker  {"event":"opened","fps":25,"clock":"rtp","backend":"ffmpeg"}
//	worker  {"event":"segment","generation":1} with the memfd attached (SCM_RIGHTS)
//	worker  {"event":"stats"} every second, while the source opens as well
//	worker  {"event":"broken","message":"a.png: …"} at most once a second
//	worker  {"event":"error","message":"…"} and ends
//	worker  {"event":"eof"} and ends
//	daemon  {"command":"stop"}, or closes the socket: the worker ends
//
// The URI with its password travels here and not in the worker's arguments, which
// every user of the machine can read.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	protocolVersion = 1
	maxPacket       = 64 << 10

	controlFD = 3 // in the worker
	notifyFD  = 4
)

type event struct {
	Event      string  `json:"event"`
	Protocol   int     `json:"protocol,omitempty"`
	Version    string  `json:"version,omitempty"`
	PID        int     `json:"pid,omitempty"`
	FPS        float64 `json:"fps,omitempty"`
	Clock      string  `json:"clock,omitempty"`
	Backend    string  `json:"backend,omitempty"`
	Generation uint32  `json:"generation,omitempty"`
	Message    string  `json:"message,omitempty"`
}

const (
	eventHello   = "hello"
	eventOpened  = "opened"
	eventSegment = "segment"
	eventStats   = "stats"
	eventBroken  = "broken"
	eventError   = "error"
	eventEOF     = "eof"
)

// decodeEvent reads one packet of a worker, which may be a wrong program or out
// of its mind.
func decodeEvent(packet []byte) (event, error) {
	var e event
	if err := decodeStrict(packet, &e); err != nil {
		return event{}, fmt.Errorf("capture worker sent %.80q: %w", packet, err)
	}
	bad := func(format string, args ...any) (event, error) {
		return event{}, fmt.Errorf("capture worker sent %.80q: "+format, append([]any{packet}, args...)...)
	}
	switch e.Event {
	case eventHello:
		if e.Protocol < 1 || e.PID < 1 {
			return bad("hello without protocol and pid")
		}
	case eventOpened:
		if !(e.FPS >= 0 && e.FPS <= maxFPS) {
			return bad("fps %v is out of range 0 to %d", e.FPS, maxFPS)
		}
		if len(e.Clock) > 16 || len(e.Backend) > 32 {
			return bad("names too long")
		}
	case eventSegment:
		if e.Generation < 1 {
			return bad("segment without generation")
		}
	case eventBroken, eventError:
		if e.Message == "" {
			return bad("%s without message", e.Event)
		}
	case eventStats, eventEOF:
	default:
		return bad("event %q is unknown", e.Event)
	}
	return e, nil
}

type command struct {
	Command string  `json:"command"`
	URI     string  `json:"uri,omitempty"`
	Width   int     `json:"width,omitempty"`
	Height  int     `json:"height,omitempty"`
	FPS     float64 `json:"fps,omitempty"`
	Slots   int     `json:"slots,omitempty"`
}

const (
	commandOpen = "open"
	commandStop = "stop"
)

func decodeCommand(packet []byte) (command, error) {
	var c command
	if err := decodeStrict(packet, &c); err != nil {
		return command{}, fmt.Errorf("daemon's command: %w", err)
	}
	switch c.Command {
	case commandStop:
	case commandOpen:
		if c.Width < 0 || c.Width > maxSide || c.Height < 0 || c.Height > maxSide || !(c.FPS >= 0 && c.FPS <= maxFPS) ||
			c.Slots < minSlots || c.Slots > maxSlots {
			return command{}, fmt.Errorf("daemon's command: size %dx%d, fps %v, slots %d out of range", c.Width, c.Height, c.FPS, c.Slots)
		}
	default:
		return command{}, fmt.Errorf("daemon's command %q is unknown", c.Command)
	}
	return c, nil
}

func decodeStrict(packet []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(packet))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// channel is one end of the control socket. Sends are safe from any goroutine,
// receives from one.
type channel struct {
	conn *net.UnixConn
	mu   sync.Mutex
	buf  []byte
	oob  []byte
}

func newChannel(f *os.File) (*channel, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("control socket is a %s", c.LocalAddr().Network())
	}
	return &channel{conn: u, buf: make([]byte, maxPacket), oob: make([]byte, unix.CmsgSpace(4*8))}, nil
}

// send writes one packet, with a descriptor attached if fd is not negative.
func (c *channel) send(v any, fd int) error {
	packet, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(packet) > maxPacket {
		return fmt.Errorf("control packet of %d bytes, longer than %d", len(packet), maxPacket)
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// The other end always reads; if it does not it is hung, and so must not hang us.
	if err := c.conn.SetWriteDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	_, _, err = c.conn.WriteMsgUnix(packet, rights, nil)
	return err
}

// receive returns the next packet, valid until the next receive, and the
// descriptor that came with it, -1 if none.
func (c *channel) receive() (packet []byte, fd int, err error) {
	n, oobn, flags, _, err := c.conn.ReadMsgUnix(c.buf, c.oob)
	if err != nil {
		return nil, -1, err
	}
	if n == 0 && oobn == 0 {
		return nil, -1, io.EOF
	}
	fd = -1
	if oobn > 0 {
		messages, err := unix.ParseSocketControlMessage(c.oob[:oobn])
		if err != nil {
			return nil, -1, fmt.Errorf("control socket: %w", err)
		}
		for i := range messages {
			fds, err := unix.ParseUnixRights(&messages[i])
			if err != nil {
				continue
			}
			for _, f := range fds {
				if fd < 0 {
					fd = f
				} else {
					_ = unix.Close(f)
				}
			}
		}
	}
	if flags&unix.MSG_TRUNC != 0 || flags&unix.MSG_CTRUNC != 0 {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, -1, fmt.Errorf("control packet longer than %d bytes", maxPacket)
	}
	return c.buf[:n], fd, nil
}

func (c *channel) close() error { return c.conn.Close() }
