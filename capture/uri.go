package capture

import (
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// Kind is the scheme of a source.
type Kind string

// The kinds of sources.
const (
	V4L2   Kind = "v4l2"   // a Linux video device
	CSI    Kind = "csi"    // a camera on a Jetson's CSI connector, through Argus
	RTSP   Kind = "rtsp"   // a network camera; also rtsps://
	File   Kind = "file"   // a video file
	Images Kind = "images" // a folder of PNG and JPEG pictures
	Gst    Kind = "gst"    // a free GStreamer pipeline that ends in appsink
	Test   Kind = "test"   // a generated pattern
)

const (
	maxSide = 16384 // pixels
	maxFPS  = 1000
)

// A Source says where pictures come from, as read by [ParseSource]. The zero
// value is no source. Fields that do not belong to the Kind are zero.
//
// String and LogValue never show the password; URI does.
type Source struct {
	Kind Kind
	// Path is the device, file, folder or pipeline.
	Path string
	// URL is the address of an RTSP stream, credentials and query included.
	URL string
	// Width, Height in pixels and FPS as asked for in the URI; 0 if not.
	Width, Height int
	FPS           float64
	// Encoding is what a v4l2 camera sends: mjpg, yuyv, h264, ...; "" leaves it to
	// the driver.
	Encoding string
	// SensorID, SensorMode (-1: automatic) and Flip (nvvidconv's flip-method, 0 to
	// 7) of a CSI camera.
	SensorID, SensorMode, Flip int
	// Transport of an RTSP stream: tcp or udp.
	Transport string
	// Backend opens RTSP and files: ffmpeg or gstreamer.
	Backend string
	// Loop begins again at the end of a file or folder.
	Loop bool
	// AsFast reads a file as fast as possible (rate=max), not at its own rate.
	AsFast bool
	// Pattern names what a test source draws.
	Pattern string
}

// Patterns are the names a test source accepts.
func Patterns() []string { return []string{"bars", "counter", "gradient", "noise", "still"} }

// ParseSource reads a source's URI:
//
//	v4l2:///dev/video0?width=1280&height=720&fps=30&format=mjpg
//	csi://0?width=1920&height=1080&fps=30&sensor-mode=2&flip=2
//	rtsp://user:password@host:554/path?the=camera's#transport=tcp&backend=ffmpeg&fps=5
//	file:///clip.mp4?loop=true&rate=realtime|max&backend=ffmpeg&fps=5, or a plain path
//	images:///folder?fps=1&loop=true
//	gst:videotestsrc ! videoconvert ! video/x-raw,format=BGR ! appsink
//	test://pattern?name=bars&width=640&height=480&fps=30
//
// An RTSP URL's query belongs to the camera, so our own settings follow a #. A
// plain path (no "scheme:") is a file. Percent escapes are read in v4l2, file and
// images paths, not in plain paths.
//
// An error names the URI (password removed), the part at fault and what it may be.
func ParseSource(uri string) (Source, error) {
	s, err := parseSource(uri)
	if err != nil {
		return Source{}, fmt.Errorf("source %q: %w", redactURI(uri), err)
	}
	return s, nil
}

func parseSource(uri string) (Source, error) {
	if uri == "" {
		return Source{}, fmt.Errorf("empty; write for example v4l2:///dev/video0 or test://pattern")
	}
	if i := strings.IndexFunc(uri, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return Source{}, fmt.Errorf("control character %#02x at byte %d", uri[i], i)
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || strings.ContainsAny(scheme, "/.") {
		return Source{Kind: File, Path: uri, Backend: "ffmpeg"}, nil
	}
	switch kind := Kind(strings.ToLower(scheme)); kind {
	case V4L2:
		return parseV4L2(rest)
	case CSI:
		return parseCSI(rest)
	case RTSP, "rtsps":
		return parseRTSP(uri)
	case File, Images:
		return parseFiles(kind, rest)
	case Gst:
		return parseGst(rest)
	case Test:
		return parseTest(rest)
	}
	return Source{}, fmt.Errorf("scheme %q is unknown: choose v4l2, csi, rtsp, rtsps, file, images, gst or test", scheme)
}

func parseV4L2(rest string) (Source, error) {
	s := Source{Kind: V4L2}
	q, err := s.pathAndQuery(rest, "v4l2:///dev/video0")
	if err != nil {
		return s, err
	}
	q.size(&s)
	q.fps(&s)
	if f, ok := q.take("format"); ok {
		s.Encoding = strings.ToLower(f)
		if !encodingName.MatchString(s.Encoding) {
			return s, fmt.Errorf("format %q: give the four characters of V4L2's pixel format, for example mjpg, yuyv, h264, nv12, grey", f)
		}
	}
	return s, q.done("width, height, fps, format")
}

func parseCSI(rest string) (Source, error) {
	s := Source{Kind: CSI, SensorMode: -1}
	id, query, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "?")
	n, err := strconv.Atoi(id)
	if err != nil || n < 0 || n > 31 || strconv.Itoa(n) != id {
		return s, fmt.Errorf("sensor %q: give its number, 0 to 31, as in csi://0", id)
	}
	s.SensorID = n
	q, err := parseQuery(query)
	if err != nil {
		return s, err
	}
	q.size(&s)
	q.fps(&s)
	q.integer("sensor-mode", &s.SensorMode, 0, 63)
	q.integer("flip", &s.Flip, 0, 7)
	return s, q.done("width, height, fps, sensor-mode, flip")
}

func parseRTSP(uri string) (Source, error) {
	s := Source{Kind: RTSP, Transport: "tcp", Backend: "ffmpeg"}
	address, fragment, _ := strings.Cut(uri, "#")
	u, err := url.Parse(address)
	if err != nil {
		// url.Error repeats the whole address, password included.
		if e, ok := err.(*url.Error); ok { //nolint:errorlint // Parse returns *url.Error itself.
			err = e.Err
		}
		return s, fmt.Errorf("address: %s", scrub(err.Error(), uri))
	}
	if u.Opaque != "" || u.Hostname() == "" {
		return s, fmt.Errorf("no host: write rtsp://host/path or rtsp://user:password@host:554/path")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return s, fmt.Errorf("port %q: must be 1 to 65535", p)
		}
	}
	u.Scheme = strings.ToLower(u.Scheme)
	s.URL = u.String()
	q, err := parseQuery(fragment)
	if err != nil {
		return s, err
	}
	q.fps(&s)
	q.choice("transport", &s.Transport, "tcp", "udp")
	q.choice("backend", &s.Backend, "ffmpeg", "gstreamer")
	return s, q.done("transport, backend, fps (after #; what follows ? belongs to the camera)")
}

