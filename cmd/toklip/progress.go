package main

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far long work has come: a bar on a terminal, a line at each
// stage's end elsewhere.
type progress struct {
	out   io.Writer
	live  bool
	bytes bool // counts are bytes
	stage string
	begun time.Time
	total int64 // of the bar
	bar   *progressbar.ProgressBar
}

// newProgress writes to out, which is a terminal or not.
func newProgress(out io.Writer, bytes bool) *progress {
	file, ok := out.(*os.File)
	return &progress{out: out, live: ok && term.IsTerminal(int(file.Fd())), bytes: bytes}
}

// update tells that done of total units of a stage are done; total is negative while unknown. Another stage's name ends the
// one before.
func (p *progress) update(stage string, done, total int64) {
	if stage != p.stage {
		p.finish()
		p.stage, p.begun = stage, time.Now()
		if p.live {
			p.total = total
			p.bar = progressbar.NewOptions64(total,
				progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(fmt.Sprintf("%-28s", stage)),
				progressbar.OptionShowBytes(p.bytes), progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(30),
				progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionUseANSICodes(true))
		}
	}
	if p.bar == nil {
		return
	}
	if total != p.total {
		p.total = total
		p.bar.ChangeMax64(total)
	}
	if total >= 0 {
		done = min(done, total)
	}
	_ = p.bar.Set64(done) // only the terminal can fail
}

// finish ends the current stage.
func (p *progress) finish() {
	if p.stage == "" {
		return
	}
	if p.bar != nil {
		_ = p.bar.Finish()
		fmt.Fprintln(p.out)
		p.bar = nil
	} else {
		fmt.Fprintf(p.out, "%s: done in %s\n", p.stage, round(time.Since(p.begun)))
	}
	p.stage = ""
}

// abandon leaves a stage that was not finished, so that an error begins on a line of its own. After finish it does nothing.
func (p *progress) abandon() {
	if p.bar != nil {
		_ = p.bar.Exit()
		fmt.Fprintln(p.out)
		p.bar = nil
	}
	p.stage = ""
}

// round shortens a duration to what a person reads.
func round(d time.Duration) time.Duration {
	switch {
	case d > 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d > 100*time.Millisecond:
		return d.Round(time.Millisecond)
	case d > time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(100 * time.Nanosecond)
}

// peakMemory is the largest resident set this process has had, in bytes.
func peakMemory() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return usage.Maxrss * 1024
}

// byteSize writes a number of bytes for people: "617 kB", "4.6 GB".
func byteSize(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	value, unit := float64(n), 0
	for value >= 1000 && unit < len(units)-1 {
		value /= 1000
		unit++
	}
	if unit == 0 || value >= 100 {
		return fmt.Sprintf("%.0f %s", value, units[unit])
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}
