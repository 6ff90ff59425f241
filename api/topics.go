package api

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Kind is what a topic carries.
type Kind string

// The kinds of topics of a node. The first block belongs to the node, the second to a
// camera; the last four of that are the JSON twins.
const (
	KindAvailability Kind = "availability" // "online" or "offline", retained
	KindInfo         Kind = "info"         // Info, retained
	KindState        Kind = "state"        // State, retained
	KindMetrics      Kind = "metrics"      // Metrics
	KindCommand      Kind = "command"      // Command

	KindStatus        Kind = "status"      // CameraStatus, retained
	KindCalibration   Kind = "calibration" // Calibration, retained
	KindTokens        Kind = "tokens"      // toklipv1.Tokens
	KindEmbedding     Kind = "embedding"   // toklipv1.Embedding
	KindFeatures      Kind = "features"    // toklipv1.Features
	KindLabels        Kind = "labels"      // toklipv1.Labels of the whole frame
	KindRegions       Kind = "regions"     // toklipv1.Labels of the named regions
	KindEvent         Kind = "event"       // LabelEvent
	KindTokensJSON    Kind = "tokens/json"
	KindEmbeddingJSON Kind = "embedding/json"
	KindLabelsJSON    Kind = "labels/json"
	KindRegionsJSON   Kind = "regions/json"
)

// NodeKinds and CameraKinds list the kinds of topics below a node and below a camera.
func NodeKinds() []Kind {
	return []Kind{KindAvailability, KindInfo, KindState, KindMetrics, KindCommand}
}

// CameraKinds lists the kinds of topics below a camera.
func CameraKinds() []Kind {
	return []Kind{KindStatus, KindCalibration, KindTokens, KindEmbedding, KindFeatures, KindLabels, KindRegions, KindEvent,
		KindTokensJSON, KindEmbeddingJSON, KindLabelsJSON, KindRegionsJSON}
}

// Payloads of the availability topic.
const (
	Online  = "online"
	Offline = "offline"
)

// DefaultPrefix is the first part of every topic unless configured otherwise.
const DefaultPrefix = "toklip"

// MaxNameLength is the greatest length of a node's or camera's name, bytes. It keeps
// topics short and makes room for the name inside an MQTT client id.
const MaxNameLength = 64

// ValidName checks the name of a node or a camera: [a-z0-9-]+, at most MaxNameLength.
// Such names need no escaping in topics, host names, metrics or file names.
func ValidName(name string) error {
	if name == "" {
		return errors.New("name is empty: use a-z, 0-9 and -")
	}
	if len(name) > MaxNameLength {
		return fmt.Errorf("name %.20q… has %d characters: at most %d are allowed", name, len(name), MaxNameLength)
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; !isNameByte(c) {
			return fmt.Errorf("name %q has %q at position %d: use a-z, 0-9 and - only, for example %q",
				name, rune(c), i+1, SanitizeName(name))
		}
	}
	return nil
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
}

// SanitizeName makes a valid name of any text, for instance of a host name:
// "Robot_7.local" becomes "robot-7-local". Text without any usable character becomes
// "node".
func SanitizeName(text string) string {
	var b strings.Builder
	dash := false
	for _, r := range strings.ToLower(text) {
		if r < 128 && isNameByte(byte(r)) && r != '-' {
			if dash && b.Len() > 0 {
				b.WriteByte('-')
			}
			dash = false
			b.WriteByte(byte(r))
			if b.Len() >= MaxNameLength-1 { // one less: a dash may come before the next character
				break
			}
			continue
		}
		dash = true
	}
	if b.Len() == 0 {
		return "node"
	}
	return b.String()
}

// ValidVerb checks the verb of a command: one name, or two joined by a slash such as
// "labels/set", each as ValidName wants it.
func ValidVerb(verb string) error {
	first, second, two := strings.Cut(verb, "/")
	err := ValidName(first)
	if err == nil && two {
		err = ValidName(second)
	}
	if err != nil {
		return fmt.Errorf("verb %.64q: %w; a verb is one name or two, such as ping or labels/set", verb, err)
	}
	return nil
}

// ValidTopic checks the name of a topic to publish to, as MQTT 3.1.1 sections 1.5.3
// and 4.7 want it: not empty, no wildcards, no NUL, at most 65535 bytes of UTF-8.
func ValidTopic(topic string) error {
	switch {
	case topic == "":
		return errors.New("topic is empty")
	case len(topic) > 65535:
		return fmt.Errorf("topic has %d bytes: MQTT allows 65535", len(topic))
	case strings.ContainsAny(topic, "+#"):
		return fmt.Errorf("topic %q contains a wildcard (+ or #): name one topic", topic)
	case strings.ContainsRune(topic, 0):
		return fmt.Errorf("topic %q contains a NUL character", topic)
	case !utf8.ValidString(topic):
		return fmt.Errorf("topic %q is not valid UTF-8", topic)
	case topic[0] == '$':
		return fmt.Errorf("topic %q begins with $, which brokers keep for themselves", topic)
	}
	return nil
}

