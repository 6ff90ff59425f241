package main

import (
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
			e := &fileEncoder{model: opened, graphs: graphs, features: features, written: map[string]string{}, lines: json.NewEncoder(cmd.OutOrStdout())}
			e.lines.SetEscapeHTML(false) // file names stay readable
			images := imageFiles{size: opened.spec.ImageSize, mode: mode}
			for _, file := range files {
				if err := images.each(cmd.Context(), file, e.image); err != nil {
					return err
				}
			}
			return nil
		},
	}
	flags.add(cmd, true)
	modelResizeFlag(cmd, &mode)
	cmd.Flags().StringVar(&features, "features", "", "write token features, float32 [tokens,width], as .npy files to this `folder`")
	return cmd
}

// fileEncoder encodes one file after the other.
type fileEncoder struct {
	model    *openedModel
	graphs   imageEncoder
	features string
	written  map[string]string // feature files of this run, and from which file
	lines    *json.Encoder
}

func (e *fileEncoder) image(in *fileImage) error {
	ids, features, embedding, err := e.graphs.EncodeImage(in.values)
	if err != nil {
		return fmt.Errorf("%s: %w", in.path, err)
	}
	spec := e.model.spec
	line := encoded{File: in.path, Index: in.index, Grid: [2]int{spec.Rows, spec.Cols}, Tokens: ids, Embedding: embedding}
	if e.features != "" {
		stem := strings.TrimSuffix(filepath.Base(in.path), filepath.Ext(in.path))
		line.Features = filepath.Join(e.features, fmt.Sprintf("%s-%04d.npy", stem, in.index))
		if other, taken := e.written[line.Features]; taken {
			return fmt.Errorf("%s: its features would overwrite those of %s: encode files of equal names into different folders", in.path, other)
		}
		e.written[line.Features] = in.path
		if err := npy.WriteFloat32(line.Features, []int{spec.Tokens(), spec.FeatureDim}, features); err != nil {
			return err
		}
	}
	return e.lines.Encode(line)
}
