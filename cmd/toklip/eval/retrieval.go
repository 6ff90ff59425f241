package eval

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// retrievalBlock is how many pictures are compared with a caption while it is in the
// cache: captions are then read from memory once a block and not once a picture.
const retrievalBlock = 16

// Ranks are the places that retrieval found, 1 the best.
type Ranks struct {
	Texts    []int // for each picture that has captions: the best place of one of them among all captions
	Pictures []int // for each caption: the place of its picture among all pictures
}

// Retrieve ranks all captions for each picture and all pictures for each caption by
// cosine. Caption c belongs to picture of[c]. A picture without captions only competes.
//
// The matrix of all cosines is never held: memory grows with the number of captions
// and not with their product. Progress is told of pictures done, never from two
// goroutines at once; it may be nil.
func Retrieve(ctx context.Context, pictures, captions *Vectors, of []int, progress func(done, total int)) (*Ranks, error) {
	if len(of) != captions.Len() {
		return nil, fmt.Errorf("retrieval: %d captions have %d pictures named", captions.Len(), len(of))
	}
	if pictures.dim != captions.dim {
		return nil, fmt.Errorf("retrieval: embeddings of pictures have %d values, of captions %d", pictures.dim, captions.dim)
	}
	n := pictures.Len()
	for c, p := range of {
		if p < 0 || p >= n {
			return nil, fmt.Errorf("retrieval: caption %d belongs to picture %d of %d", c, p, n)
		}
	}
	own := make([]float32, len(of)) // cosine of each caption with its picture
	for c, p := range of {
		own[c] = dot(pictures.Row(p), captions.Row(c))
	}
	// For each picture its best caption, the first of equal ones.
	best := make([]int, n)
	for p := range best {
		best[p] = -1
	}
	for c, p := range of {
		if best[p] < 0 || own[c] > own[best[p]] {
			best[p] = c
		}
	}

	workers := runtime.GOMAXPROCS(0)
	group, ctx := errgroup.WithContext(ctx)
	ahead := make([][]int32, workers) // of each worker: for each caption the pictures before its own
	textRank := make([]int, n)
	var begun atomic.Int64 // pictures that some worker has taken
	var telling sync.Mutex // guards done
	done := 0
	for w := range workers {
		ahead[w] = make([]int32, len(of))
		group.Go(func() error {
			for ctx.Err() == nil {
				to := int(begun.Add(retrievalBlock))
				from := to - retrievalBlock
				if from >= n {
					return nil
				}
				to = min(to, n)
				rankBlock(pictures, captions, of, own, best, from, to, textRank, ahead[w])
				telling.Lock()
				done += to - from
				if progress != nil {
					progress(done, n)
				}
				telling.Unlock()
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}

	ranks := &Ranks{Pictures: make([]int, len(of))}
	for p, c := range best {
		if c >= 0 {
			ranks.Texts = append(ranks.Texts, textRank[p])
		}
	}
	for c := range of {
		ranks.Pictures[c] = 1
		for w := range workers {
			ranks.Pictures[c] += int(ahead[w][c])
		}
	}
	return ranks, nil
}

// rankBlock compares pictures [from,to) with every caption: it sets their textRank, and counts in ahead for each caption
// those that come before its own picture.
func rankBlock(pictures, captions *Vectors, of []int, own []float32, best []int, from, to int, textRank []int, ahead []int32) {
	var limit [retrievalBlock]float32
	var rank [retrievalBlock]int
	for p := from; p < to; p++ {
		limit[p-from], rank[p-from] = float32(math.Inf(1)), 1
		if best[p] >= 0 {
			limit[p-from] = own[best[p]]
		}
	}
	for c, owner := range of {
		row := captions.Row(c)
		for p := from; p < to; p++ {
			cosine := dot(pictures.Row(p), row)
			if cosine > limit[p-from] || cosine == limit[p-from] && c < best[p] {
				rank[p-from]++
			}
			if cosine > own[c] || cosine == own[c] && p < owner {
				ahead[c]++
			}
		}
	}
	for p := from; p < to; p++ {
		textRank[p] = rank[p-from]
	}
}
