package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/config"
)

func newRunCommand() *cobra.Command {
	var file, listen string
	var demo, quiet bool
	cmd := &cobra.Command{
		Use:   "run [--config FILE | --demo]",
		Short: "Run the daemon",
		Long: `Takes frames from the configured cameras through the model and publishes tokens, embeddings and labels over MQTT, until SIGINT or SIGTERM.
It then ends within 5 seconds: the state "stopping" and the availability "offline" are published, and the exit code is 0.
SIGHUP has labels and regions of the configuration read again while frames flow; what else has changed in it needs a restart.

--demo needs nothing else: an embedded broker on 127.0.0.1:1883, a bundled clip as camera, a small model that was trained on rendered rooms, and labels of what is
in them. What arrives over MQTT is shown in the terminal.`,
		Example: `  toklip run --demo
  toklip run --config /etc/toklip/toklip.toml`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if demo == (file != "") {
				return usageError{errors.New("give either --config FILE or --demo")}
			}
			if demo {
				return runDemo(cmd.Context(), demoOptions{listen: listen, quiet: quiet, in: cmd.InOrStdin(), out: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()})
			}
			read := func() (config.Config, error) { return readConfig(file, listen) }
			cfg, err := read()
			if err != nil {
				return err
			}
			return runConfigured(cmd.Context(), cfg, read, newLogger(cfg.Log, cmd.ErrOrStderr()))
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "TOML `file`; configs/reference.toml lists every key")
	cmd.Flags().BoolVar(&demo, "demo", false, "run the bundled clip and model with a broker inside")
	cmd.Flags().StringVar(&listen, "listen", "", "`address` of the embedded broker, instead of the configured one")
	cmd.Flags().BoolVar(&quiet, "no-watch", false, "with --demo: do not show what arrives, only log")
	_ = cmd.MarkFlagFilename("config", "toml")
	return cmd
}

// readConfig reads the configuration of a daemon.
func readConfig(file, listen string) (config.Config, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return config.Config{}, err
	}
	if listen != "" {
		cfg.MQTT.Listen = listen
	}
	if len(cfg.Cameras) == 0 {
		return config.Config{}, &config.Error{File: file, Problems: []config.Problem{{Text: "no camera: add a [[camera]] table (configs/reference.toml shows one)"}}}
	}
	return cfg, nil
}

// runConfigured runs one daemon until ctx ends, whose configuration is read again at SIGHUP.
func runConfigured(ctx context.Context, cfg config.Config, read func() (config.Config, error), log *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	d, err := newDaemon(cfg, log)
	if err != nil {
		return err
	}
	d.source = configSource{read: read, reload: hangup}
	return d.run(ctx)
}

// runDaemon runs one daemon until ctx ends.
func runDaemon(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	d, err := newDaemon(cfg, log)
	if err != nil {
		return err
	}
	return d.run(ctx)
}

func newLogger(cfg config.Log, out io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}
