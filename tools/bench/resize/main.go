// Command resize is our half of tools/bench/pillow.py: it resizes one frame as
// often as it is told to and answers with the time that took.
//
//	resize FRAME WIDTH HEIGHT SIZE MODE
//
// FRAME is a file of raw BGR pixels. Each line read is one of: `kernel` (answered
// with its name), `rgb`, `tensor` (answered with nanoseconds), `bytes` (answered
// with the pixels made last by rgb).
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/toklip/toklip/engine/preprocess"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "resize:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 5 {
		return fmt.Errorf("want FRAME WIDTH HEIGHT SIZE MODE, got %d arguments", len(args))
	}
	var n [3]int
	for i := range n {
		v, err := strconv.Atoi(args[1+i])
		if err != nil {
			return fmt.Errorf("argument %q is not a number: %w", args[1+i], err)
		}
		n[i] = v
	}
	mode, err := preprocess.ParseMode(args[4])
	if err != nil {
		return err
	}
	frame, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	size := n[2]
	r, err := preprocess.New(preprocess.Geometry{Width: n[0], Height: n[1], Format: preprocess.BGR8, Size: size, Mode: mode})
	if err != nil {
		return err
	}
	pixels, tensor := make([]byte, 3*size*size), make([]float32, 3*size*size)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		start := time.Now()
		switch lines.Text() {
		case "kernel":
			_, err = fmt.Fprintln(out, r.Kernel())
		case "rgb":
			if err = r.RGB(pixels, frame, 3*n[0]); err == nil {
				_, err = fmt.Fprintln(out, time.Since(start).Nanoseconds())
			}
		case "tensor":
			if err = r.Tensor(tensor, frame, 3*n[0]); err == nil {
				_, err = fmt.Fprintln(out, time.Since(start).Nanoseconds())
			}
		case "bytes":
			_, err = out.Write(pixels)
		default:
			err = fmt.Errorf("command %q is unknown", lines.Text())
		}
		if err != nil {
			return err
		}
	}
	return lines.Err()
}
