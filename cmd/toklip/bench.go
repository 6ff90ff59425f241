package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
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
	Labels    int    `json:"labels"`               // that every frame is scored against
	Device    string `json:"device,omitempty"`     // GPU, with tensorrt
	InFlight  int    `json:"in_flight,omitempty"`  // batches under way, with tensorrt
	CUDAGraph *bool  `json:"cuda_graph,omitempty"` // whether the last batch ran as one, with tensorrt
	Kernels   *bool  `json:"kernels,omitempty"`    // whether the GPU did pre-processing and search, with tensorrt
	Agreement string `json:"agreement,omitempty"`  // of the engines with the fp32 reference

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
Figures of a busy machine mean little; ratios mean more than milliseconds.

With --backend tensorrt the times of the GPU come from its own events, and the bare run is one call into TensorRT's pipeline, pre-processing included.
--no-cuda-graph, --no-kernels and --in-flight show what each of these is worth.`,
		Example: `  toklip bench --model models/toklip-s-256
  toklip bench --model models/toklip-s-256 --precision int8 --frames 20 --json
  toklip bench --model models/toklip-s-256 --labels 20
  toklip bench --model models/toklip-s-256 --backend tensorrt
  toklip bench --model models/toklip-s-256 --backend tensorrt --no-cuda-graph`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := options.check(); err != nil {
				return usageError{err}
			}
			opened, err := flags.open()
			if err != nil {
				return err
			}
			subject, err := flags.openSubject(cmd.Context(), opened, options, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, subject.close()) }()
			bar := newProgress(cmd.ErrOrStderr(), false)
			defer bar.abandon()
			report, err := benchmark(cmd.Context(), opened, subject, options, bar)
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
	cmd.Flags().BoolVar(&options.noGraph, "no-cuda-graph", false, "with tensorrt: enqueue every batch anew")
	cmd.Flags().BoolVar(&options.noKernels, "no-kernels", false, "with tensorrt: pre-processing and search on the CPU")
	cmd.Flags().IntVar(&options.inFlight, "in-flight", 0, "with tensorrt: `number` of batches under way, 1 or 2; 0: as the daemon has it")
	cmd.Flags().IntVar(&options.frames, "frames", options.frames, "`number` of frames of each camera to time, after two that warm up")
	cmd.Flags().IntVar(&options.cameras, "cameras", options.cameras, "`number` of cameras whose frames come at the same time")
	cmd.Flags().IntVar(&options.labels, "labels", 0, "score every frame against this `number` of labels and publish them; what they say is made up, since it makes no difference")
	cmd.Flags().IntVar(&options.width, "width", options.width, "width of a frame, `pixels`")
	cmd.Flags().IntVar(&options.height, "height", options.height, "height of a frame, `pixels`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (r *benchReport) print(out io.Writer) {
	on := plural(r.Threads, "thread")
	if r.Device != "" {
		on = fmt.Sprintf("%s, %d in flight, CUDA graph: %s, kernels on the %s", r.Device, r.InFlight, choose(*r.CUDAGraph, "yes", "no"), choose(*r.Kernels, "GPU", "CPU"))
	}
	labels := ""
	if r.Labels > 0 {
		labels = ", " + plural(r.Labels, "label")
	}
	fmt.Fprintf(out, "%s, %s on %s, %s, %d px; %d frames of %dx%d from %s%s\n", r.Model, r.Precision, r.Backend, on, r.ImageSize,
		r.Frames, r.Frame[0], r.Frame[1], plural(r.Cameras, "camera"), labels)
	if r.Agreement != "" {
		fmt.Fprintf(out, "agreement with fp32: %s\n", r.Agreement)
	}
	fmt.Fprintln(out)
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

func choose(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
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
