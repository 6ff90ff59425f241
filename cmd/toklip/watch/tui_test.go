package watch

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/sys/unix"

	"github.com/toklip/toklip/api"
)

// terminal is a pseudo terminal: the view runs on one end, the test reads and types at
// the other.
type terminal struct {
	near, far *os.File
	mu        sync.Mutex
	text      strings.Builder
	ended     chan struct{}
}

func newTerminal(t *testing.T, columns, lines uint16) *terminal {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	fd := int(near.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{near: near, far: far, ended: make(chan struct{})}
	go func() {
		defer close(term.ended)
		buf := make([]byte, 4096)
		for {
			n, err := near.Read(buf)
			term.mu.Lock()
			term.text.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return // the far end was closed
			}
		}
	}()
	t.Cleanup(func() {
		far.Close()
		<-term.ended
		near.Close()
	})
	return term
}

func (term *terminal) raw() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.text.String()
}

// see waits until all that was drawn contains the text.
func (term *terminal) see(t *testing.T, text string) {
	t.Helper()
	for range 200 {
		if strings.Contains(ansi.Strip(term.raw()), text) {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("%q is not to be seen in:\n%s", text, ansi.Strip(term.raw()))
}

func (term *terminal) forget() {
	term.mu.Lock()
	defer term.mu.Unlock()
	term.text.Reset()
}

func (term *terminal) keys(t *testing.T, keys string) {
	t.Helper()
	if _, err := term.near.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

func TestTerminalView(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	t.Setenv("COLORTERM", "truecolor")
	t.Setenv("NO_COLOR", "")
	t.Setenv("CI", "") // with it, no colours are used even on a terminal
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	term := newTerminal(t, 100, 40)
	done := make(chan error, 1)
	go func() {
		done <- Run(context.Background(), Options{Broker: "mqtt://" + address, In: term.far, Out: term.far})
	}()
	// The view waits for a broker that is not there yet.
	term.see(t, "connection refused, trying again")
	embedded(t, address)
	term.see(t, "nothing is published yet")
	publish := publisher(t, "mqtt://"+address)
	s := newSender(t, "robot-7", "front", 16)
	publish("toklip/robot-7/availability", true, []byte("online"))
	for seq := range uint64(5) {
		now := time.Now()
		publish(s.topic(api.KindTokens), false, s.tokens(s.header(seq+1, now, now), s.change(int(seq))))
	}
	term.see(t, "robot-7")
	term.see(t, "receiving")
	term.see(t, "#5")
	if raw := term.raw(); !strings.Contains(raw, "\x1b[?1049h") || !strings.Contains(raw, "48;2;") {
		t.Error("no alternate screen, or no true colours")
	}
	term.forget()
	term.keys(t, "?")
	term.see(t, "synchronise")
	term.keys(t, "?p")
	term.see(t, "paused")
	term.keys(t, "q")
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("q: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("q does not quit")
	}
	term.see(t, "")
	if !strings.Contains(term.raw(), "\x1b[?1049l") {
		t.Error("the alternate screen was not left")
	}
}

func TestTerminalViewEnds(t *testing.T) {
	t.Setenv("TERM", "xterm")
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	embedded(t, address)
	publisher(t, "mqtt://"+address)("toklip/a/availability", true, []byte("online"))
	options := func(term *terminal) Options {
		return Options{Broker: "mqtt://" + address, In: term.far, Out: term.far}
	}
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Run(ctx, options(newTerminal(t, 80, 24))); err != nil {
			t.Error(err)
		}
	})
	t.Run("count", func(t *testing.T) {
		o := options(newTerminal(t, 80, 24))
		o.Count = 1
		if err := Run(t.Context(), o); err != nil {
			t.Error(err)
		}
	})
	t.Run("duration", func(t *testing.T) {
		o := options(newTerminal(t, 80, 24))
		o.Count, o.Duration = 2, 500*time.Millisecond
		if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "received 1 of 2 messages") {
			t.Errorf("%v", err)
		}
	})
	t.Run("no broker", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		o := options(newTerminal(t, 80, 24))
		o.Broker = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		if err := Run(ctx, o); err != nil {
			t.Error(err)
		}
	})
}

func TestKeys(t *testing.T) {
	l := &link{messages: make(chan message, 10)}
	m := newModel(Options{Prefix: "toklip"}, newTheme(0), l)
	for _, name := range []string{"a", "c"} {
		l.messages <- message{topic: "toklip/n/camera/" + name + "/status", payload: []byte(`{"status":"online"}`), at: time.Now()}
	}
	m.Update(tick{})
	selected := func() string { return m.show.cameraAt(m.view.Selected).Name }
	for _, step := range []struct{ key, want string }{{"tab", "c"}, {"tab", "a"}, {"up", "c"}, {"right", "a"}, {"down", "c"}} {
		m.key(step.key)
		if selected() != step.want {
			t.Fatalf("after %s: %s", step.key, selected())
		}
	}
	// A camera that appears in between does not take the selection.
	l.messages <- message{topic: "toklip/n/camera/b/status", payload: []byte(`{"status":"online"}`), at: time.Now()}
	m.Update(tick{})
	if selected() != "c" || m.show.cameras() != 3 {
		t.Errorf("selection moved to %s", selected())
	}
	// Paused, the picture stands and messages are taken in all the same.
	m.key("p")
	l.messages <- message{topic: "toklip/n/camera/d/status", payload: []byte(`{"status":"online"}`), at: time.Now()}
	m.Update(tick{})
	if m.show.cameras() != 3 || m.taken != 4 || m.state.cameras != 4 {
		t.Errorf("paused: %d cameras drawn, %d known", m.show.cameras(), m.state.cameras)
	}
	m.key("p")
	m.Update(tick{})
	if m.show.cameras() != 4 {
		t.Error("the picture stands after the pause")
	}
	m.key("?")
	if cmd := m.key("esc"); cmd != nil || m.view.Help {
		t.Error("Esc must close the help first")
	}
	if m.key("esc") == nil || m.key("q") == nil || m.key("ctrl+c") == nil {
		t.Error("no way out")
	}
}
