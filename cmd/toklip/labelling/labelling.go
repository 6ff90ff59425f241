package labelling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/texttower"
	"github.com/toklip/toklip/engine/labels"
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
	changing    chan struct{} // holds one while nobody changes sets
	tower       chan struct{} // holds one while nobody embeds

	embedded atomic.Int64 // texts that the tower ran for

	shortestPause time.Duration // between attempts; tests have less patience

	mu         sync.Mutex
	defaults   config.Labels
	configured map[string]*assignment // by camera: what the configuration says
	wanted     map[string]*assignment // by camera: what is to be in force
	settling   bool                   // what is wanted is being brought into force
	embedding  int                    // texts the tower is embedding meanwhile; 0: none
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

// Computing counts texts that the tower is about to embed.
func (l *Labelling) Computing(texts int) {
	l.embedded.Add(int64(texts))
	l.mu.Lock()
	news := l.settling
	if news {
		l.embedding = texts
	}
	l.mu.Unlock()
	if news {
		l.changed()
	}
}

// Reload takes over labels and regions of a configuration that was read again; the sets that commands made are forgotten.
// Cameras that it does not name go on as they are. Run brings the sets into force.
func (l *Labelling) Reload(cfg config.Labels, cameras []config.Camera) {
	l.configure(cfg, cameras)
	l.mu.Lock()
	for name, is := range l.configured {
		l.wanted[name] = is
	}
	l.unsaved = true
	l.mu.Unlock()
	poke(l.wake)
}

// configure notes what the configuration says, and has everybody want that who wants nothing yet.
func (l *Labelling) configure(cfg config.Labels, cameras []config.Camera) {
	p := policy{every: cfg.Publish == "every", minChange: cfg.MinChange}
	if cfg.Regions.MaxFPS > 0 {
		p.regions = time.Duration(float64(time.Second) / cfg.Regions.MaxFPS)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
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

// Pauses between attempts to bring sets into force or to write the state file.
const (
	shortestPause = 2 * time.Second
	longestPause  = 5 * time.Minute
)

// Run brings sets into force and scores regions until ctx ends.
func (l *Labelling) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { l.scoreRegions(ctx); return nil })
	group.Go(func() error { l.settleAlways(ctx); return nil })
	return group.Wait()
}

// settleAlways brings what is wanted into force, now and whenever that changes, and tries again what failed.
func (l *Labelling) settleAlways(ctx context.Context) {
	pause := l.shortestPause
	for {
		again := l.settle(ctx)
		if ctx.Err() != nil {
			return
		}
		var retry <-chan time.Time
		if again {
			retry = time.After(pause)
			pause = min(2*pause, longestPause)
		}
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
			pause = l.shortestPause
		case <-retry:
		}
	}
}

// settle brings what is wanted into force and the state file up to date. It reports whether another attempt makes sense.
func (l *Labelling) settle(ctx context.Context) (again bool) {
	unlock, err := l.lock(ctx)
	if err != nil {
		return false
	}
	defer unlock()
	pending := l.pending()
	l.mu.Lock()
	l.settling = true
	l.mu.Unlock()
	_, err = l.enforce(ctx, pending)
	if err != nil && ctx.Err() != nil {
		return false
	}
	l.mu.Lock()
	l.settling, l.embedding = false, 0
	before := l.fault
	l.fault = ""
	if err != nil {
		l.fault = err.Error()
	}
	news := len(pending) > 0 || before != l.fault
	l.mu.Unlock()
	saveErr := l.save()
	if err != nil {
		l.log.Error("labels are not in use", "cameras", names(pending), "error", err)
	}
	for c, is := range pending {
		if err == nil {
			l.log.Info("labels in use", "camera", c.name, "labels", len(is.set.Labels), "label_set", is.set.Hash(), "source", is.source)
		}
	}
	if news {
		l.changed()
	}
	return saveErr != nil || err != nil && !permanent(err)
}

// permanent reports whether trying again is of no use.
func permanent(err error) bool {
	return errors.Is(err, texttower.ErrNoTower) || errors.Is(err, texttower.ErrNoTokenizer)
}

// lock waits for the turn to change sets.
func (l *Labelling) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case <-l.changing:
		return func() { l.changing <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pending are the cameras for which something else is in force than wanted.
func (l *Labelling) pending() map[*Camera]*assignment {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := map[*Camera]*assignment{}
	for _, c := range l.cameras {
		if is, _ := c.inForce(); is != l.wanted[c.name] {
			found[c] = l.wanted[c.name]
		}
	}
	return found
}

// names of cameras, in order.
func names(of map[*Camera]*assignment) []string {
	var all []string
	for c := range of {
		all = append(all, c.name)
	}
	slices.Sort(all)
	return all
}

// enforce has the texts of the assignments embedded and puts all of them into force, or none. It says how many texts the tower
// had to run for. The turn to change sets must have been taken.
func (l *Labelling) enforce(ctx context.Context, assignments map[*Camera]*assignment) (embedded int, err error) {
	var texts []string
	for _, is := range assignments {
		texts = append(texts, is.set.Texts()...)
	}
	vectors, embedded, err := l.embed(ctx, texts)
	if err != nil {
		return embedded, err
	}
	compiled := map[string]*labels.Compiled{} // cameras often share a set
	for _, is := range assignments {
		hash := is.set.Hash()
		if compiled[hash] != nil {
			continue
		}
		if compiled[hash], err = labels.Compile(&is.set, vectors, l.opt.Scale, l.opt.Bias); err != nil {
			return embedded, err
		}
	}
	for c, is := range assignments {
		c.use(is, compiled[is.set.Hash()])
	}
	return embedded, nil
}

// embed has the tower embed texts, by text, and says how many of them were not known before.
func (l *Labelling) embed(ctx context.Context, texts []string) (vectors map[string][]float32, embedded int, err error) {
	if len(texts) == 0 {
		return nil, 0, nil
	}
	if l.opt.Texts == nil {
		return nil, 0, l.opt.NoTexts
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	select {
	case <-l.tower: // so that what it counts belongs to these texts
		defer func() { l.tower <- struct{}{} }()
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	before := l.embedded.Load()
	list, err := l.opt.Texts.Embed(ctx, texts)
	embedded = int(l.embedded.Load() - before)
	if err != nil {
		return nil, embedded, err
	}
	vectors = make(map[string][]float32, len(texts))
	for i, text := range texts {
		vectors[text] = list[i]
	}
	return vectors, embedded, nil
}

// Condition says what is not as it should be; empty if all is well.
func (l *Labelling) Condition() string {
	pending := names(l.pending())
	l.mu.Lock()
	var troubles []string
	switch {
	case len(pending) == 0:
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
		if c.regions.fault != "" {
			troubles = append(troubles, fmt.Sprintf("regions of camera %s: %s", c.name, c.regions.fault))
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
