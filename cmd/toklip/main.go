// Command toklip gives a robot's cameras a language: it turns camera frames into
// TokLIP's discrete semantic tokens and embeddings and streams them over MQTT.
// One binary holds the daemon and its tools; `toklip help` lists them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/toklip/toklip/cmd/toklip/config"
	"github.com/toklip/toklip/cmd/toklip/quietstart"
)

// Exit codes. They are documented in `toklip help exit-codes`.
const (
	exitOK      = 0
	exitFailure = 1 // the command was understood but failed
	exitUsage   = 2 // unknown command or flag, missing argument
	exitConfig  = 3 // the configuration file is not usable
)

// unversioned is the version of a program that was built without the Makefile.
const unversioned = "devel"

// version is set by the linker (Makefile).
var version = unversioned

func main() {
	quietstart.Over()
	version = programVersion()
	// The first SIGINT or SIGTERM ends everything in order; a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and says with which code the process should end.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var usage usageError
	var configuration *config.Error
	switch {
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "toklip: %v\nTry '%s --help'.\n", err, command.CommandPath())
		return exitUsage
	case errors.As(err, &configuration):
		// Every line begins with FILE:LINE, as editors want it.
		fmt.Fprintln(stderr, err)
		return exitConfig
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintf(stderr, "toklip: interrupted: %v\n", err)
		return exitFailure
	}
	fmt.Fprintf(stderr, "toklip: %v\n", err)
	return exitFailure
}

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// args wraps one of cobra's checks so that its error counts as a usage error and names the argument that is too many, or
// shows what the command takes.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check(cmd, args) == nil {
			return nil
		}
		for n := len(args) - 1; n >= 0; n-- {
			if check(cmd, args[:n]) == nil {
				return usageError{fmt.Errorf("unexpected argument %q", args[n])}
			}
		}
		return usageError{fmt.Errorf("an argument is missing: %s", cmd.UseLine())}
	}
}
