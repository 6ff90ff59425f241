package enginecache

import (
	"errors"
	"fmt"
	"io"
)

// headerSize is how much of a plan ParseHeader reads.
const headerSize = 28

// Header is what a plan says of itself in its first bytes, as NVIDIA's samples read it: a tag in bytes
// 0 to 3 and, in bytes 24 to 27, major, minor, patch and build of the builder. Plans of TensorRT older
// than 8.6 have none.
type Header struct {
	Tag     string `json:"tag"`     // "ftrt": TensorRT, "vtrt": TensorRT for RTX, empty: not known
	Version string `json:"version"` // such as "10.3.0.30"
}

// ParseHeader reads the header of a plan. It is empty for a file that begins otherwise.
func ParseHeader(b []byte) Header {
	if len(b) < headerSize {
		return Header{}
	}
	switch tag := string(b[:4]); tag {
	case "ftrt", "vtrt":
		return Header{Tag: tag, Version: fmt.Sprintf("%d.%d.%d.%d", b[24], b[25], b[26], b[27])}
	}
	return Header{}
}

// readHeader reads the header of a plan's file.
func readHeader(plan io.ReaderAt) (Header, error) {
	var head [headerSize]byte
	n, err := plan.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Header{}, err
	}
	return ParseHeader(head[:n]), nil
}

// String says what the header tells.
func (h Header) String() string {
	switch h.Tag {
	case "ftrt":
		return "a plan of TensorRT " + h.Version
	case "vtrt":
		return "a plan of TensorRT for RTX " + h.Version
	}
	return "a file without a plan's header"
}
