// Command toklip-capture is the camera worker of toklip: the one program that
// links OpenCV. The daemon starts one for each camera.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/capture/source"
	"gocv.io/x/gocv"
)

// version is set by the linker.
var version = "devel"

// Exit codes.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitOrphaned = 3 // the daemon is gone
	exitTimeout  = 4 // a driver or library did not return in time
)

const usage = `toklip-capture reads one camera for toklip, which starts it; there is nothing to
run by hand but:

  toklip-capture --probe URI    open a source, read one picture, print what it is
                                as one JSON line, end
  toklip-capture --version

URIs: v4l2:///dev/video0  csi://0  rtsp://host/path  file:///clip.mp4
      images:///folder  gst:PIPELINE ! appsink  test://pattern

Flags:
`

func main() {
	// The work is done elsewhere, so that a call stuck in a driver cannot keep the
	// process from ending.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	result := make(chan int, 2)
	go func() {
		result <- run(ctx, os.Args[1:], os.Stdout, os.Stderr, func() { result <- exitOrphaned })
	}()
	asked := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case code := <-result:
			stop()
			os.Exit(code)
		case <-asked:
			stop() // A second signal ends at once.
			asked, late = nil, time.After(2*time.Second)
		case <-late:
			os.Exit(exitTimeout)
		}
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer, orphaned func()) int {
	flags := flag.NewFlagSet("toklip-capture", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	flags.String("node", "", "name of the node that started it (for ps)")
	flags.String("camera", "", "name of the camera it reads (for ps)")
	probe := flags.String("probe", "", "`URI` of a source to open once")
	timeout := flags.Duration("timeout", 20*time.Second, "with --probe: how long it may take")
	showVersion := flags.Bool("version", false, "print the versions of this program, GoCV and OpenCV")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "toklip-capture: surplus argument %q (see --help)\n", flags.Arg(0))
		return exitUsage
	}
	switch {
	case *showVersion:
		fmt.Fprintf(stdout, "toklip-capture %s, GoCV %s, OpenCV %s\n", version, gocv.Version(), gocv.OpenCVVersion())
		return exitOK
	case *probe != "":
		return runProbe(ctx, *probe, *timeout, stdout, stderr)
	}
	// OpenCV's memory is not the Go heap's; keep the latter small.
	debug.SetGCPercent(50)
	err := capture.Work(ctx, capture.WorkerOptions{Version: version, Open: source.Open, Orphaned: orphaned})
	if err != nil {
		fmt.Fprintln(stderr, "toklip-capture:", err)
		return exitFailed
	}
	return exitOK
}

// probed is what --probe prints.
type probed struct {
	Source  string  `json:"source"`
	OK      bool    `json:"ok"`
	Error   string  `json:"error,omitempty"`
	Width   int     `json:"width,omitempty"`
	Height  int     `json:"height,omitempty"`
	FPS     float64 `json:"fps,omitempty"`
	Format  string  `json:"format,omitempty"`
	Clock   string  `json:"clock,omitempty"`
	Backend string  `json:"backend,omitempty"`
	OpenMS  float64 `json:"open_ms,omitempty"`
	FirstMS float64 `json:"first_picture_ms,omitempty"`
}

// runProbe prints one JSON line, whatever happens.
func runProbe(ctx context.Context, uri string, timeout time.Duration, stdout, stderr io.Writer) int {
	result := make(chan probed, 1)
	go func() { result <- probeSource(ctx, uri) }()
	var p probed
	code := exitOK
	select {
	case p = <-result:
	case <-time.After(timeout):
		p = probed{Error: fmt.Sprintf("no picture within %v", timeout)}
		if s, err := capture.ParseSource(uri); err == nil {
			p.Source = s.String()
		}
		code = exitTimeout
	}
	if !p.OK && code == exitOK {
		code = exitFailed
	}
	enc := json.NewEncoder(stdout)
	enc.SetEscapeHTML(false) // URIs are full of &.
	if err := enc.Encode(p); err != nil {
		fmt.Fprintln(stderr, "toklip-capture:", err)
		return exitFailed
	}
	return code
}

func probeSource(ctx context.Context, uri string) (p probed) {
	s, err := capture.ParseSource(uri)
	if err != nil {
		p.Error = err.Error()
		return p
	}
	p.Source = s.String()
	began := time.Now()
	ms := func() float64 { return float64(time.Since(began).Microseconds()) / 1000 }
	g, err := source.Open(ctx, s)
	if err != nil {
		p.Error = s.Redact(err.Error())
		return p
	}
	defer g.Close()
	info := g.Info()
	p.FPS, p.Clock, p.Backend, p.OpenMS = info.FPS, info.Clock.String(), info.Backend, ms()
	for {
		shot, err := g.Grab(ctx, nil)
		if errors.Is(err, capture.ErrBroken) {
			fmt.Fprintln(os.Stderr, "toklip-capture:", err)
			continue
		}
		if err != nil {
			p.Error = s.Redact(err.Error())
			return p
		}
		p.OK = true
		p.Width, p.Height, p.Format, p.FirstMS = shot.Width, shot.Height, shot.Format.String(), ms()
		p.Clock = shot.Clock.String()
		return p
	}
}
