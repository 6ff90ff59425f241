package trt

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"unsafe"
)

// arena pins what a call into C reads, until free.
type arena struct{ pinner runtime.Pinner }

// text gives C's form of a text, 0 for an empty one. A text that C would cut short is an error.
func (a *arena) text(name, s string) (uintptr, error) {
	if s == "" {
		return 0, nil
	}
	if strings.IndexByte(s, 0) >= 0 {
		return 0, fmt.Errorf("%s %q has a zero byte in it", name, s)
	}
	b := append([]byte(s), 0)
	a.pinner.Pin(&b[0])
	return uintptr(unsafe.Pointer(&b[0])), nil
}

func (a *arena) free() { a.pinner.Unpin() }

// pinned pins a slice and gives its address, 0 for an empty one.
func pinned[T any](a *arena, s []T) uintptr {
	if len(s) == 0 {
		return 0
	}
	a.pinner.Pin(&s[0])
	return uintptr(unsafe.Pointer(&s[0]))
}

// number is a number of Go on its way into a struct of C.
type number struct {
	name string
	from int
	to   *int32
}

// numbers fills C's integers; one that does not fit is an error.
func numbers(ns ...number) error {
	for _, n := range ns {
		if n.from < math.MinInt32 || n.from > math.MaxInt32 {
			return fmt.Errorf("%s %d is out of range", n.name, n.from)
		}
		*n.to = int32(n.from)
	}
	return nil
}
