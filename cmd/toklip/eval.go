package main

import "github.com/spf13/cobra"

func newEvalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eval",
		Short: "How good a model is: zero-shot accuracy, retrieval, the demo's figures",
		Long: `Judges a model by pictures and texts of yours or of a public set. Everything runs on this machine; nothing is downloaded.
Embeddings of texts are kept on disk, so that a second run does not load the text tower. More than 10000 would push out those of daemons: they are kept only in a
folder that --text-cache names.`,
		Example: `  toklip eval zeroshot ILSVRC2012/val --model models/toklip-s-256 --classes imagenet.txt --templates openai80.txt --text-cache imagenet-texts
  toklip eval retrieval --model models/toklip-s-256 --captions coco_test.json --images coco/val2014
  toklip eval demo demo/heldout`,
	}
	cmd.AddCommand(newZeroShotCommand(), newRetrievalCommand(), newEvalDemoCommand())
	return cmd
}
