package main

import (
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
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{unknownCommand(args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
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
	add("tools", newEncodeCommand(), newDecodeCommand(), newPreprocessCommand(), newModelCommand(), newBenchCommand())
	add("machine", newDoctorCommand(), newVersionCommand())
	root.AddCommand(exitCodesTopic())
	return root
}

type unknownCommand string

func (c unknownCommand) Error() string { return "unknown command " + strings.TrimSpace(string(c)) }

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `0  done
1  the command was understood but failed; the message says why
2  unknown command or flag, missing argument
3  the configuration file cannot be used; every problem is listed with its line`,
	}
}
