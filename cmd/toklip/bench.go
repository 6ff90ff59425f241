package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/engine/onnxruntime"
)

// benchReport is what `toklip bench` measures. Durations are in milliseconds.
type benchReport struct {
	Model     string `json:"model"`
	Backend   string `json:"backend"`
	Precision string `json:"precision"`
	Threads   int    `json:"threads"`
	ImageSize int    `json:"image_size"`
	Frame     [2]int `json:"frame"` // width, height before resizing
	Frames    int    `json:"frames"`
	Cameras   int    `json:"cameras"`

	Stages   []benchStage `json:"stages"`
	FPS      float64      `json:"fps"`           // results a second, all cameras together
	Overhead float64      `json:"overhead"`      // median of (whole frame - networks) / networks, networks timed inside the same frame
	OverBare float64      `json:"over_bare"`     // median of whole frame / bare run of the networks just before it, minus 1; one camera only
	RSS      int64        `json:"rss_bytes"`     // of the process at the end
	Peak     int64        `json:"peak_bytes"`    // of the process
	Weights  int64        `json:"weights_bytes"` // of the model's files in use
}

// benchStage is the spread of one stage.
type benchStage struct {
	Name string  `json:"name"`
	What string  `json:"what"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	Max  float64 `json:"max_ms"`
}

func newBenchCommand() *cobra.Command {
	var flags backendFlags
	options := benchOptions{frames: 50, cameras: 1, width: 1920, height: 1080}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bench --model DIR",
		Short: "Time every stage of a frame on this machine",
		Long: `Takes synthetic 1080p frames, no two alike, through the pipeline of the daemon and an embedded broker to a subscriber, and a bare run of the
networks before each of them. Prints the time of every stage, what the daemon adds to the networks, frames a second, and memory.
Figures of a busy machine mean little; ratios mean more than milliseconds.`,
		Example: `  toklip bench --model models/toklip-s-256
  toklip bench --model models/toklip-s-256 --precision int8 --frames 20 --json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := options.check(); err != nil {
				return usageError{err}
			}
			opened, library, err := flags.open()
			if err != nil {
				return err
			}
			if flags.threads == 0 {
				flags.threads = onnxruntime.PhysicalCores()
			}
			bar := newProgress(cmd.ErrOrStderr(), false)
			defer bar.abandon()
			report, err := benchmark(cmd.Context(), opened, library, flags.threads, options, bar)
			if err != nil {
				return err
			}
			bar.finish()
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			}
			report.print(cmd.OutOrStdout())
			return nil
		},
	}
	flags.add(cmd, true)
	cmd.Flags().IntVar(&options.frames, "frames", options.frames, "`number` of frames of each camera to time, after two that warm up")
	cmd.Flags().IntVar(&options.cameras, "cameras", options.cameras, "`number` of cameras whose frames come at the same time")
	cmd.Flags().IntVar(&options.width, "width", options.width, "width of a frame, `pixels`")
	cmd.Flags().IntVar(&options.height, "height", options.height, "height of a frame, `pixels`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (r *benchReport) print(out io.Writer) {
	fmt.Fprintf(out, "%s, %s on %s, %d threads, %d px; %d frames of %dx%d from %s\n\n", r.Model, r.Precision, r.Backend, r.Threads, r.ImageSize,
		r.Frames, r.Frame[0], r.Frame[1], plural(r.Cameras, "camera"))
	fmt.Fprintf(out, "%-12s %10s %10s %10s  ms\n", "", "p50", "p99", "max")
	for _, s := range r.Stages {
		fmt.Fprintf(out, "%-12s %10.2f %10.2f %10.2f  %s\n", s.Name, s.P50, s.P99, s.Max, s.What)
	}
	fmt.Fprintf(out, "\n%.2f frames a second; the daemon adds %.2f %% to its networks", r.FPS, 100*r.Overhead)
	if r.Cameras == 1 {
		fmt.Fprintf(out, ", a frame takes %.2f %% more than the bare run before it", 100*r.OverBare)
	}
	fmt.Fprintf(out, "\nmemory %s (peak %s), weights %s: %s beside them\n", byteSize(r.RSS), byteSize(r.Peak), byteSize(r.Weights), byteSize(r.RSS-r.Weights))
}

// stage makes a row of samples; it sorts them.
func stage(name, what string, samples []time.Duration) benchStage {
	slices.Sort(samples)
	at := func(q float64) float64 {
		if len(samples) == 0 {
			return 0
		}
		return samples[min(len(samples)-1, int(q*float64(len(samples))))].Seconds() * 1000
	}
	return benchStage{Name: name, What: what, P50: at(0.5), P99: at(0.99), Max: at(1)}
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// memory fills in what the process takes now.
func (r *benchReport) memory() {
	r.RSS = int64(residentMemory(os.Getpid()))
	r.Peak = max(peakMemory(), r.RSS) // two of the kernel's counters, updated at different times
}
