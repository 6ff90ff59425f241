package api

import (
	"errors"
	"fmt"

	"github.com/toklip/toklip/api/toklipv1"
)

// CopyHeader makes dst equal to src without sharing memory with it. Messages below dst
// are used again, so that copying headers of a stream allocates nothing. Unlike
// proto.Merge it drops fields this version does not know.
func CopyHeader(dst, src *toklipv1.Header) {
	dst.Schema, dst.Node, dst.Camera, dst.BootId, dst.Sequence = src.Schema, src.Node, src.Camera, src.BootId, src.Sequence
	dst.CaptureWallNs, dst.Clock, dst.CaptureMonoNs = src.CaptureWallNs, src.Clock, src.CaptureMonoNs
	dst.CaptureErrorNs, dst.PublishNs = src.CaptureErrorNs, src.PublishNs
	dst.Width, dst.Height, dst.Resize = src.Width, src.Height, src.Resize
	dst.Model, dst.Codebook, dst.LabelSet, dst.EmbeddingSpace = src.Model, src.Codebook, src.LabelSet, src.EmbeddingSpace
	dst.Backend, dst.Precision = src.Backend, src.Precision
	dst.Keyframe, dst.Reused, dst.StaleAfterMs, dst.FrameId = src.Keyframe, src.Reused, src.StaleAfterMs, src.FrameId

	if s := src.Stages; s == nil {
		dst.Stages = nil
	} else {
		if dst.Stages == nil {
			dst.Stages = new(toklipv1.Stages)
		}
		d := dst.Stages
		d.AgeNs, d.WaitNs, d.PreprocessNs, d.TokenizeNs = s.AgeNs, s.WaitNs, s.PreprocessNs, s.TokenizeNs
		d.QueueNs, d.EncodeNs, d.LabelNs, d.TotalNs = s.QueueNs, s.EncodeNs, s.LabelNs, s.TotalNs
	}
	if s := src.Drops; s == nil {
		dst.Drops = nil
	} else {
		if dst.Drops == nil {
			dst.Drops = new(toklipv1.Drops)
		}
		d := dst.Drops
		d.Capture, d.Queue, d.Rate, d.Invalid = s.Capture, s.Queue, s.Rate, s.Invalid
		d.Failed, d.Closed, d.Publish, d.Broker = s.Failed, s.Closed, s.Publish, s.Broker
	}
	if s := src.Window; s == nil {
		dst.Window = nil
	} else {
		if dst.Window == nil {
			dst.Window = new(toklipv1.Window)
		}
		d := dst.Window
		d.X, d.Y, d.Width, d.Height = s.X, s.Y, s.Width, s.Height
	}
}

// DropsSum is the number of all frames that d counts; d may be nil.
func DropsSum(d *toklipv1.Drops) uint64 {
	return d.GetCapture() + d.GetQueue() + d.GetRate() + d.GetInvalid() +
		d.GetFailed() + d.GetClosed() + d.GetPublish() + d.GetBroker()
}

// CheckHeader reports what makes a header unusable for a reader of this package: none
// at all, or a schema newer than Schema.
func CheckHeader(h *toklipv1.Header) error {
	switch {
	case h == nil:
		return errors.New("message has no header: it is of another kind or from another program")
	case h.Schema == 0:
		return errors.New("header states no schema: the message is of another kind or from another program")
	case h.Schema > Schema:
		return fmt.Errorf("header has schema %d, this program reads up to %d: update it", h.Schema, Schema)
	}
	return nil
}

// Cell is the area that the cell (row, col) of a grid covers on the captured frame, in
// pixels of the frame: from (x0, y0) to (x1, y1), cut to the frame. It reports false for
// a cell that holds padding only, that is outside the grid, or when the header has no
// window.
func Cell(h *toklipv1.Header, rows, cols, row, col int) (x0, y0, x1, y1 float64, ok bool) {
	w := h.GetWindow()
	if w == nil || row < 0 || col < 0 || row >= rows || col >= cols {
		return 0, 0, 0, 0, false
	}
	cw, ch := w.Width/float64(cols), w.Height/float64(rows)
	x0, y0 = max(w.X+float64(col)*cw, 0), max(w.Y+float64(row)*ch, 0)
	x1, y1 = min(w.X+float64(col+1)*cw, float64(h.Width)), min(w.Y+float64(row+1)*ch, float64(h.Height))
	if x0 >= x1 || y0 >= y1 {
		return 0, 0, 0, 0, false
	}
	return x0, y0, x1, y1, true
}
