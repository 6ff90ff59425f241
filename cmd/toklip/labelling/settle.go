package labelling

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/toklip/toklip/engine/labels"
)

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

// settle brings what is wanted into force and the state file up to date, unless something else is wanted meanwhile. It reports
// whether another attempt makes sense.
func (l *Labelling) settle(ctx context.Context) (again bool) {
	ctx, end, err := l.turn(ctx, true)
	if err != nil {
		return false
	}
	defer end()
	pending := l.pending()
	sets, _, err := l.prepare(ctx, pending)
	if err == nil && ctx.Err() == nil {
		enforce(pending, sets)
	} else if len(pending) > 1 {
		err = l.settleOneByOne(ctx, pending)
	}
	if ctx.Err() != nil {
		return false // whoever interrupted it wakes us
	}
	l.mu.Lock()
	before := l.fault
	l.fault = ""
	if err != nil {
		l.fault = err.Error()
	}
	news := len(pending) > 0 || before != l.fault
	l.mu.Unlock()
	saveErr := l.save()
	for c, is := range pending {
		switch used, hash := c.inForce(); {
		case used != is:
			l.log.Error("labels are not in use", "camera", c.name, "labels", len(is.set.Labels), "source", is.source, "error", err)
		case hash != "":
			l.log.Info("labels in use", "camera", c.name, "labels", len(is.set.Labels), "label_set", hash, "source", is.source)
		}
	}
	if news {
		l.changed()
	}
	return saveErr != nil || err != nil && l.opt.Texts != nil // a model that cannot embed texts never will
}

// settleOneByOne is for when one of several cameras has texts that cannot be embedded: the others, whose texts are known or are
// none, do not go without. The error is the first.
func (l *Labelling) settleOneByOne(ctx context.Context, pending map[*Camera]*assignment) error {
	var first error
	tried := map[string]bool{} // sets that failed, by hash
	for c, is := range pending {
		one := map[*Camera]*assignment{c: is}
		if hash := is.set.Hash(); !tried[hash] && ctx.Err() == nil {
			sets, _, err := l.prepare(ctx, one)
			if err == nil {
				enforce(one, sets)
				continue
			}
			tried[hash] = true
			if first == nil {
				first = err
			}
		}
	}
	return first
}

// Why a turn to change sets is interrupted. With many new texts the tower is busy for minutes, and may be so in vain.
var (
	errCommand  = errors.New("a command sets other labels")
	errReloaded = errors.New("the configuration was read again while their texts were embedded; send the command again if it is still wanted")
)

// turn waits for the turn to change sets. Its context ends with it, or earlier when it is interrupted: by a reload, and if it
// settles by a command.
func (l *Labelling) turn(ctx context.Context, settles bool) (_ context.Context, end func(), err error) {
	select {
	case <-l.changing:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	l.settling, l.interrupt = settles, cancel
	if settles && l.commands > 0 {
		cancel(errCommand) // it came first
	}
	l.mu.Unlock()
	return ctx, func() {
		l.mu.Lock()
		l.settling, l.embedding, l.interrupt = false, 0, nil
		l.mu.Unlock()
		cancel(nil)
		l.changing <- struct{}{}
	}, nil
}

// command notes that a command waits for its turn or has it; what settles gives way. It goes on when the command has ended.
func (l *Labelling) command() (ended func()) {
	l.mu.Lock()
	l.commands++
	if l.settling {
		l.interrupt(errCommand)
	}
	l.mu.Unlock()
	return func() {
		l.mu.Lock()
		l.commands--
		l.mu.Unlock()
		poke(l.wake)
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

// compiled are sets ready to score, by hash.
type compiled map[string]*labels.Compiled

// prepare has the texts of the assignments embedded and makes their sets ready. It says how many texts the tower had to run for.
func (l *Labelling) prepare(ctx context.Context, assignments map[*Camera]*assignment) (sets compiled, embedded int, err error) {
	var texts []string
	for _, is := range assignments {
		texts = append(texts, is.set.Texts()...)
	}
	vectors, embedded, err := l.embed(ctx, texts)
	if err != nil {
		return nil, embedded, err
	}
	sets = compiled{}
	for _, is := range assignments {
		hash := is.set.Hash()
		if sets[hash] != nil {
			continue // cameras often share a set
		}
		if sets[hash], err = labels.Compile(&is.set, vectors, l.opt.Scale, l.opt.Bias); err != nil {
			return nil, embedded, err
		}
	}
	return sets, embedded, nil
}

// enforce puts assignments into force that were prepared, by whoever has the turn.
func enforce(assignments map[*Camera]*assignment, sets compiled) {
	for c, is := range assignments {
		c.use(is, sets[is.set.Hash()])
	}
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
