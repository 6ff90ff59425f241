package onnxruntime

import (
	"fmt"

	ort "github.com/yalue/onnxruntime_go"
)

// Options say how graphs are run. The zero value is good.
type Options struct {
	Threads int // of each session; 0: PhysicalCores()
	// MaxBatch is the most frames in one batch; 0: 1, which is best. Frames of a batch
	// run one after the other (see session), so that more gain nothing here and the last
	// one is older when its turn comes than if it had been taken then.
	MaxBatch int
	// Overlap lets the tokenizer of the next batch run beside the encoder of this one.
	// Both use all threads, so that this pays only where one alone leaves cores idle.
	Overlap bool
	// Spin lets idle threads burn CPU for a while to start the next operator sooner. On a
	// machine that has other work it costs far more than it gains.
	Spin bool
}

func (o Options) withDefaults() (Options, error) {
	if o.Threads < 0 || o.MaxBatch < 0 {
		return o, fmt.Errorf("threads %d and max batch %d must not be negative", o.Threads, o.MaxBatch)
	}
	if o.Threads == 0 {
		o.Threads = PhysicalCores()
	}
	if o.MaxBatch == 0 {
		o.MaxBatch = 1
	}
	return o, nil
}

// sessionOptions are the library's, to be destroyed once the session is made.
func (o Options) sessionOptions() (_ *ort.SessionOptions, err error) {
	s, err := ort.NewSessionOptions()
	if err != nil {
		return nil, fmt.Errorf("make session options: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("set session options: %w", err)
			s.Destroy()
		}
	}()
	if err = s.SetIntraOpNumThreads(o.Threads); err != nil {
		return nil, err
	}
	if err = s.SetInterOpNumThreads(1); err != nil {
		return nil, err
	}
	// Planned memory patterns reserve each run's memory as one block beside the arena's
	// own: 60 to 180 MB more at 256 px for no gain in time.
	if err = s.SetMemPattern(false); err != nil {
		return nil, err
	}
	if err = s.SetExecutionMode(ort.ExecutionModeSequential); err != nil {
		return nil, err
	}
	if err = s.SetGraphOptimizationLevel(ort.GraphOptimizationLevelEnableAll); err != nil {
		return nil, err
	}
	spin := "0"
	if o.Spin {
		spin = "1"
	}
	for _, entry := range [...][2]string{
		{"session.intra_op.allow_spinning", spin},
		{"session.inter_op.allow_spinning", "0"},
		{"session.use_env_allocators", "1"}, // the arena that Open made
	} {
		if err = s.AddSessionConfigEntry(entry[0], entry[1]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// spareMemory is for a graph that runs a few times and goes: weights stay where they are mapped, and what runs took is given back
// at once.
func spareMemory(s *ort.SessionOptions) error {
	if err := s.SetCpuMemArena(false); err != nil {
		return fmt.Errorf("set session options: %w", err)
	}
	return leaveWeights(s)
}

// leaveWeights leaves weights where they are mapped instead of packing them into a copy, and gives the session an arena of its
// own, which goes with it. Without an arena glibc keeps, of a run that allocates and frees tens of megabytes hundreds of times, up
// to ten times what is needed at once.
func leaveWeights(s *ort.SessionOptions) error {
	for _, entry := range [...][2]string{{"session.disable_prepacking", "1"}, {"session.use_env_allocators", "0"}} {
		if err := s.AddSessionConfigEntry(entry[0], entry[1]); err != nil {
			return fmt.Errorf("set session options: %w", err)
		}
	}
	return nil
}
