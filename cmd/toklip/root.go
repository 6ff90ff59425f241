package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newRoot builds the whole command tree. Every command is made by hand here, so
// that this list is the index of the program.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "toklip",
		Short: "Semantic tokens and embeddings of camera frames, over MQTT",
		Long: `toklip gives a robot's cameras a language. It turns frames into TokLIP's discrete
semantic tokens, token features and image embeddings, and streams them over MQTT.

The first result needs no GPU, no camera and no account:

  toklip run --demo`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddGroup(
		&cobra.Group{ID: "daemon", Title: "Daemon:"},
		&cobra.Group{ID: "tools", Title: "Tools:"},
		&cobra.Group{ID: "machine", Title: "This machine:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("daemon", newRunCommand(), newWatchCommand(), newConfigCommand())
	add("tools", newEncodeCommand(), newDecodeCommand(), newTextCommand(), newLabelCommand(), newPreprocessCommand(), newModelCommand(), newEngineCommand(), newEvalCommand(), newBenchCommand())
	add("machine", newDoctorCommand(), newVersionCommand())
	root.AddCommand(exitCodesTopic())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	finish(root)
	return root
}

// finish gives every command of the tree, cobra's own among them, the same manners.
func finish(cmd *cobra.Command) {
	cmd.Long = wrap(cmd.Long, helpWidth)
	switch {
	case cmd.Name() == "help":
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = unknownCommand(found, rest[0])
			}
			return err
		}
	case cmd.HasSubCommands():
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	for _, c := range cmd.Commands() {
		finish(c)
	}
}

// unknownCommand is the error of a word that is none of parent's commands.
func unknownCommand(parent *cobra.Command, word string) error {
	if parent.SuggestionsMinimumDistance <= 0 {
		parent.SuggestionsMinimumDistance = 2
	}
	hint := ""
	if near := parent.SuggestionsFor(word); len(near) > 0 {
		hint = ": did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError{fmt.Errorf("unknown command %q of %s%s", word, parent.CommandPath(), hint)}
}

// helpWidth is how wide the paragraphs of help texts are, columns.
const helpWidth = 80

// wrap fills paragraphs to a width. Indented lines stay as they are.
func wrap(text string, width int) string {
	var out []string
	open := false // the last line may be continued
	for _, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == ' ' {
			out, open = append(out, line), false
			continue
		}
		for _, word := range strings.Fields(line) {
			if last := len(out) - 1; open && len(out[last])+1+len(word) <= width {
				out[last] += " " + word
				continue
			}
			out, open = append(out, word), true
		}
	}
	return strings.Join(out, "\n")
}

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `The exit codes of every command:

  0  done
  1  the command was understood but failed; the message says why
  2  unknown command or flag, missing argument
  3  the configuration file cannot be used; each problem is listed with its line`,
	}
}
