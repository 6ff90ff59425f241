package kernels

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/model/npy"
	"github.com/toklip/toklip/model/synth"
)

// TestReferenceIDs: the latents of the reference model give its ids wherever the two best codes are far enough
// apart to tell.
func TestReferenceIDs(t *testing.T) {
	arrays, err := npy.LoadNPZ(reference(t, "golden", "tiny.npz"))
	if err != nil {
		t.Fatal(err)
	}
	floats := func(name string) []float32 {
		v, err := arrays[name].Float32()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return v
	}
	latents, margin := floats("latents"), floats("margin")
	want, err := arrays["ids"].Int32()
	if err != nil {
		t.Fatal(err)
	}
	config, err := synth.Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	codebook := make([]float32, config.Vocab*config.CDim)
	synth.Uniform("visual.trunk.vq.quantize.embedding.weight", codebook, 0)
	eachChecker(t, func(t *testing.T, c *checker) {
		const n, tokens = 3, 16
		got, err := c.ask([]int32{2, n, tokens, int32(config.CDim), int32(config.Vocab)}, codebook, latents)
		if err != nil {
			t.Fatal(err)
		}
		ids := numbers[int32](t, got)
		checked := 0
		for i, id := range ids {
			if margin[i] > 1e-5 {
				checked++
				if id != want[i] {
					t.Errorf("token %d: id %d, want %d (margin %g)", i, id, want[i], margin[i])
				}
			}
		}
		if checked < n*tokens*9/10 {
			t.Errorf("only %d tokens have a margin", checked)
		}
	})
}

// fma32 is a*b+c rounded once. A product of two float32 is exact in float64; the sum is then rounded to
// odd, so that the second rounding, to float32, cannot go wrong.
func fma32(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	sum := p + q
	// What the sum lost, by Knuth.
	back := sum - p
	lost := (p - (sum - back)) + (q - back)
	if bits := math.Float64bits(sum); lost != 0 && bits&1 == 0 {
		if (lost > 0) == (sum > 0) {
			sum = math.Float64frombits(bits + 1)
		} else {
			sum = math.Float64frombits(bits - 1)
		}
	}
	return float32(sum)
}

// plainUnit brings v, stride apart, to length 1.
func plainUnit(v []float32, stride, dim int) []float32 {
	squares := float32(0)
	for c := range dim {
		squares = fma32(v[c*stride], v[c*stride], squares)
	}
	length := max(float32(math.Sqrt(float64(squares))), 1e-12)
	out := make([]float32, dim)
	for c := range out {
		out[c] = v[c*stride] / length
	}
	return out
}

// plainSearch is the definition in csrc/kernels/search.h.
func plainSearch(codebook, latents []float32, n, tokens, dim int) []int32 {
	var codes [][]float32
	for k := 0; k < len(codebook); k += dim {
		codes = append(codes, plainUnit(codebook[k:], 1, dim))
	}
	var ids []int32
	for i := range n * tokens {
		u := plainUnit(latents[i/tokens*dim*tokens+i%tokens:], tokens, dim)
		best, id := float32(math.Inf(-1)), int32(0)
		for k, code := range codes {
			a := float32(0)
			for c, v := range u {
				a = fma32(v, code[c], a)
			}
			if a > best {
				best, id = a, int32(k)
			}
		}
		ids = append(ids, id)
	}
	return ids
}

// TestSearch: the same ids as the plain loop, in sizes that fill tiles and slices and that do not, with copies of
// codes, whose lowest number must win.
func TestSearch(t *testing.T) {
	shapes := [][4]int{ // n, tokens, dim, codes
		{1, 16, 8, 512}, {1, 256, 8, 4096}, {2, 65, 8, 1000}, {3, 16, 4, 300}, {1, 33, 16, 700}, {1, 20, 32, 333},
		{4, 7, 5, 129}, {1, 1, 1, 1}, {2, 3, 20, 64},
	}
	if !testing.Short() {
		shapes = append(shapes, [4]int{1, 256, 8, 16384})
	}
	eachChecker(t, func(t *testing.T, c *checker) {
		r := random(99)
		for _, s := range shapes {
			n, tokens, dim, codes := s[0], s[1], s[2], s[3]
			codebook := make([]float32, codes*dim)
			for i := range codebook {
				codebook[i] = r.unit()
				// Of three codes one is a copy of an earlier one, and one nearly so: rounding decides
				// between them, and so shows its order.
				switch k := i / dim; {
				case k%3 == 2:
					codebook[i] = codebook[i-dim*(1+k/2)]
				case k%3 == 1 && k > 3:
					codebook[i] = math.Nextafter32(codebook[i-dim*(1+k/2)], r.unit())
				}
			}
			latents := make([]float32, n*tokens*dim)
			for i := range latents {
				latents[i] = r.unit() * 10
			}
			got, err := c.ask([]int32{2, int32(n), int32(tokens), int32(dim), int32(codes)}, codebook, latents)
			if err != nil {
				t.Fatal(err)
			}
			if want := plainSearch(codebook, latents, n, tokens, dim); !slices.Equal(numbers[int32](t, got), want) {
				t.Errorf("%v: ids differ", s)
			}
		}
		_, err := c.ask([]int32{2, 1, 1, 33, 1}, make([]float32, 33), make([]float32, 33))
		var refused refusal
		if !errors.As(err, &refused) || refused.code != invalid {
			t.Errorf("codes of 33 values: %v", err)
		}
	})
}

