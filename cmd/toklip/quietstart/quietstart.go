// Package quietstart keeps libraries from asking the terminal questions while the program starts.
//
// The library of the terminal view, bubbletea, asks for the terminal's background colour when it is initialised, in
// every command of a program that contains it: the question shows as rubbish on terminals that do not know it, and
// those that do not answer, serial consoles above all, hold up each command for five seconds. It does not ask a dumb
// terminal. So TERM says "dumb" until main begins.
//
// Go initialises packages in the order of their import paths, each as soon as those it imports are (The Go Programming
// Language Specification, "Program initialization"). This one imports nothing but os, so it comes before os/signal,
// and bubbletea, which imports os/signal, comes after both. A test of cmd/toklip runs the program on a silent terminal.
package quietstart

import "os"

// variable is the terminal's type.
const variable = "TERM"

// before is what the user's environment says, taken while packages are initialised; that is the package's whole point.
var before, given = hide()

func hide() (string, bool) {
	value, ok := os.LookupEnv(variable)
	if ok {
		_ = os.Setenv(variable, "dumb") // cannot fail with these arguments
	}
	return value, ok
}

// Over gives TERM back. main calls it before anything else.
func Over() {
	if given {
		_ = os.Setenv(variable, before) // it was in the environment, so it can be put there
	}
}