func parseFiles(kind Kind, rest string) (Source, error) {
	s := Source{Kind: kind}
	q, err := s.pathAndQuery(rest, string(kind)+":///path")
	if err != nil {
		return s, err
	}
	q.fps(&s)
	q.boolean("loop", &s.Loop)
	if kind == Images {
		if s.FPS == 0 {
			s.FPS = 1
		}
		return s, q.done("fps, loop")
	}
	s.Backend = "ffmpeg"
	q.choice("backend", &s.Backend, "ffmpeg", "gstreamer")
	rate := "realtime"
	q.choice("rate", &rate, "realtime", "max")
	s.AsFast = rate == "max"
	return s, q.done("loop, rate, backend, fps")
}

func parseGst(rest string) (Source, error) {
	s := Source{Kind: Gst, Path: strings.TrimSpace(rest)}
	parts := strings.Split(s.Path, "!")
	last := strings.Fields(parts[len(parts)-1])
	if len(parts) < 2 || len(last) == 0 || last[0] != "appsink" {
		return s, fmt.Errorf("pipeline must end in appsink, as in gst:videotestsrc ! videoconvert ! video/x-raw,format=BGR ! appsink")
	}
	return s, nil
}

func parseTest(rest string) (Source, error) {
	s := Source{Kind: Test, Pattern: "bars", Width: 640, Height: 480, FPS: 30}
	host, query, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "?")
	if host != "pattern" {
		return s, fmt.Errorf("%q: write test://pattern?name=NAME", host)
	}
	q, err := parseQuery(query)
	if err != nil {
		return s, err
	}
	q.size(&s)
	q.fps(&s)
	q.choice("name", &s.Pattern, Patterns()...)
	if s.Pattern == "counter" && s.Width < 64 {
		q.fail("width", strconv.Itoa(s.Width), "the counter pattern needs 64 or more")
	}
	return s, q.done("name, width, height, fps")
}

var encodingName = regexp.MustCompile(`^[a-z0-9 ]{3,4}$`)

// pathAndQuery reads "//" PATH "?" QUERY.
func (s *Source) pathAndQuery(rest, example string) (*query, error) {
	path, raw, _ := strings.Cut(rest, "?")
	path = strings.TrimPrefix(path, "//")
	path, err := url.PathUnescape(path)
	if err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	if path == "" || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("path %q: write it as in %s", path, example)
	}
	s.Path = path
	return parseQuery(raw)
}

