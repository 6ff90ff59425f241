package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/engine/preprocess"
	"github.com/toklip/toklip/model/npy"
)

// encoded is one line of `toklip encode`.
type encoded struct {
	File      string    `json:"file"`
	Index     int       `json:"index"` // of the picture in a .npy file; 0 for an image
	Grid      [2]int    `json:"grid"`  // rows, columns
	Tokens    []int32   `json:"tokens"`
	Embedding []float32 `json:"embedding"`          // as the model gives it, not normalised
	Features  string    `json:"features,omitempty"` // file of the token features, where asked for
}

func newEncodeCommand() *cobra.Command {
	var flags backendFlags
	var features string
	mode := preprocess.Squash
	cmd := &cobra.Command{
		Use:   "encode --model DIR FILE...",
		Short: "Tokens and embedding of pictures, a JSON object a line",
		Long: `Computes tokens and embedding of PNG and JPEG files, pre-processed as camera frames are, and of .npy files that hold float32
[n,3,S,S] in [-1,1], which are taken as they are (n lines). Each line is

  {"file","index","grid":[rows,cols],"tokens":[...],"embedding":[...]}

Tokens stand row by row. The embedding is as the model gives it, not normalised.
Rotation in a photo's EXIF data is not applied. The first file that cannot be encoded ends the command; the lines before it stand.`,
		Example: `  toklip encode --model models/toklip-s-256 photo.jpg
  toklip encode --model models/toklip-s-256 *.png > tokens.jsonl
  toklip encode --model models/toklip-s-256 --features out images.npy
  toklip encode --model models/toklip-s-256 --backend tensorrt --precision fp16 photo.jpg`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) (err error) {
			opened, err := flags.open()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("resize") {
				mode = opened.spec.Resize
			}
			graphs, err := flags.openEncoder(cmd.Context(), opened, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, graphs.Close()) }()
			if features != "" {
				if err := os.MkdirAll(features, 0o755); err != nil {
					return fmt.Errorf("create --features folder: %w", err)
				}
			}
			e := &fileEncoder{model: opened, graphs: graphs, mode: mode, features: features, written: map[string]string{}, lines: json.NewEncoder(cmd.OutOrStdout())}
			e.lines.SetEscapeHTML(false) // file names stay readable
			for _, file := range files {
				if err := e.file(cmd.Context(), file); err != nil {
					return err
				}
			}
			return nil
		},
	}
	flags.add(cmd, true)
	resizeFlag(cmd, &mode)
	resize := cmd.Flags().Lookup("resize")
	resize.Usage, resize.DefValue = resize.Usage+"; as the model says by default", ""
	cmd.Flags().StringVar(&features, "features", "", "write token features, float32 [tokens,width], as .npy files to this `folder`")
	return cmd
}

// fileEncoder encodes one file after the other.
type fileEncoder struct {
	model    *openedModel
	graphs   imageEncoder
	mode     preprocess.Mode
	features string
	written  map[string]string // feature files of this run, and from which file
	lines    *json.Encoder
}

func (e *fileEncoder) file(ctx context.Context, path string) error {
	if strings.EqualFold(filepath.Ext(path), ".npy") {
		return e.array(ctx, path)
	}
	in, err := readPicture(path)
	if err != nil {
		return err
	}
	size := e.model.spec.ImageSize
	resizer, err := preprocess.New(preprocess.Geometry{Width: in.width, Height: in.height, Format: preprocess.RGB8, Size: size, Mode: e.mode})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	image := make([]float32, 3*size*size)
	if err := resizer.Tensor(image, in.rgb, 3*in.width); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return e.image(ctx, path, 0, image)
}

// array encodes the pictures of a .npy file, read one at a time.
func (e *fileEncoder) array(ctx context.Context, path string) error {
	size := e.model.spec.ImageSize
	in, err := openImages(path, size)
	if err != nil {
		return err
	}
	defer in.Close()
	image := make([]float32, 3*size*size)
	for i := range in.Shape()[0] {
		if err := in.ReadFloat32(image, int64(i)*int64(len(image))); err != nil {
			return err
		}
		if err := checkNormalised(image); err != nil {
			return fmt.Errorf("%s: image %d: %w", path, i, err)
		}
		if err := e.image(ctx, path, i, image); err != nil {
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

func (e *fileEncoder) image(ctx context.Context, path string, index int, image []float32) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ids, features, embedding, err := e.graphs.EncodeImage(image)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	spec := e.model.spec
	line := encoded{File: path, Index: index, Grid: [2]int{spec.Rows, spec.Cols}, Tokens: ids, Embedding: embedding}
	if e.features != "" {
		stem := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		line.Features = filepath.Join(e.features, fmt.Sprintf("%s-%04d.npy", stem, index))
		if other, taken := e.written[line.Features]; taken {
			return fmt.Errorf("%s: its features would overwrite those of %s: encode files of equal names into different folders", path, other)
		}
		e.written[line.Features] = path
		if err := npy.WriteFloat32(line.Features, []int{spec.Tokens(), spec.FeatureDim}, features); err != nil {
			return err
		}
	}
	return e.lines.Encode(line)
}
