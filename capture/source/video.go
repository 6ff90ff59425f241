package source

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/toklip/toklip/capture"
	"gocv.io/x/gocv"
)

// OpenCV's number for a property that GoCV does not name.
const propStreamOpenTimeUsec gocv.VideoCaptureProperties = 55

var errNoFrame = errors.New("no frame")

// video is an open VideoCapture that reads into reused memory: into the shared
// slot itself where OpenCV lets it, else into a Mat of its own.
//
// OpenCV's backends end a read with copyTo, which keeps a destination that has
// the right size and type. So a Mat header over the slot's memory saves one copy
// of the picture. Headers are kept, one a slot: nothing is allocated per frame.
type video struct {
	vc    *gocv.VideoCapture
	own   gocv.Mat
	last  capture.Geometry
	slots map[uintptr]*gocv.Mat
}

func openVideo(name string, api gocv.VideoCaptureAPI) (*video, error) {
	vc, err := gocv.VideoCaptureFileWithAPI(name, api)
	if err != nil || !vc.IsOpened() {
		if vc != nil {
			_ = vc.Close()
		}
		return nil, errors.New("OpenCV cannot open it")
	}
	return newVideo(vc), nil
}

func newVideo(vc *gocv.VideoCapture) *video {
	return &video{vc: vc, own: gocv.NewMat(), slots: map[uintptr]*gocv.Mat{}}
}

// read waits for the next picture. The stamp is left to the caller; errNoFrame
// says that the backend gave none.
func (v *video) read(dst []byte) (capture.Shot, error) {
	into := &v.own
	if len(dst) > 0 && len(dst) == v.last.Bytes() {
		var err error
		if into, err = v.slot(dst); err != nil {
			return capture.Shot{}, err
		}
	}
	if !v.vc.Read(into) || into.Empty() {
		return capture.Shot{}, errNoFrame
	}
	g, err := geometryOf(into)
	if err != nil {
		return capture.Shot{}, err
	}
	pixels, err := into.DataPtrUint8()
	if err != nil {
		return capture.Shot{}, fmt.Errorf("picture: %w", err)
	}
	shot := capture.Shot{Geometry: g, Pixels: pixels}
	switch {
	case into == &v.own:
	case &pixels[0] == &dst[0] && g == v.last:
		shot.Pixels = nil
	default:
		// The picture has another form: OpenCV took new memory for it, and the header
		// no longer stands for the slot. Keep the picture, forget the header.
		v.own, *into = *into, v.own
		delete(v.slots, address(dst))
		_ = into.Close()
	}
	if g != v.last {
		v.last = g
		v.forgetSlots()
	}
	return shot, nil
}

// slot returns the Mat header over a slot's memory.
func (v *video) slot(dst []byte) (*gocv.Mat, error) {
	if m, ok := v.slots[address(dst)]; ok {
		return m, nil
	}
	if len(v.slots) >= 64 {
		v.forgetSlots() // Memory of segments gone by.
	}
	m, err := gocv.NewMatFromBytes(v.last.Height, v.last.Width, matType(v.last.Format), dst)
	if err != nil {
		return nil, fmt.Errorf("mat over a shared slot: %w", err)
	}
	v.slots[address(dst)] = &m
	return &m, nil
}

func (v *video) forgetSlots() {
	for k, m := range v.slots {
		_ = m.Close() // Frees the header; the memory is not OpenCV's.
		delete(v.slots, k)
	}
}

func (v *video) close() error {
	v.forgetSlots()
	return errors.Join(v.own.Close(), v.vc.Close())
}

// fps is what the backend says, 0 if it says nothing sensible.
func (v *video) fps() float64 {
	// FFmpeg's guess for streams without a rate is their time base, 90000 or more.
	if f := v.vc.Get(gocv.VideoCaptureFPS); f > 0 && f <= 1000 {
		return f
	}
	return 0
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }

func matType(f capture.PixelFormat) gocv.MatType {
	switch f {
	case capture.Gray8:
		return gocv.MatTypeCV8UC1
	case capture.BGRx8:
		return gocv.MatTypeCV8UC4
	}
	return gocv.MatTypeCV8UC3
}

func geometryOf(m *gocv.Mat) (capture.Geometry, error) {
	var f capture.PixelFormat
	switch m.Type() {
	case gocv.MatTypeCV8UC1:
		f = capture.Gray8
	case gocv.MatTypeCV8UC3:
		f = capture.BGR8
	case gocv.MatTypeCV8UC4:
		f = capture.BGRx8
	default:
		return capture.Geometry{}, fmt.Errorf("picture of OpenCV type %d: only 8-bit pictures of 1, 3 or 4 channels are supported; convert with `videoconvert ! video/x-raw,format=BGR`", m.Type())
	}
	return capture.Packed(m.Cols(), m.Rows(), f), nil
}
