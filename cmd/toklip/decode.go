package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// maxTokenFile bounds what is read of a token file: far more than any grid needs.
const maxTokenFile = 64 << 20

func newDecodeCommand() *cobra.Command {
	var flags backendFlags
	var tokens, out string
	cmd := &cobra.Command{
		Use:   "decode --model DIR --tokens F.json --out F.png",
		Short: "Turn tokens back into a picture",
		Long: `Decodes the tokens of one frame with the model's VQ decoder. The file holds what 'toklip encode' prints or a message of a
.../tokens/json topic, or just the array of ids; "-" reads standard input.`,
		Example: `  toklip encode --model models/toklip-s-256 photo.jpg | toklip decode --model models/toklip-s-256 --tokens - --out seen.png
  mosquitto_sub -t 'toklip/+/camera/front/tokens/json' -C 1 | toklip decode --model models/toklip-s-256 --tokens - --out now.png`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			switch {
			case tokens == "":
				return usageError{errors.New("--tokens is missing: name a file with tokens, or - for standard input")}
			case out == "":
				return usageError{errors.New("--out is missing: name the PNG file to write")}
			}
			if err := checkPNGName(out); err != nil {
				return err
			}
			opened, err := flags.open()
			if err != nil {
				return err
			}
			frame, err := readTokens(tokens, cmd.InOrStdin())
			if err != nil {
				return err
			}
			ids := *frame.Tokens
			if hash := frame.Header.Model; hash != "" && !strings.HasPrefix(opened.manifest.ModelHash, hash) {
				fmt.Fprintf(cmd.ErrOrStderr(), "note: these tokens were made with model %s, and %s is %s: unless both share a codebook the picture means nothing\n",
					hash, opened.dir, short(opened.manifest.ModelHash))
			}
			if spec := opened.spec; len(ids) != spec.Tokens() || frame.Grid != nil && *frame.Grid != [2]int{spec.Rows, spec.Cols} {
				return fmt.Errorf("%s: %s; this model's grid of %dx%d has %d: were they made with another model?", tokens, frame, spec.Rows, spec.Cols, spec.Tokens())
			}
			decoder, err := flags.openDecoder(cmd.Context(), opened, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, decoder.Close()) }()
			rgb, err := decoder.DecodeRGB(ids)
			if err != nil {
				return fmt.Errorf("%s: %w", tokens, err)
			}
			return writePNG(out, opened.spec.ImageSize, opened.spec.ImageSize, rgb)
		},
	}
	flags.add(cmd, false)
	cmd.Flags().StringVar(&tokens, "tokens", "", "JSON `file` with the ids, or - for standard input (required)")
	cmd.Flags().StringVar(&out, "out", "", "PNG `file` to write (required)")
	return cmd
}

// tokenFrame is what is used of a line of `toklip encode` or of a message.
type tokenFrame struct {
	Header struct {
		Model string `json:"model"` // first digits of the model's hash
	} `json:"header"`
	Grid   *[2]int  `json:"grid"`
	Tokens *[]int32 `json:"tokens"`
}

// String says how many tokens there are.
func (f *tokenFrame) String() string {
	if f.Grid == nil {
		return plural(len(*f.Tokens), "token")
	}
	return fmt.Sprintf("%s in a grid of %dx%d", plural(len(*f.Tokens), "token"), f.Grid[0], f.Grid[1])
}

// readTokens reads {"tokens":[...]} or [...]; the result has tokens. Of several lines the first counts.
func readTokens(path string, stdin io.Reader) (*tokenFrame, error) {
	in := stdin
	if path == "-" {
		path = "standard input"
	} else {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read tokens: %w", err)
		}
		defer file.Close()
		in = file
	}
	var first json.RawMessage
	err := json.NewDecoder(io.LimitReader(in, maxTokenFile)).Decode(&first)
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read tokens: %s is empty", path)
	}
	var frame tokenFrame
	if err == nil && first[0] == '[' {
		err = json.Unmarshal(first, &frame.Tokens)
	} else if err == nil {
		err = json.Unmarshal(first, &frame)
	}
	var mistyped *json.UnmarshalTypeError
	if errors.As(err, &mistyped) {
		return nil, fmt.Errorf("read tokens: %s, byte %d: a JSON %s: expected is an array of ids, which are whole numbers, or an object with \"tokens\"",
			path, mistyped.Offset, mistyped.Value)
	}
	if err != nil {
		return nil, fmt.Errorf("read tokens: %s: %w", path, err)
	}
	if frame.Tokens == nil {
		return nil, fmt.Errorf("read tokens: %s: neither an array of ids nor an object with \"tokens\"", path)
	}
	return &frame, nil
}
