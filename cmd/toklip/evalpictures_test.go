package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/toklip/toklip/engine/preprocess"
)

// TestPictureFeed: pictures come in their order and as `toklip preprocess` makes them, broken ones with their error; nothing is left behind when
// whoever takes them fails or is cancelled.
func TestPictureFeed(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for i := range 40 {
		file := filepath.Join(dir, fmt.Sprintf("%02d.png", i))
		if i == 7 {
			if err := os.WriteFile(file, []byte("no picture"), 0o644); err != nil {
				t.Fatal(err)
			}
		} else {
			writeBlobs(t, file, 16+i%5, uint64(i))
		}
		files = append(files, file)
	}
	feed := pictureFeed{size: 32, mode: preprocess.Squash}
	next := 0
	err := feed.run(t.Context(), files, func(p *fedPicture) error {
		if p.index != next {
			t.Errorf("picture %d came instead of %d", p.index, next)
		}
		next++
		if p.index == 7 {
			if p.err == nil || p.image != nil || p.picture != nil {
				t.Errorf("the broken picture came as %+v", p)
			}
			return nil
		}
		if p.err != nil {
			t.Fatal(p.err)
		}
		in, err := readPicture(files[p.index])
		if err != nil {
			t.Fatal(err)
		}
		resizer, err := preprocess.New(preprocess.Geometry{Width: in.width, Height: in.height, Format: preprocess.RGB8, Size: 32, Mode: preprocess.Squash})
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float32, 3*32*32)
		if err := resizer.Tensor(want, in.rgb, 3*in.width); err != nil {
			t.Fatal(err)
		}
		for k := range want {
			if p.image[k] != want[k] {
				t.Fatalf("picture %d: value %d is %v, want %v", p.index, k, p.image[k], want[k])
			}
		}
		return nil
	})
	if err != nil || next != len(files) {
		t.Errorf("%d of %d pictures, %v", next, len(files), err)
	}

	stop := errors.New("stop")
	if err := feed.run(t.Context(), files, func(p *fedPicture) error {
		if p.index == 3 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) {
		t.Errorf("a failure became %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := feed.run(ctx, files, func(p *fedPicture) error {
		if p.index == 3 {
			cancel()
		}
		return nil
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := feed.run(t.Context(), nil, nil); err != nil {
		t.Errorf("no files: %v", err)
	}
}
