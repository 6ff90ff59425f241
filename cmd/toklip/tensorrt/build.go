package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/toklip/toklip/trt"
	"github.com/toklip/toklip/trt/enginecache"
)

// Progress says how far building is.
type Progress struct {
	Step    string        `json:"step"`       // what is done: "building the encoder in fp16 (2 of 2)"
	Phase   string        `json:"phase"`      // of it, in TensorRT's words; may be empty
	Done    float64       `json:"done"`       // of all steps, 0 to 1, never falling
	Elapsed time.Duration `json:"elapsed_ns"` // since the beginning
	Left    time.Duration `json:"left_ns"`    // estimated; 0: unknown
}

// Built is an engine that is in the cache now.
type Built struct {
	Role      string  `json:"role"`
	Precision string  `json:"precision"`
	ID        string  `json:"id"`      // of the cache
	Size      int64   `json:"size"`    // of the plan, bytes
	Seconds   float64 `json:"seconds"` // that it took; 0: it was there
}

// Build builds the networks into the cache, one after the other; those that are there are left as they are unless
// again is set. It waits for others that build the same. progress, which may be nil, is called from the caller's
// goroutine.
func (m *Machine) Build(ctx context.Context, networks []Network, again bool, progress func(Progress)) ([]Built, error) {
	cache, err := m.opts.Cache()
	if err != nil {
		return nil, err
	}
	tell := newTeller(len(networks), progress)
	var built []Built
	for i, n := range networks {
		meta, err := m.buildOne(ctx, cache, n, again, func(step string, p trt.Progress) { tell.at(i, step, n, p) })
		if err != nil {
			return built, fmt.Errorf("build %s: %w", n, err)
		}
		built = append(built, Built{Role: n.Role, Precision: n.Precision, ID: n.Key.ID(), Size: meta.PlanSize, Seconds: meta.BuildSeconds})
	}
	return built, nil
}

func (m *Machine) buildOne(ctx context.Context, cache *enginecache.Cache, n Network, again bool, progress func(string, trt.Progress)) (_ enginecache.Metadata, err error) {
	lock, err := cache.Lock(ctx, n.Key, func(h enginecache.Holder) {
		progress(fmt.Sprintf("waiting for process %d, which builds", h.PID), trt.Progress{})
		m.log.Info("another process builds the same engine", "network", n.String(), "pid", h.PID, "since", h.Since)
		again = false // what it makes is new
	})
	if err != nil {
		return enginecache.Metadata{}, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if !again {
		plan, err := cache.Load(n.Key)
		if err == nil {
			meta := plan.Meta
			meta.BuildSeconds = 0
			return meta, plan.Close()
		}
		m.log.Info("building an engine", "network", n.String(), "key", n.Key.ID(), "because", err)
	}
	o := n.options()
	o.Plan, o.TimingCache = lock.PlanPath(), cache.TimingCache(n.Key)
	begun := time.Now()
	if err := m.lib.Build(ctx, o, func(p trt.Progress) { progress("building", p) }); err != nil {
		return enginecache.Metadata{}, err
	}
	took := time.Since(begun)
	meta, err := lock.Commit(enginecache.Build{Duration: took, TensorRT: m.info.Version.String()})
	if err != nil {
		return meta, err
	}
	m.log.Info("engine built", "network", n.String(), "key", n.Key.ID(), "bytes", meta.PlanSize, "duration", took.Round(time.Millisecond))
	return meta, nil
}

// Export builds the networks to files ROLE.PRECISION.plan in a folder instead, each with its metadata beside it. It is
// what other machines have as Options.Plans.
func (m *Machine) Export(ctx context.Context, networks []Network, dir string, progress func(Progress)) (files []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("export engines: %w", err)
	}
	tell := newTeller(len(networks), progress)
	for i, n := range networks {
		o := n.options()
		o.Plan = n.file(dir)
		begun := time.Now()
		if err := m.lib.Build(ctx, o, func(p trt.Progress) { tell.at(i, "building", n, p) }); err != nil {
			return files, fmt.Errorf("build %s: %w", n, err)
		}
		if _, err := enginecache.Describe(o.Plan, n.Key, enginecache.Build{Duration: time.Since(begun), TensorRT: m.info.Version.String()}); err != nil {
			return files, err
		}
		files = append(files, o.Plan)
	}
	return files, nil
}

// teller makes one progress of those of several builds.
type teller struct {
	tell  func(Progress)
	count int
	begun time.Time
	done  float64
}

func newTeller(count int, tell func(Progress)) *teller {
	if tell == nil {
		tell = func(Progress) {}
	}
	return &teller{tell: tell, count: count, begun: time.Now()}
}

// leastDone is how much has to be done before the rest can be estimated.
const leastDone = 0.02

// at tells how far network i of the list is.
func (t *teller) at(i int, doing string, n Network, p trt.Progress) {
	t.done = max(t.done, (float64(i)+min(1, max(0, p.Fraction)))/float64(t.count))
	out := Progress{
		Step:  fmt.Sprintf("%s the %s (%d of %d)", doing, n, i+1, t.count),
		Phase: p.Phase, Done: t.done, Elapsed: time.Since(t.begun),
	}
	if p.Fraction >= 0 && t.done > leastDone {
		out.Left = time.Duration(float64(out.Elapsed) * (1 - t.done) / t.done)
	}
	t.tell(out)
}
