package source_test

import (
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/gortsplib/v4"
	"github.com/bluenviron/gortsplib/v4/pkg/base"
	"github.com/bluenviron/gortsplib/v4/pkg/description"
	"github.com/bluenviron/gortsplib/v4/pkg/format"
	"github.com/pion/rtp"
)

// rtspServer is a real RTSP server on the loopback: one client publishes, others read.
type rtspServer struct {
	t       *testing.T
	server  *gortsplib.Server
	address string

	mu        sync.Mutex
	stream    *gortsplib.ServerStream
	publisher *gortsplib.ServerSession
	muted     bool
	readers   int
}

// newRTSPServer listens on address; "127.0.0.1:0" picks a port.
func newRTSPServer(t *testing.T, address string) *rtspServer {
	t.Helper()
	s := &rtspServer{t: t}
	s.server = &gortsplib.Server{Handler: s, RTSPAddress: address, Listen: func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err == nil {
			s.address = l.Addr().String()
		}
		return l, err
	}}
	if err := s.server.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *rtspServer) close() {
	s.server.Close()
	_ = s.server.Wait() // "terminated"
}

// mute swallows packets while connections stay, as a camera that hangs does.
func (s *rtspServer) mute(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muted = on
}

func (s *rtspServer) OnSessionClose(ctx *gortsplib.ServerHandlerOnSessionCloseCtx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil && ctx.Session == s.publisher {
		s.stream.Close()
		s.stream, s.publisher = nil, nil
	}
}

func (s *rtspServer) OnDescribe(*gortsplib.ServerHandlerOnDescribeCtx) (*base.Response, *gortsplib.ServerStream, error) {
	return s.toReaders()
}

func (s *rtspServer) toReaders() (*base.Response, *gortsplib.ServerStream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream == nil {
		return &base.Response{StatusCode: base.StatusNotFound}, nil, nil
	}
	return &base.Response{StatusCode: base.StatusOK}, s.stream, nil
}

func (s *rtspServer) OnAnnounce(ctx *gortsplib.ServerHandlerOnAnnounceCtx) (*base.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil {
		s.stream.Close()
	}
	s.stream = &gortsplib.ServerStream{Server: s.server, Desc: ctx.Description}
	s.publisher = ctx.Session
	return &base.Response{StatusCode: base.StatusOK}, s.stream.Initialize()
}

func (s *rtspServer) OnSetup(ctx *gortsplib.ServerHandlerOnSetupCtx) (*base.Response, *gortsplib.ServerStream, error) {
	if ctx.Session.State() == gortsplib.ServerSessionStatePreRecord {
		return &base.Response{StatusCode: base.StatusOK}, nil, nil
	}
	return s.toReaders()
}

func (s *rtspServer) OnPlay(*gortsplib.ServerHandlerOnPlayCtx) (*base.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers++
	return &base.Response{StatusCode: base.StatusOK}, nil
}

func (s *rtspServer) OnRecord(ctx *gortsplib.ServerHandlerOnRecordCtx) (*base.Response, error) {
	ctx.Session.OnPacketRTPAny(func(m *description.Media, _ format.Format, packet *rtp.Packet) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.stream != nil && !s.muted {
			_ = s.stream.WritePacketRTP(m, packet) // A reader that left is no fault.
		}
	})
	return &base.Response{StatusCode: base.StatusOK}, nil
}

// publish feeds a clip to the server with ffmpeg until stop is called.
func (s *rtspServer) publish(clip string) (stop func()) {
	s.t.Helper()
	cmd := exec.Command("ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", clip,
		"-c", "copy", "-f", "rtsp", "-rtsp_transport", "tcp", "rtsp://"+s.address+"/cam")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("start ffmpeg: %v", err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	s.t.Cleanup(stop)
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if r, _, _ := s.toReaders(); r.StatusCode == base.StatusOK {
			return stop
		}
		if time.Now().After(deadline) {
			s.t.Fatal("ffmpeg does not publish")
		}
	}
}
