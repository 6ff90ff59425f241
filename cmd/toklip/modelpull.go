package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/model"
	"github.com/toklip/toklip/model/pull"
)

func newPullCommand() *cobra.Command {
	var flags importFlags
	var downloads, endpoint string
	var accept, noImport bool
	cmd := &cobra.Command{
		Use:   "pull NAME...",
		Short: "Download a published checkpoint, verify it and import it",
		Long:  pullHelp(),
		Example: `  toklip model pull TokLIP_S_256 --accept-license
  toklip model pull TokLIP_L_384 --out models/toklip-l-384 --precision fp32,int8
  toklip model pull someone/distilled-toklip:model.safetensors --no-import`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			var entries []pull.Entry
			for _, name := range names {
				entry, err := pull.Find(name)
				if err != nil {
					return err
				}
				entries = append(entries, entry)
			}
			if flags.out == "" {
				stem := entries[0].BaseName()
				flags.out = filepath.Join("models", api.SanitizeName(strings.TrimSuffix(stem, filepath.Ext(stem))))
			}
			opts := model.Options{}
			if !noImport { // better before than after gigabytes
				var err error
				if opts.Config, err = flags.check(); err != nil {
					return err
				}
			}
			var sources, licences, files []string
			for _, entry := range entries {
				printEntry(cmd.ErrOrStderr(), entry)
				accepted := accept || askAccept(cmd.InOrStdin(), cmd.ErrOrStderr())
				bar := newProgress(cmd.ErrOrStderr(), true)
				defer bar.abandon()
				result, err := pull.Pull(cmd.Context(), entry, pull.Options{
					Dir: downloads, AcceptLicense: accepted, Endpoint: endpoint, Token: os.Getenv("HF_TOKEN"),
					Logger: warnings(cmd.ErrOrStderr()),
					Progress: func(p pull.Progress) {
						stage := "download " + entry.BaseName()
						if p.Phase == pull.Checking {
							stage = "check " + entry.BaseName()
						}
						bar.update(stage, p.Done, p.Total)
					},
				})
				if errors.Is(err, pull.ErrLicenseNotAccepted) {
					return fmt.Errorf("the terms of %s are not accepted: read them above and repeat the command with --accept-license", entry.Name)
				}
				if err != nil {
					return err
				}
				bar.finish()
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, SHA-256 %s (%s)\n", result.Path, byteSize(result.Size), result.SHA256, result.Verified)
				files = append(files, result.Path)
				sources = append(sources, result.Source)
				if entry.License.Name != "" {
					licences = append(licences, entry.License.Name)
				}
			}
			if noImport {
				return nil
			}
			reader, err := openCheckpoints(files)
			if err != nil {
				return err
			}
			defer reader.Close()
			opts.Source, opts.Licence = strings.Join(sources, " + "), strings.Join(licences, " + ")
			return importModel(cmd.Context(), reader, files, flags, opts, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags.add(cmd)
	cmd.Flags().Lookup("out").Usage = "`folder` to write; models/<name> by default"
	cmd.Flags().StringVar(&downloads, "downloads", "downloads", "`folder` for the downloaded files")
	cmd.Flags().StringVar(&endpoint, "endpoint", os.Getenv("HF_ENDPOINT"), "`URL` of a mirror, instead of "+pull.DefaultEndpoint+"; HF_ENDPOINT sets it too")
	cmd.Flags().BoolVar(&accept, "accept-license", false, "accept the terms that are shown")
	cmd.Flags().BoolVar(&accept, "accept-licence", false, "the same")
	_ = cmd.Flags().MarkHidden("accept-licence")
	cmd.Flags().BoolVar(&noImport, "no-import", false, "download and verify only")
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, entry := range pull.Catalogue() {
			names = append(names, entry.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func pullHelp() string {
	var b strings.Builder
	b.WriteString(`Shows source and terms of a published checkpoint, downloads it once they are accepted, verifies its SHA-256 and imports it. An interrupted
download goes on where it stopped. Several names are imported as one model (TokLIP and its VQ tokenizer as two files). Known names:

`)
	for _, entry := range pull.Catalogue() {
		fmt.Fprintf(&b, "  %-16s %s: %s\n", entry.Name, entry.Repo, entry.File)
	}
	b.WriteString("\nOther repositories: OWNER/REPOSITORY[@REVISION]:FILE. HF_TOKEN is sent where it is set.")
	return b.String()
}

func printEntry(out io.Writer, entry pull.Entry) {
	fmt.Fprintf(out, "%s\n  source   %s\n  licence  %s\n", entry.Name, entry.Source, orNone(entry.License.Name))
	if entry.License.Summary != "" {
		fmt.Fprintf(out, "           %s\n", entry.License.Summary)
	}
	if entry.License.URL != "" {
		fmt.Fprintf(out, "           %s\n", entry.License.URL)
	}
}

// askAccept asks a person at a terminal; nobody else can accept without the flag.
func askAccept(in io.Reader, out io.Writer) bool {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return false
	}
	fmt.Fprint(out, "Accept these terms? [y/N] ")
	answer, _ := bufio.NewReader(file).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