// ValidPrefix checks the first part of all topics: like ValidTopic, and neither
// beginning nor ending in a slash, without empty levels or white space.
func ValidPrefix(prefix string) error {
	if err := ValidTopic(prefix); err != nil {
		return fmt.Errorf("topic prefix: %w", err)
	}
	if strings.ContainsAny(prefix, " \t\r\n") {
		return fmt.Errorf("topic prefix %q contains white space", prefix)
	}
	for _, level := range strings.Split(prefix, "/") {
		if level == "" {
			return fmt.Errorf("topic prefix %q has an empty level: write it without leading, trailing or double slashes", prefix)
		}
	}
	return nil
}

// Topics builds the topics of one node. The zero value is not usable; see NewTopics.
type Topics struct {
	prefix, node string
	base         string // "<prefix>/<node>/"
}

// NewTopics checks prefix and node name. An empty prefix is DefaultPrefix.
func NewTopics(prefix, node string) (Topics, error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	if err := ValidPrefix(prefix); err != nil {
		return Topics{}, err
	}
	if err := ValidName(node); err != nil {
		return Topics{}, fmt.Errorf("node: %w", err)
	}
	return Topics{prefix: prefix, node: node, base: prefix + "/" + node + "/"}, nil
}

// Node is the node's name.
func (t Topics) Node() string { return t.node }

// Prefix is the first part of all topics.
func (t Topics) Prefix() string { return t.prefix }

// Availability is the topic of "online" and "offline", which is also that of the will.
func (t Topics) Availability() string { return t.base + string(KindAvailability) }

// Info is the topic of the birth document.
func (t Topics) Info() string { return t.base + string(KindInfo) }

// State is the topic of the node's state.
func (t Topics) State() string { return t.base + string(KindState) }

// Metrics is the topic of the node's figures.
func (t Topics) Metrics() string { return t.base + string(KindMetrics) }

// Command is the topic of one verb.
func (t Topics) Command(verb string) string { return t.base + string(KindCommand) + "/" + verb }

// Commands is the filter that a node subscribes to.
func (t Topics) Commands() string { return t.base + string(KindCommand) + "/#" }

// Reply is where replies to a client are best sent; the client names it in its command.
func (t Topics) Reply(client string) string { return t.base + "reply/" + client }

// Camera is the topic of one kind below a camera, whose name must be valid.
func (t Topics) Camera(camera string, kind Kind) string {
	return t.base + "camera/" + camera + "/" + string(kind)
}

// Owns reports whether the node itself publishes to the topic, or listens there:
// nobody else may be told to.
func (t Topics) Owns(topic string) bool {
	rest, ok := strings.CutPrefix(topic, t.base)
	return ok && !strings.HasPrefix(rest, "reply/")
}

// Topic is what a topic's name says.
type Topic struct {
	Node   string
	Kind   Kind
	Camera string // empty for topics of the node
	Verb   string // of a command, such as "ping" or "labels/set"
}

// ParseTopic takes a topic of any node below prefix apart. It reports false for topics
// that are none of toklip's.
func ParseTopic(prefix, topic string) (Topic, bool) {
	rest, ok := strings.CutPrefix(topic, prefix+"/")
	if !ok {
		return Topic{}, false
	}
	node, rest, ok := strings.Cut(rest, "/")
	if !ok || ValidName(node) != nil {
		return Topic{}, false
	}
	out := Topic{Node: node}
	first, tail, _ := strings.Cut(rest, "/")
	switch Kind(first) {
	case KindCommand:
		if ValidVerb(tail) != nil {
			return Topic{}, false
		}
		out.Kind, out.Verb = KindCommand, tail
		return out, true
	case KindAvailability, KindInfo, KindState, KindMetrics:
		out.Kind = Kind(first)
		return out, first == rest
	case "camera":
		camera, kind, ok := strings.Cut(tail, "/")
		if !ok || ValidName(camera) != nil {
			return Topic{}, false
		}
		for _, k := range CameraKinds() {
			if Kind(kind) == k {
				out.Camera, out.Kind = camera, k
				return out, true
			}
		}
	}
	return Topic{}, false
}
