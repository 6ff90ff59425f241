package api

import "strings"

// Info is the birth document of a node: what stays the same while it runs, but for the
// backend, which may be swapped: it is published again then. It is retained and published
// on every connect.
type Info struct {
	Schema         int          `json:"schema"`          // major version of messages and documents: Schema
	Version        string       `json:"version"`         // of toklip
	Node           string       `json:"node"`            // name of the node
	BootID         string       `json:"boot_id"`         // identifies this run of the daemon
	StartedNS      int64        `json:"started_ns"`      // ns since 1970 UTC
	Model          string       `json:"model"`           // short hash of weights and pre-processing
	ModelName      string       `json:"model_name"`      // for people
	ModelSource    string       `json:"model_source"`    // where the weights come from
	ModelLicence   string       `json:"model_licence"`   // terms of the weights
	Codebook       string       `json:"codebook"`        // short hash
	CodebookSize   int          `json:"codebook_size"`   // entries
	BitsPerToken   int          `json:"bits_per_token"`  // of packed ids
	Grid           [2]int       `json:"grid"`            // rows, columns of tokens
	ImageSize      int          `json:"image_size"`      // edge of the network's square input, pixels
	FeatureDim     int          `json:"feature_dim"`     // length of one token's features
	EmbeddingDim   int          `json:"embedding_dim"`   // length of the embedding
	EmbeddingSpace string       `json:"embedding_space"` // vectors of different spaces cannot be compared
	EmbeddingType  string       `json:"embedding_type"`  // "fp16" or "fp32"
	Normalized     bool         `json:"normalized"`      // embeddings are published with length 1
	LabelSet       string       `json:"label_set"`       // short hash of the set that all cameras share; empty without labels, and when their sets differ
	Backend        string       `json:"backend"`         // "onnxruntime", "tensorrt"
	BackendVersion string       `json:"backend_version"` // of the library beneath
	Precision      string       `json:"precision"`       // of the token encoder: "fp32", "fp16", "int8"
	Device         string       `json:"device"`          // what the backend runs on, such as "Orin, sm_87"; empty for the CPU
	Engines        []EngineInfo `json:"engines"`         // compiled networks in use; empty for a backend without, never null
	Agreement      *Agreement   `json:"agreement"`       // with the fp32 reference, measured before use; null: not measured
	Cameras        []CameraInfo `json:"cameras"`         // never null
}

// EngineInfo is what Info says of a compiled network.
type EngineInfo struct {
	Role      string `json:"role"`      // "tokenizer", "encoder"
	Precision string `json:"precision"` // of this network
	Key       string `json:"key"`       // of the cache; `toklip engine info KEY` tells more
}

// Agreement says how near a backend comes to the model in fp32.
type Agreement struct {
	Frames          int     `json:"frames"`           // pictures compared
	Tokens          float64 `json:"tokens"`           // 0 to 1: share of equal token ids
	FeatureCosine   float64 `json:"feature_cosine"`   // the worst of any token's features
	EmbeddingCosine float64 `json:"embedding_cosine"` // the worst of any frame's embedding
}

// CameraInfo is what Info says of a camera.
type CameraInfo struct {
	Name       string       `json:"name"`
	Source     string       `json:"source"`      // URI without user name and password; see RedactURI
	Enabled    bool         `json:"enabled"`     // a disabled camera has topics but no frames
	Resize     string       `json:"resize"`      // "squash", "shortest", "longest"
	MaxFPS     float64      `json:"max_fps"`     // 0: no limit
	Publish    []string     `json:"publish"`     // of "tokens", "embedding", "features", "labels", "regions", "event"
	FrameID    string       `json:"frame_id"`    // coordinate frame of the optics
	LabelSet   string       `json:"label_set"`   // short hash of the labels that frames are scored against; empty without
	LabelNames []string     `json:"label_names"` // of that set, in its order; never null
	Regions    []RegionInfo `json:"regions"`     // that are scored on their own; never null
}

