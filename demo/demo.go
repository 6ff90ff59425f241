// Package demo carries what `toklip run --demo` plays: a short clip, so that a
// first result needs no camera, no file and no network.
package demo

import _ "embed"

// Clip is an H.264 video in an MP4 container, 640x480 at 15 frames a second, 24 s.
// How it was made is told in README.md beside it. It must not be changed.
//
//go:embed clip.mp4
var Clip []byte
