package capturetest

import (
	"bytes"
	"sync"
)

// Output collects what a logger or a process writes, while a test reads it. The zero
// value is empty; it must not be copied.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write never fails.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String is all that was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
