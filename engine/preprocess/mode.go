package preprocess

import "fmt"

// Mode says how a frame of any shape becomes the network's square input.
// The three are those of open_clip's image transform (version 2), with its
// rounding. The zero value is Squash, TokLIP's own.
type Mode uint8

const (
	// Squash resizes straight to S x S; the aspect ratio is not kept.
	Squash Mode = iota
	// Shortest resizes the shorter edge to S and keeps the middle S x S.
	Shortest
	// Longest fits the frame inside S x S and fills the rest with 0, half on
	// each side.
	Longest
)

var modeNames = [...]string{Squash: "squash", Shortest: "shortest", Longest: "longest"}

// ParseMode reads "squash", "shortest" or "longest".
func ParseMode(s string) (Mode, error) {
	for m, name := range modeNames {
		if s == name {
			return Mode(m), nil
		}
	}
	return 0, fmt.Errorf(`resize mode %q is unknown: use "squash", "shortest" or "longest"`, s)
}

// String is the name that ParseMode reads.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// MarshalText writes the mode's name, for TOML and JSON.
func (m Mode) MarshalText() ([]byte, error) {
	if int(m) >= len(modeNames) {
		return nil, fmt.Errorf("resize mode %d is unknown", uint8(m))
	}
	return []byte(modeNames[m]), nil
}

// UnmarshalText reads what ParseMode reads.
func (m *Mode) UnmarshalText(text []byte) error {
	parsed, err := ParseMode(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}
