package labelling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/labels"
)

// pendingRegions is the frame whose regions are to be scored next: the newest, by the camera's rate. Guarded by the camera's
// mutex.
type pendingRegions struct {
	waiting snapshot
	scorer  *scorer // that waiting is for
	last    time.Time
	dropped uint64 // frames that gave way to a newer one

	fault   string  // why regions are not scored; empty while they are
	faultOf *scorer // that has the fault: of one no longer in force it is no news
}

// forget drops the frame that waits.
func (p *pendingRegions) forget() {
	p.waiting.drop()
	p.scorer = nil
}

// offerRegions has the regions of a frame scored if it is their time. Called with c.mu held.
func (c *Camera) offerRegions(r *engine.Result, h *toklipv1.Header, now time.Time) {
	p, s := &c.regions, c.scorer
	if len(s.regions) == 0 || now.Sub(p.last) < c.policy.regions {
		return
	}
	p.last = now
	if p.waiting.result != nil {
		p.dropped++
	}
	p.waiting.keep(r, h)
	p.scorer = s
	c.wake()
}

// Regions is how many regions the camera has, and how many frames whose regions were to be scored gave way to a newer one.
func (c *Camera) Regions() (regions int, dropped uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scorer != nil {
		regions = len(c.scorer.regions)
	}
	return regions, c.regions.dropped
}

// regionWork is what the regions worker keeps of one camera.
type regionWork struct {
	camera *Camera
	frame  snapshot
	scorer *scorer

	masked *scorer // that masks and seen are of
	at     geometry
	masks  []float32
	seen   []int // indices of the regions that the network sees
	unseen error // about the others

	scores []labels.Score // of each region seen, one after the other
	order  []int
}

// geometry is what the cells of a region depend on.
type geometry struct {
	grid   labels.Grid
	frame  labels.Size
	window labels.Window
}

func geometryOf(m *engine.Model, h *toklipv1.Header) geometry {
	w := h.GetWindow()
	return geometry{
		grid:   labels.Grid{Rows: m.Rows, Cols: m.Cols},
		frame:  labels.Size{Width: int(h.Width), Height: int(h.Height)},
		window: labels.Window{X: w.GetX(), Y: w.GetY(), Width: w.GetWidth(), Height: w.GetHeight()},
	}
}

// take takes over the frame that waits, if one does.
func (w *regionWork) take() bool {
	c := w.camera
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.regions
	if p.waiting.result == nil {
		return false
	}
	w.frame.keep(p.waiting.result, &p.waiting.header)
	w.scorer = p.scorer
	p.forget()
	return true
}

// mask finds the cells of the regions, again only when regions or geometry have changed.
func (w *regionWork) mask() {
	s, at := w.scorer, geometryOf(w.frame.result.Model, &w.frame.header)
	if w.masked == s && w.at == at {
		return
	}
	w.masked, w.at = s, at
	w.masks, w.seen, w.unseen = w.masks[:0], w.seen[:0], nil
	for i, region := range s.areas {
		from := len(w.masks)
		w.masks = append(w.masks, make([]float32, at.grid.Cells())...)
		if _, err := region.Mask(w.masks[from:], at.grid, at.frame, at.window); err != nil {
			w.masks, w.unseen = w.masks[:from], errors.Join(w.unseen, err)
			continue
		}
		w.seen = append(w.seen, i)
	}
}

// publish scores the regions by their embeddings [len(seen)*E] and publishes them, unless another set took over meanwhile.
func (w *regionWork) publish(embeddings []float32) error {
	c, s, r := w.camera, w.scorer, w.frame.result
	n, dim := s.set.Len(), s.set.Dim()
	if len(embeddings) != len(w.seen)*dim {
		return fmt.Errorf("score regions: %d numbers for %d regions of %d", len(embeddings), len(w.seen), dim)
	}
	w.scores = slices.Grow(w.scores[:0], len(w.seen)*n)[:len(w.seen)*n]
	scores := func(k int) []labels.Score { return w.scores[k*n : (k+1)*n : (k+1)*n] }
	for k := range w.seen {
		s.set.Score(scores(k), embeddings[k*dim:(k+1)*dim])
	}
	f := s.messages.get()
	c.mu.Lock()
	if c.scorer != s || c.closed {
		c.mu.Unlock()
		f.Release()
		return nil
	}
	for k, i := range w.seen {
		region, tracker := s.areas[i].Name, s.regions[i]
		if r.CaptureMono > c.offAt {
			c.tell(s, region, tracker.Update(scores(k), moment(r)))
		}
		w.order = labels.Order(w.order, scores(k))
		fill(f.Labels[k*n:], region, s.set, tracker, scores(k), w.order)
	}
	c.mu.Unlock()
	return c.out.PublishRegions(&w.frame.header, f.Labels[:len(w.seen)*n], f)
}

// scoreRegions scores regions until ctx ends: camera by camera, of each the newest frame.
func (l *Labelling) scoreRegions(ctx context.Context) {
	work := make([]*regionWork, len(l.cameras))
	for i, c := range l.cameras {
		work[i] = &regionWork{camera: c}
		defer work[i].frame.drop()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.regionsWake:
		}
		for _, w := range work {
			if ctx.Err() == nil && w.take() {
				l.regionsDone(w, l.scoreRegionsOf(w))
			}
		}
	}
}

// scoreRegionsOf scores the frame that was taken. The error is also about regions that the network does not see.
func (l *Labelling) scoreRegionsOf(w *regionWork) error {
	w.mask()
	if len(w.seen) == 0 {
		return w.unseen
	}
	err := l.pool.run(w.frame.result.Features, w.masks, len(w.seen), w.publish)
	return errors.Join(err, w.unseen)
}

// regionsDone gives the frame back and notes how it went. News go to the log and to the state.
func (l *Labelling) regionsDone(w *regionWork, err error) {
	w.frame.drop()
	c := w.camera
	fault := ""
	if err != nil {
		fault = err.Error()
	}
	c.mu.Lock()
	news := c.scorer == w.scorer && c.regionsFault() != fault
	if news {
		c.regions.fault, c.regions.faultOf = fault, w.scorer
	}
	c.mu.Unlock()
	if !news {
		return
	}
	if err != nil {
		l.log.Warn("regions are not scored", "camera", c.name, "error", err)
	}
	l.changed()
}

// regionsFault is why the regions in force are not scored; empty while they are. Called with c.mu held.
func (c *Camera) regionsFault() string {
	if c.regions.faultOf != c.scorer {
		return ""
	}
	return c.regions.fault
}

// regionInfo is what the birth document says of regions.
func regionInfo(regions []labels.Region) []api.RegionInfo {
	infos := []api.RegionInfo{}
	for _, r := range regions {
		info := api.RegionInfo{Name: r.Name}
		for _, p := range r.Polygon {
			info.Polygon = append(info.Polygon, [2]float64{p.X, p.Y})
		}
		infos = append(infos, info)
	}
	return infos
}
