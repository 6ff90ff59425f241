package labelling

import (
	"errors"
	"testing"
)

// A pool that could not be opened is neither used nor closed nor tried again at once. What open gives then is a nil pointer, as
// loading the real one does: the second frame with regions once ended the daemon.
func TestPoolThatCannotBeOpened(t *testing.T) {
	fault, opened := errors.New("the file is damaged"), 0
	p := lazyPool{open: func() (Pool, error) {
		opened++
		return (*pool)(nil), fault
	}}
	for range 3 {
		if err := p.run(nil, nil, 1, nil); !errors.Is(err, fault) {
			t.Errorf("error %v, want %v", err, fault)
		}
	}
	if opened != 1 {
		t.Errorf("opened %d times", opened)
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}
