package engine

import "testing"

// The drops of a result speak of the frames before it alone: sequence = results so far + drops. Counted in earlier, a
// later frame's loss would hide in one message and look like a message lost in the next.
func TestDropsSpeakOfEarlierFrames(t *testing.T) {
	g, h := newFakeGraphs(4, 1), hold()
	g.tokenize = h.run
	p := start(t, g, Config{})
	c := p.camera(t, CameraConfig{Name: "a"})
	sequence := uint64(0)
	offer := func() {
		sequence++
		f := gray(byte(sequence), sequence)
		f.Lost = Lost{Capture: sequence, Rate: 2 * sequence, Broken: 3 * sequence}
		c.Offer(f)
	}
	offer()
	const results = 5
	for n := range results {
		<-h.entered
		for range n + 1 { // while the backend works on the frame before: all but the last are replaced
			offer()
		}
		h.release <- struct{}{}
	}
	<-h.entered
	h.release <- struct{}{}
	for i, r := range p.sink.wait(t, results+1) {
		if want := r.sequence - uint64(i+1); r.drops.Sum() != want || r.drops.Replaced != want {
			t.Errorf("result %d is of frame %d and tells of drops %+v, want %d replaced", i+1, r.sequence, r.drops, want)
		}
		if want := (Lost{Capture: r.sequence, Rate: 2 * r.sequence, Broken: 3 * r.sequence}); r.lost != want {
			t.Errorf("frame %d: lost by the source %+v, want %+v", r.sequence, r.lost, want)
		}
	}
}
