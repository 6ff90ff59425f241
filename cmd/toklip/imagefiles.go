package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/model/npy"
)

// imageFiles reads what commands take as images: PNG and JPEG files, pre-processed as camera frames are, and .npy files, whose
// float32 [n,3,size,size] in [-1,1] are taken as they are.
type imageFiles struct {
	size int
	mode preprocess.Mode
}

// fileImage is an image of a file. It is valid until the next one.
type fileImage struct {
	path     string
	index    int                 // in a .npy file; 0 for a picture
	values   []float32           // [3,size,size], as the network takes it
	geometry preprocess.Geometry // how it came to be
}

// each calls do with every image of a file, until it fails.
func (f imageFiles) each(ctx context.Context, path string, do func(*fileImage) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if strings.EqualFold(filepath.Ext(path), ".npy") {
		return f.array(ctx, path, do)
	}
	in, err := readPicture(path)
	if err != nil {
		return err
	}
	geometry := preprocess.Geometry{Width: in.width, Height: in.height, Format: preprocess.RGB8, Size: f.size, Mode: f.mode}
	resizer, err := preprocess.New(geometry)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	values := make([]float32, 3*f.size*f.size)
	if err := resizer.Tensor(values, in.rgb, 3*in.width); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return do(&fileImage{path: path, values: values, geometry: geometry})
}

// array reads the images of a .npy file one at a time.
func (f imageFiles) array(ctx context.Context, path string, do func(*fileImage) error) error {
	in, err := openImages(path, f.size)
	if err != nil {
		return err
	}
	defer in.Close()
	values := make([]float32, 3*f.size*f.size)
	geometry := preprocess.Geometry{Width: f.size, Height: f.size, Format: preprocess.RGB8, Size: f.size, Mode: preprocess.Squash}
	for i := range in.Shape()[0] {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := in.ReadFloat32(values, int64(i)*int64(len(values))); err != nil {
			return err
		}
		if err := checkNormalised(values); err != nil {
			return fmt.Errorf("%s: image %d: %w", path, i, err)
		}
		if err := do(&fileImage{path: path, index: i, values: values, geometry: geometry}); err != nil {
			return err
		}
	}
	return nil
}

// openImages opens a .npy file of pictures [n,3,size,size].
func openImages(path string, size int) (*npy.Reader, error) {
	in, err := npy.Open(path)
	if err != nil {
		return nil, err
	}
	shape := in.Shape()
	if len(shape) != 4 || shape[1] != 3 || shape[2] != size || shape[3] != size {
		in.Close()
		return nil, fmt.Errorf("%s: holds %s %v; this model takes float32 [n,3,%d,%d]", path, in.DType(), shape, size, size)
	}
	return in, nil
}

// checkNormalised refuses values no normalised image has: the networks would give tokens of them all the same.
func checkNormalised(image []float32) error {
	const rounding = 1e-3
	for i, v := range image {
		if !(v >= -1-rounding && v <= 1+rounding) {
			return fmt.Errorf("value %g at element %d is not in [-1,1]: of levels 0 to 255 make x/127.5 - 1", v, i)
		}
	}
	return nil
}
