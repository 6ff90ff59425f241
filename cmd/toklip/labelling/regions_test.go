package labelling

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/api"
)

// The grid is 2 x 4, the frame 80 x 40: a cell is 20 x 20. The last cell shows the text, the others nothing.
const regionsConfig = twoLabels + `
[labels.regions]
max_fps = 0
[[camera]]
name = "left"
source = "test://pattern"
[[camera.region]]
name = "corner"
rect = [0.75, 0.5, 0.25, 0.5]
[[camera.region]]
name = "top"
polygon = [[0.0, 0.0], [1.0, 0.0], [1.0, 0.5], [0.0, 0.5]]
`

// Regions are scored beside the frames, each by itself, with events of their own.
func TestRegions(t *testing.T) {
	r := newRig(t, regionsConfig)
	r.run(t)
	r.settled(t)
	r.show("left", 1, "blue").labels.Release()
	p := <-r.sink.regions
	if p.header.Sequence != 1 || p.header.LabelSet != r.configured["left"].set.Hash() || len(p.labels) != 4 {
		t.Fatalf("regions %v of %v", p.labels, p.header)
	}
	for i, want := range []string{"corner blue", "corner red", "top red", "top blue"} { // the top shows nothing: equal scores, in the set's order
		if got := p.labels[i].Region + " " + p.labels[i].Label; got != want {
			t.Errorf("label %d is %s, want %s", i, got, want)
		}
	}
	if l := p.labels[0]; !near(l.Cosine, 1) || !l.Present || l.SinceNs != 1e8 {
		t.Errorf("corner: %v", l)
	}
	if l := p.labels[2]; l.Cosine != 0 || l.Present {
		t.Errorf("top: %v", l)
	}
	r.Camera("left").Off(1e8)
	events := describeAll(r.sink.told())
	slices.Sort(events)
	equal(t, "events", events, []string{"blue appeared score 1", "blue gone camera 1", "blue@corner appeared score 1", "blue@corner gone camera 1"})
	info := api.Info{Cameras: []api.CameraInfo{{Name: "left", Publish: []string{"tokens"}}}}
	r.Describe(&info)
	equal(t, "what is published", info.Cameras[0].Publish, []string{"tokens", "labels", "event", "regions"})
	if got := info.Cameras[0].Regions; len(got) != 2 || got[0].Name != "corner" || got[0].Polygon[2] != [2]float64{1, 1} {
		t.Errorf("info says %+v", got)
	}
}

// A slow pool gets the newest frame, and those that gave way are counted. Another set that takes over meanwhile ends what is
// under way.
func TestRegionsOfTheNewestFrame(t *testing.T) {
	r := newRig(t, regionsConfig)
	r.run(t)
	r.settled(t)
	r.Labelling.pool.mu.Lock() // the pool is busy
	r.show("left", 1, "blue").labels.Release()
	left := r.Camera("left")
	eventually(t, "the worker has the frame", func() bool {
		left.mu.Lock()
		defer left.mu.Unlock()
		return left.regions.waiting.result == nil
	})
	for n := range uint64(4) {
		r.show("left", n+2, "blue").labels.Release()
	}
	r.Labelling.pool.mu.Unlock()
	if a, b := <-r.sink.regions, <-r.sink.regions; a.header.Sequence != 1 || b.header.Sequence != 5 {
		t.Errorf("regions of frames %d and %d, want 1 and 5", a.header.Sequence, b.header.Sequence)
	}
	if n, dropped := r.Camera("left").Regions(); n != 2 || dropped != 3 {
		t.Errorf("%d regions, %d dropped, want 2 and 3", n, dropped)
	}
	r.Labelling.pool.mu.Lock()
	r.show("left", 6, "blue").labels.Release()
	must[SetResult](t, r.Set, `{"labels":["white"]}`)
	r.Labelling.pool.mu.Unlock()
	r.show("left", 7, "blue").labels.Release()
	if p := <-r.sink.regions; p.header.Sequence != 7 || p.labels[0].Label != "white" {
		t.Errorf("regions of frame %d: %v", p.header.Sequence, p.labels)
	}
}

// Frames come faster than regions are wanted.
func TestRateOfRegions(t *testing.T) {
	r := newRig(t, strings.Replace(regionsConfig, "max_fps = 0", "max_fps = 0.001", 1))
	r.run(t)
	r.settled(t)
	for n := range uint64(10) {
		r.show("left", n+1, "blue").labels.Release()
	}
	<-r.sink.regions
	if _, dropped := r.Camera("left").Regions(); dropped != 0 || len(r.sink.regions) != 0 {
		t.Errorf("%d more were scored, %d dropped", len(r.sink.regions), dropped)
	}
}

// A pool that fails and a region that the network does not see are told, and frames are scored all the same.
func TestRegionsThatCannotBeScored(t *testing.T) {
	r := newRig(t, regionsConfig)
	r.pool.err = errors.New("out of memory")
	r.run(t)
	r.settled(t)
	r.show("left", 1, "blue").labels.Release()
	r.until(t, "regions of camera left: out of memory")
	r.Labelling.pool.mu.Lock()
	r.pool.err = nil
	r.Labelling.pool.mu.Unlock()
	r.show("left", 2, "blue").labels.Release()
	<-r.sink.regions
	r.until(t, "")

	r = newRig(t, regionsConfig)
	r.opt.OpenPool = func() (Pool, error) { return nil, errors.New("the folder was made by an older toklip") }
	r.again()
	r.run(t)
	r.settled(t)
	for n := range uint64(3) {
		if f := r.show("left", n+1, "blue"); f.labels == nil {
			t.Error("frames are not scored")
		}
	}
	r.until(t, "regions of camera left: the folder was made by an older toklip")
	cfg := configuration(t, twoLabels) // without regions
	r.Reload(cfg.Labels, cfg.Cameras)
	r.until(t, "")
}

// A heat map says where: the neighbours of the cell that shows something see it too.
func TestHeatmap(t *testing.T) {
	r := newRig(t, twoLabels)
	r.run(t)
	r.settled(t)
	r.show("left", 7, "blue").labels.Release()
	for args, seen := range map[string][]float32{
		`{"camera":"left","label":"blue"}`:                        {0, 0, 1, 1, 0, 0, 1, 1},
		`{"camera":"left","label":"blue","radius":0}`:             {0, 0, 0, 0, 0, 0, 0, 1},
		`{"camera":"left","label":"red","radius":3}`:              {0, 0, 0, 0, 0, 0, 0, 0},
		`{"camera":"left","text":"blue blue","radius":2}`:         {0, 1, 1, 1, 0, 1, 1, 1},
		`{"camera":"left","text":"blue","radius":9999999}`:        {1, 1, 1, 1, 1, 1, 1, 1},
		`{"camera":"left","text":"white","templates":["blue{}"]}`: {0, 0, 0, 0, 0, 0, 0, 0},
	} {
		m := must[*Heatmap](t, r.Heatmap, args)
		if m.Grid != [2]int{2, 4} || m.Sequence != 7 || m.Window != (Area{0, 0, 80, 40}) || m.Frame != [2]int{80, 40} || len(m.Cosine) != 8 || len(m.Score) != 8 {
			t.Errorf("%s: %+v", args, m)
			continue
		}
		for i, want := range seen {
			if !near(m.Cosine[i], want) {
				t.Errorf("%s: cosines %v, want %v", args, m.Cosine, seen)
				break
			}
		}
	}
}