// RegionInfo is what Info says of a named region of a camera's frame.
type RegionInfo struct {
	Name    string       `json:"name"`
	Polygon [][2]float64 `json:"polygon"` // corners x, y as fractions of the frame, (0, 0) being its upper left corner
}

// NodeState is what a node is doing.
type NodeState string

// The states of a node.
const (
	StateStarting       NodeState = "starting"        // not computing yet
	StateBuildingEngine NodeState = "building-engine" // compiling for this GPU, while another backend serves; Progress counts
	StateReady          NodeState = "ready"
	StateDegraded       NodeState = "degraded" // computing, but not all is well; Reason says what
	StateStopping       NodeState = "stopping"
)

// State is what a node is doing now, retained.
type State struct {
	State    NodeState `json:"state"`
	Reason   string    `json:"reason"`             // one sentence for people; empty when ready
	Progress *Progress `json:"progress,omitempty"` // while something long is under way
	SinceNS  int64     `json:"since_ns"`           // ns since 1970 UTC when this state began
}

// Progress of long work.
type Progress struct {
	Step      string  `json:"step"`       // what is being done
	Phase     string  `json:"phase"`      // of the step, in the words of what does it; may be empty
	Done      float64 `json:"done"`       // 0 to 1
	ElapsedNS int64   `json:"elapsed_ns"` // so far
	LeftNS    int64   `json:"left_ns"`    // estimated; 0: unknown
}

// CameraState is what a camera is doing.
type CameraState string

// The states of a camera.
const (
	CameraOnline     CameraState = "online"     // frames arrive
	CameraConnecting CameraState = "connecting" // being opened, or waiting for the next attempt
	CameraNoPicture  CameraState = "no-picture" // connected, but not a single frame yet
	CameraStalled    CameraState = "stalled"    // frames came once and stay away
	CameraDisabled   CameraState = "disabled"   // by configuration or command
)

// CameraStatus is what a camera is doing now, retained.
type CameraStatus struct {
	Status   CameraState    `json:"status"`
	Reason   string         `json:"reason"`   // one sentence for people
	SinceNS  int64          `json:"since_ns"` // ns since 1970 UTC when this status began
	Counters CameraCounters `json:"counters"`
}

// CameraCounters count since the daemon started.
type CameraCounters struct {
	Frames    uint64 `json:"frames"`    // captured
	Published uint64 `json:"published"` // frames whose messages were handed to the broker
	Restarts  uint64 `json:"restarts"`  // of the camera's worker
	Drops     Drops  `json:"drops"`
}

// Drops count frames that never became a message, by cause. They mean what
// toklipv1.Drops means.
type Drops struct {
	Capture uint64 `json:"capture"`
	Queue   uint64 `json:"queue"`
	Rate    uint64 `json:"rate"`
	Invalid uint64 `json:"invalid"`
	Failed  uint64 `json:"failed"`
	Closed  uint64 `json:"closed"`
	Publish uint64 `json:"publish"`
	Broker  uint64 `json:"broker"`
}

// Metrics are figures of the last interval, published every few seconds.
type Metrics struct {
	BootID     string                   `json:"boot_id"`
	TimeNS     int64                    `json:"time_ns"`     // ns since 1970 UTC
	UptimeNS   int64                    `json:"uptime_ns"`   // of the daemon
	IntervalNS int64                    `json:"interval_ns"` // that rates and percentiles speak of
	Process    ProcessMetrics           `json:"process"`
	Cameras    map[string]CameraMetrics `json:"cameras"` // by name; never null
	MQTT       MQTTMetrics              `json:"mqtt"`
}

// ProcessMetrics are figures of the daemon without its workers.
type ProcessMetrics struct {
	RSSBytes   uint64  `json:"rss_bytes"`   // resident memory
	CPU        float64 `json:"cpu"`         // CPU seconds per second; 2 means two cores busy
	Goroutines int     `json:"goroutines"`  // running
	HeapBytes  uint64  `json:"heap_bytes"`  // Go heap in use
	OpenFiles  int     `json:"open_files"`  // file descriptors
	WorkersRSS uint64  `json:"workers_rss"` // resident memory of all camera workers, bytes
}

