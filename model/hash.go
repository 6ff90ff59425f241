package model

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/graph"
	"github.com/toklip/toklip/model/onnx"
)

// hashes of what a checkpoint says, whatever format it says it in.
type hashes struct {
	model    string
	codebook string
	space    string
}

// hashTensors reads every tensor of the image tower once.
//
//	model    SHA-256 over, in order of names: name, rank and dimensions, SHA-256 of the float32 values
//	codebook the same of the codebook alone, under the name "codebook"
//	space    the first 16 bytes of SHA-256 over the model hash and what else decides the embedding
func hashTensors(ctx context.Context, r checkpoint.Reader, a *graph.Arch, progress func(done, total int64)) (hashes, error) {
	names := slices.Sorted(slices.Values(a.Tensors()))
	sums, err := sumTensors(ctx, r, names, a.Parameters, progress)
	if err != nil {
		return hashes{}, err
	}
	all, book := sha256.New(), sha256.New()
	for i, name := range names {
		info, _ := r.Lookup(name)
		describe(all, name, info.Shape, sums[i])
		if name == a.CodebookTensor() {
			describe(book, "codebook", info.Shape, sums[i])
		}
	}
	h := hashes{model: hex.EncodeToString(all.Sum(nil)), codebook: hex.EncodeToString(book.Sum(nil))}
	space := sha256.Sum256(fmt.Appendf(nil, "toklip embedding space 1\n%s\nheads %d\ngroups %d\n", h.model, a.Heads, a.Groups))
	h.space = hex.EncodeToString(space[:16])
	return h, nil
}

// hashText is SHA-256 over all that decides what ids and embeddings a text has: the text tower's tensors as in the model hash, its
// heads, and the tokenizer, which may be nil.
func hashText(ctx context.Context, r checkpoint.Reader, t *graph.TextArch, tokenizer *File, progress func(done, total int64)) (string, error) {
	names := slices.Sorted(slices.Values(t.Tensors()))
	sums, err := sumTensors(ctx, r, names, t.Parameters, progress)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for i, name := range names {
		info, _ := r.Lookup(name)
		describe(h, name, info.Shape, sums[i])
	}
	sum := ""
	if tokenizer != nil {
		sum = tokenizer.SHA256
	}
	fmt.Fprintf(h, "\nheads %d\ntokenizer %s\n", t.Heads, sum)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// sumTensors gives the SHA-256 of the values of each tensor, several computed at a time. total is how many values they have together.
func sumTensors(ctx context.Context, r checkpoint.Reader, names []string, total int64, progress func(done, total int64)) ([][sha256.Size]byte, error) {
	sums := make([][sha256.Size]byte, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	var done atomic.Int64
	for i, name := range names {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			var err error
			sums[i], err = hashTensor(ctx, r, name)
			info, _ := r.Lookup(name)
			done.Add(info.Len())
			return err
		})
		progress(done.Load(), total)
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	progress(total, total)
	return sums, nil
}

func describe(h hash.Hash, name string, shape []int64, sum [sha256.Size]byte) {
	fmt.Fprintf(h, "%d:%s", len(name), name)
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(shape)))
	for _, d := range shape {
		b = binary.LittleEndian.AppendUint64(b, uint64(d))
	}
	h.Write(b)
	h.Write(sum[:])
}

func hashTensor(ctx context.Context, r checkpoint.Reader, name string) ([sha256.Size]byte, error) {
	const piece = 1 << 16
	info, _ := r.Lookup(name)
	h := sha256.New()
	values := make([]float32, min(piece, info.Len()))
	bytes := make([]byte, 0, 4*piece)
	for at := int64(0); at < info.Len(); at += piece {
		if err := ctx.Err(); err != nil {
			return [sha256.Size]byte{}, err
		}
		values = values[:min(piece, info.Len()-at)]
		if err := r.ReadFloat32(name, values, at); err != nil {
			return [sha256.Size]byte{}, err
		}
		for i, v := range values {
			if v-v != 0 { // an infinity or not a number
				return [sha256.Size]byte{}, fmt.Errorf("tensor %q: element %d is %v; the checkpoint is damaged, or its training diverged", name, at+int64(i), v)
			}
		}
		bytes = onnx.AppendFloats(bytes[:0], values)
		h.Write(bytes)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// hashFile reads a whole file; add hears of the bytes as they are read.
func hashFile(ctx context.Context, path string, add func(int64)) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("verify model: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	b := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(b)
		h.Write(b[:n])
		add(int64(n))
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", fmt.Errorf("verify model: read %q: %w", filepath.Base(path), err)
		}
	}
}
