package enginecache

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// metadataFormat is the version of KEY.json.
const metadataFormat = 1

// metadataLimit is more than any KEY.json has, in bytes.
const metadataLimit = 16 << 20

// Metadata is what KEY.json holds.
type Metadata struct {
	Format       int             `json:"format"` // 1
	ID           string          `json:"id"`
	Key          Key             `json:"key"`
	PlanSize     int64           `json:"plan_size"` // bytes
	PlanSHA256   string          `json:"plan_sha256"`
	PlanHeader   Header          `json:"plan_header"`
	Created      time.Time       `json:"created"`
	BuildSeconds float64         `json:"build_seconds"`
	TensorRT     string          `json:"tensorrt"` // that built it, for people
	Report       json.RawMessage `json:"report,omitempty"`
}

// errForeign is the error of metadata that belong to another entry.
var errForeign = errors.New("it belongs to another entry")

// parseMetadata reads and checks KEY.json of the entry id.
func parseMetadata(b []byte, id string) (*Metadata, error) {
	m, err := parseAny(b)
	if err == nil && m.ID != id {
		return nil, fmt.Errorf("%w, %s", errForeign, m.ID)
	}
	return m, err
}

// parseAny reads and checks metadata of whatever plan.
func parseAny(b []byte) (*Metadata, error) {
	var m Metadata
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	if m.Format != metadataFormat {
		return nil, fmt.Errorf("format %d is not %d", m.Format, metadataFormat)
	}
	if own := m.Key.ID(); m.ID != own {
		return nil, fmt.Errorf("its id %q is not that of its key, %s", m.ID, own)
	}
	if sum, err := hex.DecodeString(m.PlanSHA256); err != nil || len(sum) != 32 {
		return nil, fmt.Errorf("plan_sha256 %q is no SHA-256", m.PlanSHA256)
	}
	if m.PlanSize <= 0 {
		return nil, fmt.Errorf("plan_size %d cannot be", m.PlanSize)
	}
	return &m, nil
}

// encode gives KEY.json.
func (m *Metadata) encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	return append(b, '\n'), nil
}

// readMetadata reads KEY.json.
func (c *Cache) readMetadata(id string) (*Metadata, error) {
	b, err := readLimited(c.path(id, ".json"))
	if err != nil {
		return nil, err
	}
	return parseMetadata(b, id)
}

// readLimited reads a file of metadata.
func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, metadataLimit))
}
