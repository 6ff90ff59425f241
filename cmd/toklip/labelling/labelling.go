package labelling

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/texttower"
)

// Options of a Labelling.
type Options struct {
	BootID  string
	Labels  config.Labels
	Cameras []config.Camera

	// Scale and Bias of the model: a logit is Scale*cosine + Bias.
	Scale, Bias float64
	// Texts embeds what is not known yet; before its tower runs, it has to call Computing of the Labelling. NoTexts says why
	// there is none: only empty sets can be used then.
	Texts   texttower.Embedder
	NoTexts error
	// OpenPool opens the attention pool when regions or a heat map first want it.
	OpenPool func() (Pool, error)

	StateFile string // of sets that commands made; empty: they are not kept
	Publish   Publisher
	// Changed is called, from any goroutine, when Describe or Condition may say something else than before. nil: nobody.
	Changed func()
	Logger  *slog.Logger // nil: none
}

// Labelling has every camera scored against the set it is to have. Its methods may be called from any goroutine.
type Labelling struct {
	opt     Options
	log     *slog.Logger
	cameras []*Camera
	pool    lazyPool

	wake        chan struct{} // wanted has changed; holds one
	regionsWake chan struct{} // a frame's regions are to be scored; holds one
	changing    chan struct{} // holds one while nobody has the turn to change sets
	tower       chan struct{} // holds one while nobody embeds

	embedded atomic.Int64 // texts that the tower ran for

	shortestPause time.Duration // between attempts; tests have less patience

	mu         sync.Mutex
	defaults   config.Labels
	configured map[string]*assignment // by camera: what the configuration says
	wanted     map[string]*assignment // by camera: what is to be in force
	reloads    int                    // of the configuration, so far
	commands   int                    // that wait for their turn to change sets, or have it
	interrupt  func(cause error)      // ends the turn; nil while nobody has it
	settling   bool                   // the turn is to bring what is wanted into force
	embedding  int                    // texts the tower is embedding for it; 0: none
	fault      string                 // why what is wanted is not in force
	unsaved    bool                   // wanted sets differ from the state file
	unkept     string                 // why they could not be written
}

// New prepares for the cameras of the configuration, with the sets that commands made before. Run brings them into force.
func New(opt Options) *Labelling {
	l := &Labelling{
		opt: opt, log: opt.Logger,
		wake: make(chan struct{}, 1), regionsWake: make(chan struct{}, 1), changing: make(chan struct{}, 1), tower: make(chan struct{}, 1),
		configured: map[string]*assignment{}, wanted: map[string]*assignment{}, shortestPause: shortestPause,
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if opt.Texts == nil {
		l.opt.Scale = 1 // of sets without labels, which score nothing
	}
	l.pool.open = opt.OpenPool
	l.changing <- struct{}{}
	l.tower <- struct{}{}
	for _, camera := range opt.Cameras {
		l.cameras = append(l.cameras, &Camera{
			name: camera.Name, bootID: opt.BootID, out: opt.Publish, log: l.log, wake: func() { poke(l.regionsWake) },
		})
	}
	l.configure(opt.Labels, opt.Cameras)
	l.restore()
	return l
}

// poke fills a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Camera is the part that the camera's frames pass.
func (l *Labelling) Camera(name string) *Camera {
	for _, c := range l.cameras {
		if c.name == name {
			return c
		}
	}
	return nil
}

// Reload takes over labels and regions of a configuration that was read again; the sets that commands made are forgotten.
// Cameras that it does not name go on as they are. Run brings the sets into force.
func (l *Labelling) Reload(cfg config.Labels, cameras []config.Camera) {
	l.mu.Lock()
	l.configure(cfg, cameras)
	for name, is := range l.configured {
		l.wanted[name] = is
	}
	l.reloads++
	l.unsaved = true
	if l.interrupt != nil {
		l.interrupt(errReloaded)
	}
	l.mu.Unlock()
	poke(l.wake)
}

// configure notes what the configuration says, and has everybody want that who wants nothing yet. Called with l.mu held, or
// before anybody else knows l.
func (l *Labelling) configure(cfg config.Labels, cameras []config.Camera) {
	p := policy{every: cfg.Publish == "every", minChange: cfg.MinChange}
	if cfg.Regions.MaxFPS > 0 {
		p.regions = time.Duration(float64(time.Second) / cfg.Regions.MaxFPS)
	}
	l.defaults = cfg
	for _, camera := range cameras {
		c := l.Camera(camera.Name)
		if c == nil {
			continue // it needs a restart
		}
		c.setPolicy(p)
		is := &assignment{set: cfg.LabelSet(camera), source: FromConfig}
		for _, r := range camera.Regions {
			is.regions = append(is.regions, r.Area())
		}
		l.configured[camera.Name] = is
		if l.wanted[camera.Name] == nil {
			l.wanted[camera.Name] = is
		}
	}
}

// Condition says what is not as it should be; empty if all is well.
func (l *Labelling) Condition() string {
	pending := len(l.pending())
	l.mu.Lock()
	var troubles []string
	switch {
	case pending == 0:
	case l.fault != "":
		troubles = append(troubles, "labels: "+l.fault)
	case l.embedding > 0:
		troubles = append(troubles, fmt.Sprintf("labels: the text tower is embedding %d texts, cameras are served without the new labels meanwhile", l.embedding))
	}
	if l.unkept != "" {
		troubles = append(troubles, "labels will not outlast a restart: "+l.unkept)
	}
	l.mu.Unlock()
	for _, c := range l.cameras {
		c.mu.Lock()
		if fault := c.regionsFault(); fault != "" {
			troubles = append(troubles, fmt.Sprintf("regions of camera %s: %s", c.name, fault))
		}
		c.mu.Unlock()
	}
	return strings.Join(troubles, "; ")
}

// Describe completes the birth document: sets and regions in force.
func (l *Labelling) Describe(info *api.Info) {
	shared := map[string]bool{}
	for i := range info.Cameras {
		to := &info.Cameras[i]
		c := l.Camera(to.Name)
		if c == nil {
			continue
		}
		is, hash := c.inForce()
		shared[hash] = true
		to.LabelSet, to.LabelNames, to.Regions = hash, []string{}, []api.RegionInfo{}
		if is == nil {
			continue
		}
		for _, label := range is.set.Labels {
			to.LabelNames = append(to.LabelNames, label.Name)
		}
		to.Regions = regionInfo(is.regions)
		if hash == "" {
			continue
		}
		to.Publish = append(slices.Clone(to.Publish), string(api.KindLabels), string(api.KindEvent))
		if len(is.regions) > 0 {
			to.Publish = append(to.Publish, string(api.KindRegions))
		}
	}
	if len(shared) == 1 {
		for hash := range shared {
			info.LabelSet = hash
		}
	}
}

func (l *Labelling) changed() {
	if l.opt.Changed != nil {
		l.opt.Changed()
	}
}

// Close makes everything that is present go, as the node stops, and gives back what is held. It is called once the pipeline and
// Run have ended.
func (l *Labelling) Close() error {
	for _, c := range l.cameras {
		c.close()
	}
	return l.pool.close()
}
