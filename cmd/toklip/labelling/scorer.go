package labelling

import (
	"slices"

	"github.com/toklip/toklip/api/toklipv1"
	"github.com/toklip/toklip/engine"
	"github.com/toklip/toklip/engine/labels"
)

// Source says where a camera's set comes from.
type Source string

// Sources of sets.
const (
	FromConfig  Source = "config"
	FromCommand Source = "command"
)

// assignment is what a camera is to be scored for. It never changes.
type assignment struct {
	set     labels.Set
	source  Source
	regions []labels.Region
}

// scorer is a set and regions in force. The first block never changes, the rest is guarded by its camera's mutex.
type scorer struct {
	set   *labels.Compiled
	areas []labels.Region

	is        *assignment
	tracker   *labels.Tracker
	scores    []labels.Score
	order     []int
	published []labels.Score    // of the last frame whose labels were due
	regions   []*labels.Tracker // one for each of areas

	frames   frames // messages of a frame, and of all its regions
	messages frames
}

func newScorer(is *assignment, set *labels.Compiled) *scorer {
	n := set.Len()
	s := &scorer{
		set: set, areas: is.regions, is: is, tracker: labels.NewTracker(set),
		scores: make([]labels.Score, 0, n), order: make([]int, 0, n), published: make([]labels.Score, 0, n),
		frames: frames{labels: n}, messages: frames{labels: n * len(is.regions)},
	}
	for range is.regions {
		s.regions = append(s.regions, labels.NewTracker(set))
	}
	return s
}

// serves reports whether the scorer does what another assignment asks for.
func (s *scorer) serves(is *assignment, set *labels.Compiled) bool {
	return s != nil && s.set.Hash() == set.Hash() && slices.EqualFunc(s.areas, is.regions, sameRegion)
}

// region is the place of a region that is the same as another's; -1: there is none.
func (s *scorer) region(other labels.Region) int {
	return slices.IndexFunc(s.areas, func(r labels.Region) bool { return sameRegion(r, other) })
}

func sameRegion(a, b labels.Region) bool {
	return a.Name == b.Name && slices.Equal(a.Polygon, b.Polygon)
}

// fits reports whether the result can be scored.
func (s *scorer) fits(r *engine.Result) bool {
	return s != nil && s.set.Len() > 0 && len(r.Embedding) == s.set.Dim()
}

// score scores a result and reports what appeared or went by it. Frames that are not tracked change nothing.
func (s *scorer) score(r *engine.Result, tracked bool) []labels.Event {
	s.scores = s.set.Score(s.scores, r.Embedding)
	if !tracked {
		return nil
	}
	return s.tracker.Update(s.scores, moment(r))
}

// message lends the labels of the frame just scored. They are due if they have to be, or moved by least since they were.
func (s *scorer) message(due bool, least float64) *Frame {
	f := s.frames.get()
	f.Due = due || labels.Changed(s.published, s.scores, float32(least))
	if f.Due {
		s.published = append(s.published[:0], s.scores...)
	}
	s.order = labels.Order(s.order, s.scores)
	fill(f.Labels, "", s.set, s.tracker, s.scores, s.order)
	return f
}

func moment(r *engine.Result) labels.Moment {
	return labels.Moment{Wall: r.CaptureWall, Mono: r.CaptureMono, Sequence: r.Sequence}
}

// fill writes the scores of a frame, or of a region of it, into its messages, in the order given.
func fill(to []*toklipv1.Label, region string, set *labels.Compiled, tracker *labels.Tracker, scores []labels.Score, order []int) {
	for i, at := range order {
		l, s := to[i], &scores[at]
		l.Label, l.Region = set.Name(at), region
		l.Cosine, l.Logit, l.Score = s.Cosine, s.Logit, s.Score
		l.SinceNs, l.Present = tracker.Present(at)
	}
}
