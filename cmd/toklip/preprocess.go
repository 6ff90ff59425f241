package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/engine/preprocess"
)

func newPreprocessCommand() *cobra.Command {
	var size int
	mode := preprocess.Squash
	cmd := &cobra.Command{
		Use:   "preprocess --size S [--resize MODE] IN OUT.png",
		Short: "Show what the network sees of a picture",
		Long: `Resizes a PNG or JPEG picture as the daemon resizes a camera frame, and writes the result
before normalisation. The resampling is Pillow's antialiased bicubic.`,
		Example: `  toklip preprocess --size 256 photo.jpg seen.png
  toklip preprocess --size 384 --resize longest photo.jpg seen.png`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, files []string) error {
			if err := checkPNGName(files[1]); err != nil {
				return err
			}
			in, err := readPicture(files[0])
			if err != nil {
				return err
			}
			resizer, err := preprocess.New(preprocess.Geometry{
				Width: in.width, Height: in.height, Format: preprocess.RGB8, Size: size, Mode: mode,
			})
			if err != nil {
				return fmt.Errorf("%s: %w", files[0], err)
			}
			out := make([]byte, 3*size*size)
			if err := resizer.RGB(out, in.rgb, 3*in.width); err != nil {
				return err
			}
			return writePNG(files[1], size, size, out)
		},
	}
	cmd.Flags().IntVar(&size, "size", 256, "edge of the square in `pixels`: 256 or 384 for the published models")
	resizeFlag(cmd, &mode)
	return cmd
}

// resizeFlag adds --resize.
func resizeFlag(cmd *cobra.Command, mode *preprocess.Mode) {
	cmd.Flags().Var((*modeValue)(mode), "resize", "`mode` of resizing: squash (as TokLIP was trained), shortest (crop) or longest (pad)")
	_ = cmd.RegisterFlagCompletionFunc("resize", cobra.FixedCompletions([]string{"squash", "shortest", "longest"}, cobra.ShellCompDirectiveNoFileComp))
}

// modelResizeFlag adds --resize of a command whose model says what to do by default.
func modelResizeFlag(cmd *cobra.Command, mode *preprocess.Mode) {
	resizeFlag(cmd, mode)
	resize := cmd.Flags().Lookup("resize")
	resize.Usage, resize.DefValue = resize.Usage+"; as the model says by default", ""
}

// modeValue makes a resize mode a flag.
type modeValue preprocess.Mode

func (m *modeValue) String() string { return preprocess.Mode(*m).String() }
func (m *modeValue) Type() string   { return "mode" }
func (m *modeValue) Set(text string) (err error) {
	mode, err := preprocess.ParseMode(text)
	if err == nil {
		*m = modeValue(mode)
	}
	return err
}
