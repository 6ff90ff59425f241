package labelling

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/engine/labels"
)

// StateFile is where a node keeps the sets that commands made, if the configuration names no file: in systemd's folder for
// the unit, or in the user's.
func StateFile(configured, node string) (string, error) {
	switch configured {
	case "":
	case config.NoStateFile:
		return "", nil
	default:
		return configured, nil
	}
	dir := os.Getenv("STATE_DIRECTORY")
	if dir == "" {
		home := os.Getenv("XDG_STATE_HOME")
		if !filepath.IsAbs(home) { // as its specification wants it
			user, err := os.UserHomeDir()
			if err != nil {
				return "", fmt.Errorf("find a folder for the labels' state: %w; set labels.state_file", err)
			}
			home = filepath.Join(user, ".local", "state")
		}
		dir = filepath.Join(home, "toklip")
	}
	return filepath.Join(dir, node, "labels.json"), nil
}

// stateVersion is that of the state file.
const stateVersion = 1

// state is the state file: the sets that commands made, by camera, with nothing left to defaults, so that a changed
// configuration does not change them.
type state struct {
	Version int                     `json:"version"`
	Cameras map[string][]labelValue `json:"cameras"`
}

// labelValue is a label as state and replies have it.
type labelValue struct {
	Label      string          `json:"label"`
	Prompts    []string        `json:"prompts"`
	Templates  []string        `json:"templates"`
	Threshold  float64         `json:"threshold"`
	Hysteresis float64         `json:"hysteresis"`
	Hold       config.Duration `json:"hold"`
}

func valuesOf(set *labels.Set) []labelValue {
	values := []labelValue{}
	for _, l := range set.Labels {
		prompts := l.Prompts
		if len(prompts) == 0 { // the name is one
			prompts = []string{l.Name}
		}
		values = append(values, labelValue{l.Name, prompts, l.Templates, l.Threshold, l.Hysteresis, config.Duration(l.Hold)})
	}
	return values
}

func setOf(values []labelValue) labels.Set {
	var set labels.Set
	for _, v := range values {
		set.Labels = append(set.Labels, labels.Label{
			Name: v.Label, Prompts: v.Prompts, Templates: v.Templates,
			Threshold: v.Threshold, Hysteresis: v.Hysteresis, Hold: v.Hold.Std(),
		})
	}
	return set
}

// parseState reads a state file. Every set in it is valid.
func parseState(text []byte) (map[string]labels.Set, error) {
	var s state
	if err := decode(text, &s); err != nil {
		return nil, err
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("version %d: this program reads %d", s.Version, stateVersion)
	}
	sets := map[string]labels.Set{}
	for camera, values := range s.Cameras {
		set := setOf(values)
		if err := set.Validate(); err != nil {
			return nil, fmt.Errorf("camera %.64q: %w", camera, err)
		}
		sets[camera] = set
	}
	return sets, nil
}

// restore has cameras want the sets that commands made before the last end. A file that cannot be used is as if it were not
// there: cameras have labels of the configuration then.
func (l *Labelling) restore() {
	if l.opt.StateFile == "" {
		return
	}
	leftovers, _ := filepath.Glob(temporary(l.opt.StateFile)) // of writing that a crash cut off
	for _, file := range leftovers {
		_ = os.Remove(file) // it is only in the way
	}
	text, err := os.ReadFile(l.opt.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var sets map[string]labels.Set
	if err == nil {
		sets, err = parseState(text)
	}
	if err != nil {
		l.log.Warn("labels set by command before are forgotten: their file cannot be used", "file", l.opt.StateFile, "error", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for camera, set := range sets {
		if configured := l.configured[camera]; configured != nil {
			l.wanted[camera] = &assignment{set: set, source: FromCommand, regions: configured.regions}
		}
	}
}

// save brings the state file up to date with what is wanted. What fails is told by Condition until it succeeds.
func (l *Labelling) save() error {
	l.mu.Lock()
	if !l.unsaved || l.opt.StateFile == "" {
		l.unsaved = false
		l.mu.Unlock()
		return nil
	}
	s := state{Version: stateVersion, Cameras: map[string][]labelValue{}}
	for camera, is := range l.wanted {
		if is.source == FromCommand {
			s.Cameras[camera] = valuesOf(&is.set)
		}
	}
	l.unsaved = false // but for what comes while it is written
	l.mu.Unlock()
	err := writeState(l.opt.StateFile, s)
	l.mu.Lock()
	before := l.unkept
	l.unsaved, l.unkept = l.unsaved || err != nil, ""
	if err != nil {
		l.unkept = err.Error()
	}
	news := before != l.unkept
	l.mu.Unlock()
	if news {
		if err != nil {
			l.log.Error("labels set by command will not outlast a restart", "error", err)
		}
		l.changed()
	}
	return err
}

// writeState replaces the file at once, or not at all.
func writeState(path string, s state) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep labels: %w; labels.state_file may name another file", err)
		}
	}()
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Split(temporary(path)))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // nothing more can be done
		}
	}()
	_, err = file.Write(append(text, '\n'))
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// temporary is the pattern of files that the state file is written as before it takes its place.
func temporary(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"-*")
}

// syncFolder makes a file's new name outlast a loss of power.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