// query reads settings one by one and remembers the first error.
type query struct {
	values url.Values
	err    error
}

func parseQuery(raw string) (*query, error) {
	v, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fmt.Errorf("settings %q: %w", raw, err)
	}
	for k, list := range v {
		if len(list) > 1 {
			return nil, fmt.Errorf("setting %q is given %d times", k, len(list))
		}
	}
	return &query{values: v}, nil
}

func (q *query) take(key string) (string, bool) {
	list, ok := q.values[key]
	if !ok {
		return "", false
	}
	delete(q.values, key)
	return list[0], true
}

func (q *query) fail(key, value, want string) {
	if q.err == nil {
		q.err = fmt.Errorf("%s=%q: %s", key, value, want)
	}
}

func (q *query) integer(key string, dst *int, low, high int) {
	if v, ok := q.take(key); ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < low || n > high {
			q.fail(key, v, fmt.Sprintf("must be a whole number from %d to %d", low, high))
			return
		}
		*dst = n
	}
}

func (q *query) size(s *Source) {
	q.integer("width", &s.Width, 1, maxSide)
	q.integer("height", &s.Height, 1, maxSide)
}

func (q *query) fps(s *Source) {
	if v, ok := q.take("fps"); ok {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil || !(f >= 0.001 && f <= maxFPS) {
			q.fail("fps", v, fmt.Sprintf("must be a number from 0.001 to %d", maxFPS))
			return
		}
		s.FPS = f
	}
}

func (q *query) boolean(key string, dst *bool) {
	if v, ok := q.take(key); ok {
		switch v {
		case "true":
			*dst = true
		case "false":
			*dst = false
		default:
			q.fail(key, v, "must be true or false")
		}
	}
}

func (q *query) choice(key string, dst *string, choices ...string) {
	if v, ok := q.take(key); ok {
		for _, c := range choices {
			if v == c {
				*dst = v
				return
			}
		}
		q.fail(key, v, "choose "+strings.Join(choices, ", "))
	}
}

// done returns the first error, or one for a setting nobody took.
func (q *query) done(known string) error {
	if q.err != nil {
		return q.err
	}
	if len(q.values) == 0 {
		return nil
	}
	var left []string
	for k := range q.values {
		left = append(left, k)
	}
	sort.Strings(left)
	return fmt.Errorf("setting %q is unknown: choose from %s", left[0], known)
}

// URI writes the source so that ParseSource reads it back, password included.
func (s Source) URI() string {
	var q []string
	set := func(key, value string) { q = append(q, key+"="+url.QueryEscape(value)) }
	number := func(key string, n int) { set(key, strconv.Itoa(n)) }
	if s.Width != 0 {
		number("width", s.Width)
	}
	if s.Height != 0 {
		number("height", s.Height)
	}
	if s.FPS != 0 {
		set("fps", strconv.FormatFloat(s.FPS, 'g', -1, 64))
	}
	path, mark := "//"+(&url.URL{Path: s.Path}).EscapedPath(), "?"
	switch s.Kind {
	case "":
		return ""
	case Gst:
		return "gst:" + s.Path
	case V4L2:
		if s.Encoding != "" {
			set("format", s.Encoding)
		}
	case CSI:
		path = "//" + strconv.Itoa(s.SensorID)
		if s.SensorMode >= 0 {
			number("sensor-mode", s.SensorMode)
		}
		if s.Flip != 0 {
			number("flip", s.Flip)
		}
	case RTSP:
		set("transport", s.Transport)
		set("backend", s.Backend)
		return s.URL + "#" + strings.Join(q, "&")
	case File, Images:
		set("loop", strconv.FormatBool(s.Loop))
		if s.Kind == File {
			set("rate", map[bool]string{false: "realtime", true: "max"}[s.AsFast])
			set("backend", s.Backend)
		}
	case Test:
		path = "//pattern"
		set("name", s.Pattern)
	}
	uri := string(s.Kind) + ":" + path
	if len(q) > 0 {
		uri += mark + strings.Join(q, "&")
	}
	return uri
}

// String is the URI with the password removed, fit for logs and topics.
func (s Source) String() string { return redactURI(s.URI()) }

// GoString keeps %#v from showing the password.
func (s Source) GoString() string { return "capture.Source(" + s.String() + ")" }

// LogValue makes slog print the redacted URI.
func (s Source) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Live tells whether the source goes on by itself, so that frames not taken in
// time are lost: cameras and streams, not files and folders.
func (s Source) Live() bool {
	return s.Kind != File && s.Kind != Images
}
