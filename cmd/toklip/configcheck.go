package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/config"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Check a configuration file",
		Example: "  toklip config check /etc/toklip/toklip.toml",
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check FILE...",
		Short: "Report every problem of configuration files with its line",
		Long: `Reads each file as 'toklip run --config' would and reports every unknown key and unusable
value as FILE:LINE: KEY: what is wrong and what to do. Nothing is started.`,
		Example: "  toklip config check /etc/toklip/toklip.toml",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			var all []error
			for _, file := range files {
				cfg, err := config.Load(file)
				if err != nil {
					all = append(all, err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: ok (%s)\n", file, plural(len(cfg.Cameras), "camera"))
			}
			return errors.Join(all...)
		},
	})
	return cmd
}

// plural writes "1 camera", "2 cameras".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
