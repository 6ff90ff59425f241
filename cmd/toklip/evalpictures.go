package main

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/toklip/toklip/engine/preprocess"
)

// maxReaders bounds how many pictures are decoded at the same time, and so the memory that this takes.
const maxReaders = 8

// fedPicture is one picture on its way from its file to the network.
type fedPicture struct {
	index   int // in the list of files
	picture *picture
	image   []float32 // as the network takes it; nil with err
	err     error     // why it cannot be had

	ready chan struct{} // closed by its reader
}

// pictureFeed reads and pre-processes pictures, several at a time, and gives them to one function in their order. It holds a few
// pictures for each processor, however many there are.
type pictureFeed struct {
	size int
	mode preprocess.Mode
}

// run calls do for every file, one after the other, until it fails. What it is given is valid until it returns.
func (f pictureFeed) run(ctx context.Context, files []string, do func(*fedPicture) error) error {
	readers := min(runtime.GOMAXPROCS(0), maxReaders)
	queue := make(chan *fedPicture, 2*readers) // in order, read or not
	work := make(chan *fedPicture)
	spare := make(chan []float32, cap(queue)+readers+2)
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(queue)
		defer close(work)
		for i := range files {
			p := &fedPicture{index: i, ready: make(chan struct{})}
			for _, to := range []chan *fedPicture{queue, work} {
				select {
				case to <- p:
				case <-ctx.Done():
					return nil // whoever cancelled says why
				}
			}
		}
		return nil
	})
	for range readers {
		group.Go(func() error {
			var resizer *preprocess.Resizer
			for p := range work {
				select {
				case p.image = <-spare:
				default:
					p.image = make([]float32, 3*f.size*f.size)
				}
				if resizer, p.err = f.read(p, files[p.index], resizer); p.err != nil {
					p.picture, p.image = nil, nil
				}
				close(p.ready)
			}
			return nil
		})
	}
	err := handOver(ctx, queue, spare, do)
	cancel()
	_ = group.Wait() // they end without errors of their own
	return err
}

// handOver gives what is read to do.
func handOver(ctx context.Context, queue <-chan *fedPicture, spare chan<- []float32, do func(*fedPicture) error) error {
	for p := range queue {
		select {
		case <-p.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := do(p); err != nil {
			return err
		}
		if p.image != nil {
			select {
			case spare <- p.image:
			default:
			}
		}
	}
	return ctx.Err()
}

// read fills p of a file. The resizer is used again, or another comes back.
func (f pictureFeed) read(p *fedPicture, file string, resizer *preprocess.Resizer) (*preprocess.Resizer, error) {
	in, err := readPicture(file)
	if err != nil {
		return resizer, err
	}
	geometry := preprocess.Geometry{Width: in.width, Height: in.height, Format: preprocess.RGB8, Size: f.size, Mode: f.mode}
	if resizer == nil {
		resizer, err = preprocess.New(geometry)
	} else {
		err = resizer.Reset(geometry)
	}
	if err == nil {
		err = resizer.Tensor(p.image, in.rgb, 3*in.width)
	}
	if err != nil {
		return resizer, fmt.Errorf("%s: %w", file, err)
	}
	p.picture = in
	return resizer, nil
}
