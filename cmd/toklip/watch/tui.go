package watch

import (
	"context"
	"fmt"
	"os"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/muesli/termenv"
)

// drawEvery is the time between two pictures: often enough for the eye, and few enough
// not to be felt on a small machine.
const drawEvery = 100 * time.Millisecond

// mostAtOnce bounds what is taken in between two pictures, so that keys are answered
// under any flood; the rest waits in the queue, which drops what is too much.
const mostAtOnce = 2 * queueMessages

// model is the terminal view. Its methods run in one goroutine, that of bubbletea.
type model struct {
	o       Options
	theme   theme
	link    *link
	state   *state
	show    snapshot // what is drawn
	view    viewOptions
	taken   int
	stopped error // why it ended by itself
}

type tick time.Time

// ended asks the view to end: for the given reason, nil for none.
type ended struct{ why error }

// runView shows the view until the user quits or something ends it.
func runView(ctx context.Context, o Options, link *link, timeUp <-chan time.Time) (shown int, err error) {
	profile := termenv.NewOutput(o.Out).EnvColorProfile()
	m := newModel(o, newTheme(profile), link)
	options := []tea.ProgramOption{
		tea.WithOutput(o.Out), tea.WithAltScreen(), tea.WithoutSignalHandler(),
		tea.WithFPS(30),
	}
	if f, ok := o.In.(*os.File); ok && !isTerminal(f) {
		options = append(options, tea.WithInput(nil)) // no keys: Count, Duration or a signal ends it
	} else {
		options = append(options, tea.WithInput(o.In))
	}
	p := tea.NewProgram(m, options...)
	// The program is asked to quit when ctx ends, not given ctx: killed by its context, it
	// would not wait for the goroutine that reads the keys.
	done, waited := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(waited)
		select {
		case err := <-link.failed:
			p.Send(ended{err})
		case <-timeUp:
			p.Send(ended{errTimeUp})
		case <-ctx.Done():
			p.Send(ended{nil})
		case <-done:
		}
	}()
	_, err = p.Run()
	close(done)
	<-waited
	if err != nil {
		return m.taken, fmt.Errorf("terminal view: %w", err)
	}
	return m.taken, m.stopped
}

func newModel(o Options, t theme, link *link) *model {
	m := &model{o: o, theme: t, link: link, state: newState(o.Prefix)}
	m.view = viewOptions{Width: 80, Height: 24, Grid: true}
	if o.Width > 0 {
		m.view.Width = o.Width
	}
	m.draw(time.Now())
	return m
}

func next() tea.Cmd { return tea.Tick(drawEvery, func(t time.Time) tea.Msg { return tick(t) }) }

// Init starts the clock.
func (m *model) Init() tea.Cmd { return next() }

// Update takes keys, sizes and the clock.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tick:
		m.gather()
		if !m.view.Paused {
			m.draw(time.Now())
		}
		if m.o.Count > 0 && m.taken >= m.o.Count {
			return m, tea.Quit
		}
		return m, next()
	case ended:
		m.gather()
		m.stopped = msg.why
		return m, tea.Quit
	case tea.WindowSizeMsg:
		m.view.Width, m.view.Height = msg.Width, msg.Height
		if m.o.Width > 0 {
			m.view.Width = min(m.o.Width, msg.Width)
		}
	case tea.KeyMsg:
		if msg.Type != tea.KeyRunes {
			return m, m.key(msg.String())
		}
		for _, r := range msg.Runes { // keys typed fast come together
			if cmd := m.key(string(r)); cmd != nil {
				return m, cmd
			}
		}
	}
	return m, nil
}

// View is the picture.
func (m *model) View() string { return m.theme.render(&m.show, m.view) }

func (m *model) key(key string) tea.Cmd {
	switch key {
	case "q", "ctrl+c":
		return tea.Quit
	case "esc":
		if !m.view.Help {
			return tea.Quit
		}
		m.view.Help = false
	case "p", " ":
		m.view.Paused = !m.view.Paused
	case "g":
		m.view.Grid = !m.view.Grid
	case "?", "h":
		m.view.Help = !m.view.Help
	case "tab", "down", "right", "j", "l":
		m.sel(1)
	case "shift+tab", "up", "left", "k":
		m.sel(-1)
	}
	return nil
}

// sel moves the selection, round the ends.
func (m *model) sel(by int) {
	if n := m.show.cameras(); n > 0 {
		m.view.Selected = (m.view.Selected + by + n) % n
	}
}

func (s *snapshot) cameras() int {
	n := 0
	for i := range s.Nodes {
		n += len(s.Nodes[i].Cameras)
	}
	return n
}

// gather takes in what has come.
func (m *model) gather() {
	for range mostAtOnce {
		if m.o.Count > 0 && m.taken >= m.o.Count {
			return
		}
		select {
		case in := <-m.link.messages:
			m.link.taken(in)
			m.state.feed(decode(m.o.Prefix, in))
			m.taken++
		default:
			return
		}
	}
}

func (m *model) draw(now time.Time) {
	selected := m.show.cameraAt(m.view.Selected)
	m.show = m.state.snapshot(now)
	m.show.Link, m.show.Dropped = m.link.state(), m.link.dropped.Load()
	// A camera that appears or goes must not move the selection to another one.
	if selected != nil {
		if i, ok := m.show.indexOf(selected.Node, selected.Name); ok {
			m.view.Selected = i
		}
	}
	m.view.Selected = max(0, min(m.view.Selected, m.show.cameras()-1))
}

func (s *snapshot) cameraAt(index int) *cameraView {
	for i := range s.Nodes {
		if n := len(s.Nodes[i].Cameras); index >= n {
			index -= n
			continue
		}
		if index < 0 {
			return nil
		}
		return &s.Nodes[i].Cameras[index]
	}
	return nil
}

func (s *snapshot) indexOf(node, camera string) (int, bool) {
	index := 0
	for i := range s.Nodes {
		for j := range s.Nodes[i].Cameras {
			if c := &s.Nodes[i].Cameras[j]; c.Node == node && c.Name == camera {
				return index, true
			}
			index++
		}
	}
	return 0, false
}
