package texttower

import (
	"context"
	"errors"
)

// Direct runs the tower in this process. Texts wait for each other.
type Direct struct{ opts Options }

var _ Embedder = (*Direct)(nil)

// NewDirect checks the model as [Check] does and loads nothing yet.
func NewDirect(opts Options) (*Direct, error) { return &Direct{opts}, nil }

// Embed implements [Embedder]. Cancelling ctx ends it after the batch that is under way.
func (d *Direct) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	return nil, errors.New("not written yet")
}

// Tokens are the padded ids [Context] as the tower gets them.
func (d *Direct) Tokens(text string) ([]int32, error) { return nil, errors.New("not written yet") }

// Release gives the tower's memory back; the next text that is not cached loads it again.
func (d *Direct) Release() error { return nil }

// Close waits for a running call and frees everything. Calling it again does nothing.
func (d *Direct) Close() error { return nil }
