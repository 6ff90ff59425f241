package eval

import "fmt"

// ZeroShot counts how often a picture's class has the best scores. It keeps counts
// alone, so that any number of pictures may pass. One goroutine at a time.
type ZeroShot struct {
	classes *Vectors
	counts  []ClassCount
	picture *Vectors // of one row: the picture at hand
	scores  []float32
}

// ClassCount is how the pictures of one class fared.
type ClassCount struct{ Pictures, Top1, Top5 int }

// NewZeroShot judges by a vector for each class.
func NewZeroShot(classes *Vectors) *ZeroShot {
	n := classes.Len()
	return &ZeroShot{classes: classes, counts: make([]ClassCount, n), picture: NewVectors(1, classes.dim), scores: make([]float32, n)}
}

// Add judges one picture of a class by its embedding and returns the rank of that class.
func (z *ZeroShot) Add(class int, embedding []float32) (rank int, err error) {
	if class < 0 || class >= len(z.counts) {
		return 0, fmt.Errorf("class %d of %d", class, len(z.counts))
	}
	if err := z.picture.Set(0, embedding); err != nil {
		return 0, err
	}
	picture := z.picture.Row(0)
	for i := range z.scores {
		z.scores[i] = dot(picture, z.classes.Row(i))
	}
	rank = Rank(z.scores, class)
	count := &z.counts[class]
	count.Pictures++
	if rank <= 1 {
		count.Top1++
	}
	if rank <= 5 {
		count.Top5++
	}
	return rank, nil
}

// Counts are those of each class, in the classes' order. The slice is z's own.
func (z *ZeroShot) Counts() []ClassCount { return z.counts }

// Total adds all classes up.
func (z *ZeroShot) Total() ClassCount {
	var all ClassCount
	for _, c := range z.counts {
		all.Pictures += c.Pictures
		all.Top1 += c.Top1
		all.Top5 += c.Top5
	}
	return all
}
