package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/engine/onnxruntime"
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			if tokens == "" || out == "" {
				return usageError{errors.New("--tokens and --out are both needed")}
			}
			ids, err := readTokens(tokens, cmd.InOrStdin())
			if err != nil {
				return err
			}
			opened, library, err := flags.open()
			if err != nil {
				return err
			}
			if len(ids) != opened.spec.Tokens() {
				return fmt.Errorf("%s: %d tokens; this model's grid of %dx%d has %d", tokens, len(ids), opened.spec.Rows, opened.spec.Cols, opened.spec.Tokens())
			}
			decoder, err := library.LoadDecoder(opened.spec, onnxruntime.Options{Threads: flags.threads})
			if err != nil {
				return err
			}
			defer decoder.Close()
			rgb, err := decoder.DecodeRGB(ids)
			if err != nil {
				return fmt.Errorf("%s: %w", tokens, err)
			}
			return writePNG(out, opened.spec.ImageSize, opened.spec.ImageSize, rgb)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&tokens, "tokens", "", "JSON `file` with the ids, or - for standard input (required)")
	cmd.Flags().StringVar(&out, "out", "", "PNG `file` to write (required)")
	return cmd
}

// readTokens reads ids from {"tokens":[...]} or [...]. Of several lines the first counts.
func readTokens(path string, stdin io.Reader) ([]int32, error) {
	in := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read tokens: %w", err)
		}
		defer file.Close()
		in = file
	}
	var first json.RawMessage
	if err := json.NewDecoder(io.LimitReader(in, maxTokenFile)).Decode(&first); err != nil {
		return nil, fmt.Errorf("read tokens %s: %w", path, err)
	}
	var ids []int32
	if err := json.Unmarshal(first, &ids); err == nil {
		return ids, nil
	}
	var line struct {
		Tokens *[]int32 `json:"tokens"`
	}
	if err := json.Unmarshal(first, &line); err != nil {
		return nil, fmt.Errorf("read tokens %s: %w", path, err)
	}
	if line.Tokens == nil {
		return nil, fmt.Errorf("read tokens %s: neither an array of ids nor an object with \"tokens\"", path)
	}
	return *line.Tokens, nil
}
