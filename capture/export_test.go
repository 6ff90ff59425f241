package capture

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MisbehaveAsWorker speaks the worker's side of the protocol wrongly, for tests
// of the camera. It runs in a process of its own.
func MisbehaveAsWorker(how string) error {
	ch, err := newChannel(os.NewFile(controlFD, "control"))
	if err != nil {
		return err
	}
	hello := event{Event: eventHello, Protocol: protocolVersion, PID: os.Getpid()}
	switch how {
	case "mute":
		time.Sleep(time.Hour)
	case "protocol":
		hello.Protocol = 99
	case "version":
		hello.Version = "v0.0.1"
	case "garbage":
		_, err := ch.conn.Write([]byte("\x00\xff not json"))
		time.Sleep(time.Hour)
		return err
	case "exit":
		fmt.Fprintln(os.Stderr, "the camera driver exploded")
		os.Exit(7)
	}
	if err := ch.send(hello, -1); err != nil {
		return err
	}
	if _, _, err := ch.receive(); err != nil {
		return err
	}
	if how == "helper" { // dies and leaves a child that holds every descriptor
		pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "300"},
			&syscall.ProcAttr{Files: []uintptr{0, 1, 2, controlFD, notifyFD}})
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "helper", pid)
		os.Exit(3)
	}
	if how == "noise" {
		for i := range 10000 {
			fmt.Fprintln(os.Stderr, "line", i, "rtsp://u:hunter2@cam/x")
		}
		os.Exit(4)
	}
	if err := ch.send(event{Event: eventOpened, FPS: 30, Clock: "read", Backend: "test"}, -1); err != nil {
		return err
	}
	l := layout{Geometry: Packed(64, 64, BGR8), slots: 4, generation: 1}
	fd, mem, err := newMemfd(l.total())
	if err != nil {
		return err
	}
	w := newSegmentWriter(mem, l, 0, Drops{})
	w.begin()
	w.publish(1, Now(), ClockRead, Drops{})
	switch how {
	case "no-fd":
		fd = -1
	case "unsealed":
		if fd, err = unix.MemfdCreate("x", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING); err != nil {
			return err
		}
		if _, err := unix.Write(fd, mem); err != nil {
			return err
		}
	case "bad-header":
		mem[0] = '?'
	}
	b, err := json.Marshal(event{Event: eventSegment, Generation: 1})
	if err != nil {
		return err
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	if _, _, err := ch.conn.WriteMsgUnix(b, rights, nil); err != nil {
		return err
	}
	time.Sleep(time.Hour)
	return nil
}
