package capture_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/toklip/toklip/capture"
	"github.com/toklip/toklip/capture/pattern"
	"go.uber.org/goleak"
)

// roleVariable makes the test binary play another process: a worker whose
// sources are drawn in Go, one that misbehaves, or a daemon.
const roleVariable = "TOKLIP_CAPTURE_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func play(role string) error {
	kind, arg, _ := strings.Cut(role, ":")
	switch kind {
	case "daemon":
		return playDaemon(arg)
	case "work":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		return capture.Work(ctx, capture.WorkerOptions{Version: "test", Open: opener(arg), Orphaned: func() { os.Exit(3) }})
	case "stubborn": // ignores SIGTERM and the command to stop
		signal.Ignore(syscall.SIGTERM)
		return capture.Work(context.Background(), capture.WorkerOptions{Version: "test", Open: opener("stuck"), Orphaned: func() {}})
	case "sleep": // an orphan, as ps shows it
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Hour)
	}
	return capture.MisbehaveAsWorker(kind)
}

// opener opens test patterns, made worse by how.
func opener(how string) capture.Opener {
	return func(ctx context.Context, s capture.Source) (capture.Grabber, error) {
		if how == "refuse" {
			return nil, errors.New("device busy: held by PID 1 (cheese)")
		}
		if how == "slow-open" {
			time.Sleep(time.Hour)
		}
		g, err := pattern.Open(ctx, s)
		return &grabber{Grabber: g, how: how, s: s}, err
	}
}

type grabber struct {
	capture.Grabber
	how string
	s   capture.Source
	n   int
}

func (g *grabber) Grab(ctx context.Context, dst []byte) (capture.Shot, error) {
	g.n++
	how, number, _ := strings.Cut(g.how, "=")
	at, _ := strconv.Atoi(number)
	switch {
	case how == "stuck" && g.n > 1:
		time.Sleep(time.Hour) // as a driver does, deaf to ctx
	case how == "no-picture":
		time.Sleep(time.Hour)
	case how == "panic" && g.n == at:
		panic("exception in the driver")
	case how == "eof" && g.n > at, how == "empty":
		return capture.Shot{}, io.EOF
	case how == "broken" && g.n%at == 0:
		return capture.Shot{}, fmt.Errorf("picture %d: %w", g.n, capture.ErrBroken)
	case how == "pause" && g.n == at:
		time.Sleep(1200 * time.Millisecond)
	case how == "resize" && g.n%at == 0:
		g.s.Width += 64
		old := g.Grabber
		fresh, err := pattern.Open(ctx, g.s)
		if err != nil {
			return capture.Shot{}, err
		}
		g.Grabber = fresh
		_ = old.Close()
		return fresh.Grab(ctx, nil)
	}
	return g.Grabber.Grab(ctx, dst)
}

// playDaemon runs a camera and prints its worker's id, until it is killed.
func playDaemon(workerRole string) error {
	src, err := capture.ParseSource("test://pattern?name=counter&width=64&height=8&fps=50")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cam, err := capture.New(capture.Options{Name: "cam", Source: src, WorkerPath: self, WorkerEnv: []string{roleVariable + "=" + workerRole}})
	if err != nil {
		return err
	}
	go func() { _ = cam.Run(context.Background()) }()
	f, err := cam.Next(context.Background())
	if err != nil {
		return err
	}
	f.Release()
	fmt.Println(cam.Status().PID)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	time.Sleep(time.Hour)
	return nil
}
