package main

import (
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/cmd/toklip/watch"
)

func newWatchCommand() *cobra.Command {
	var options watch.Options
	cmd := &cobra.Command{
		Use:   "watch [--broker URL] [FILTER]",
		Short: "Show what nodes publish, live",
		Long: `Subscribes to the topics of all nodes, decodes what arrives and shows rates, latencies, drops and the changed cells of every camera.
In a pipe it writes a line a message; --json writes {"topic","message"} objects. A FILTER is an MQTT topic filter, used as it is.`,
		Example: `  toklip watch
  toklip watch --broker mqtt://robot-7:1883 'toklip/robot-7/camera/front/+'
  toklip watch --json --count 1 'toklip/+/camera/+/tokens' | jq .message.tokens`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, filter []string) error {
			if len(filter) == 1 {
				options.Filter = filter[0]
			}
			options.In, options.Out = cmd.InOrStdin(), cmd.OutOrStdout()
			if out, ok := options.Out.(*os.File); options.JSON || options.Plain || !ok || !term.IsTerminal(int(out.Fd())) {
				// The view, which shows lost connections itself, has the terminal for itself.
				options.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			}
			return watch.Run(cmd.Context(), options)
		},
	}
	cmd.Flags().StringVar(&options.Broker, "broker", watch.DefaultBroker, "`URL` of the broker: mqtt://, mqtts://, ws:// or wss://")
	cmd.Flags().StringVar(&options.Prefix, "prefix", api.DefaultPrefix, "first `part` of the topics")
	cmd.Flags().BoolVar(&options.JSON, "json", false, "write a JSON object a message")
	cmd.Flags().BoolVar(&options.Plain, "plain", false, "write a line a message even on a terminal")
	cmd.Flags().IntVar(&options.Count, "count", 0, "end after this `number` of messages; 0: no limit")
	cmd.Flags().DurationVar(&options.Duration, "duration", time.Duration(0), "end after this `time`, such as 30s; 0: no limit")
	return cmd
}