// CameraMetrics are figures of one camera.
type CameraMetrics struct {
	FPS          float64           `json:"fps"`               // results a second
	CaptureFPS   float64           `json:"capture_fps"`       // captured frames a second
	Sequence     uint64            `json:"sequence"`          // of the last result
	ReusedShare  float64           `json:"reused_share"`      // 0 to 1: results without a run of the token encoder
	ChangedShare float64           `json:"changed_share"`     // 0 to 1: mean share of changed cells
	Stages       map[string]Spread `json:"stages"`            // time by stage, names as in toklipv1.Stages without _ns
	Drops        Drops             `json:"drops"`             // since the start
	Regions      *RegionMetrics    `json:"regions,omitempty"` // of a camera that has some
}

// RegionMetrics count since the start what became of frames whose regions were to be
// scored, beside the pipeline.
type RegionMetrics struct {
	Frames  uint64 `json:"frames"`  // scored and published
	Dropped uint64 `json:"dropped"` // left out: a newer frame came first, or there was no connection
}

// Spread of durations, nanoseconds.
type Spread struct {
	P50NS int64 `json:"p50_ns"`
	P99NS int64 `json:"p99_ns"`
	MaxNS int64 `json:"max_ns"`
}

// MQTTMetrics are figures of the connection to the broker, counted since the start.
type MQTTMetrics struct {
	Connected     bool   `json:"connected"`
	Connects      uint64 `json:"connects"`       // successful ones
	Published     uint64 `json:"published"`      // frame messages handed to the broker
	Bytes         uint64 `json:"bytes"`          // of their payloads
	Dropped       uint64 `json:"dropped"`        // frames dropped for want of a connection or of time
	Events        uint64 `json:"events"`         // that the broker acknowledged
	EventsWaiting uint64 `json:"events_waiting"` // for the broker
	EventsDropped uint64 `json:"events_dropped"` // gave way to newer ones while the broker was away for long
	Commands      uint64 `json:"commands"`       // received
}

// Calibration is what sensor_msgs/CameraInfo of ROS says of a camera, under the same
// names. All numbers refer to frames of Width x Height pixels before any resizing. K[0] ==
// 0 means not calibrated.
type Calibration struct {
	Header struct {
		FrameID string `json:"frame_id"`
	} `json:"header"`
	Height          uint32      `json:"height"`
	Width           uint32      `json:"width"`
	DistortionModel string      `json:"distortion_model"` // "plumb_bob", "rational_polynomial", "equidistant"
	D               []float64   `json:"d"`                // distortion, as the model wants it; never null
	K               [9]float64  `json:"k"`                // intrinsic matrix, row by row
	R               [9]float64  `json:"r"`                // rectification matrix, row by row
	P               [12]float64 `json:"p"`                // projection matrix, 3x4, row by row
	BinningX        uint32      `json:"binning_x"`
	BinningY        uint32      `json:"binning_y"`
	ROI             struct {
		XOffset   uint32 `json:"x_offset"`
		YOffset   uint32 `json:"y_offset"`
		Height    uint32 `json:"height"`
		Width     uint32 `json:"width"`
		DoRectify bool   `json:"do_rectify"`
	} `json:"roi"`
}

// RedactURI takes user name, password and query out of a source's URI, so that it may be
// published. Text that is no URI, such as a GStreamer pipeline, keeps only its scheme, and
// so does a URI of which it cannot be told where the secrets end.
func RedactURI(uri string) string {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return ""
	}
	out, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return scheme + ":…"
	}
	// A password may contain slashes and question marks, so what stands before the last @
	// goes, wherever that is. Local files have no user.
	if i := strings.LastIndexByte(out, '@'); i >= 0 && scheme != "file" && scheme != "images" {
		if strings.ContainsAny(out[:i], "?#") {
			return scheme + "://…" // either may be in a password or in a query, and both are secret
		}
		out = out[i+1:]
	}
	if i := strings.IndexAny(out, "?#"); i >= 0 {
		out = out[:i]
	}
	return scheme + "://" + out
}