// TestCompare: changed ids, their number, packing as api unpacks it, and what is remembered.
func TestCompare(t *testing.T) {
	eachChecker(t, func(t *testing.T, c *checker) {
		r := random(5)
		for _, shape := range [][3]int{{1, 256, 16384}, {3, 16, 512}, {2, 576, 16384}, {4, 64, 2}, {2, 1, 1}, {1, 63, 1000}, {2, 65, 1 << 20}, {1, 1000, 3}} {
			n, tokens, codes := shape[0], shape[1], shape[2]
			bits := api.TokenBits(codes)
			const streams = 6
			last := make([]int32, streams*tokens)
			for i := range last {
				last[i] = int32(r.below(codes))
			}
			order := []int32{5, 0, 3, 2}[:n]
			states := make([]int32, 0, 2*n)
			ids := make([]int32, n*tokens)
			wantLast := slices.Clone(last)
			words := (tokens + 63) / 64
			changed := make([]uint64, n*words)
			counts := make([]int32, n)
			var packed []byte
			for f, stream := range order {
				fresh := int32(r.below(3) / 2)
				states = append(states, stream, fresh)
				for i := range tokens {
					id := last[int(stream)*tokens+i]
					if r.below(4) == 0 {
						id = int32(r.below(codes))
					}
					ids[f*tokens+i] = id
					if fresh != 0 || id != last[int(stream)*tokens+i] {
						changed[f*words+i/64] |= 1 << (i % 64)
						counts[f]++
					}
					wantLast[int(stream)*tokens+i] = id
				}
				var err error
				if packed, err = api.AppendPackedTokens(packed, ids[f*tokens:(f+1)*tokens], bits); err != nil {
					t.Fatal(err)
				}
			}
			got, err := c.ask([]int32{3, int32(n), int32(tokens), int32(bits), streams}, states, ids, last)
			if err != nil {
				t.Fatal(err)
			}
			var want bytes.Buffer
			for _, part := range []any{changed, counts, packed, wantLast, ids} {
				if err := binary.Write(&want, binary.LittleEndian, part); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, want.Bytes()) {
				t.Errorf("%v: mask, counts, packed, last or copy differ", shape)
			}
		}
	})
}

func TestGather(t *testing.T) {
	eachChecker(t, func(t *testing.T, c *checker) {
		in := []int32{1, 2, 3, 11, 12, 13, 21, 22, 23, 31, 32, 33}
		got, err := c.ask([]int32{4, 3, 4, 3}, in, []int32{3, 0, 2})
		if err != nil {
			t.Fatal(err)
		}
		if ids := numbers[int32](t, got); !slices.Equal(ids, []int32{31, 32, 33, 1, 2, 3, 21, 22, 23}) {
			t.Errorf("gathered %v", ids)
		}
	})
}

// TestNormalise: the definition in csrc/kernels/unit.h, to the bit.
func TestNormalise(t *testing.T) {
	eachChecker(t, func(t *testing.T, c *checker) {
		r := random(11)
		for _, width := range []int{1, 96, 255, 256, 300, 1152} {
			in := make([]float32, 2*width)
			for i := range width {
				in[i] = r.unit() * 5 // and the second is zeros
			}
			got, err := c.ask([]int32{5, 2, int32(width)}, in)
			if err != nil {
				t.Fatal(err)
			}
			var lanes [256]float32
			for i, v := range in[:width] {
				lanes[i%256] = fma32(v, v, lanes[i%256])
			}
			for h := 128; h > 0; h /= 2 {
				for l := range h {
					lanes[l] += lanes[l+h]
				}
			}
			length := max(float32(math.Sqrt(float64(lanes[0]))), 1e-12)
			want := make([]float32, 2*width)
			for i := range width {
				want[i] = in[i] / length
			}
			if err := sameFloats(numbers[float32](t, got), want); err != nil {
				t.Errorf("width %d: %v", width, err)
			}
		}
	})
}
