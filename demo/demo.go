// Package demo carries what `toklip run --demo` plays: a clip of a drive through
// rendered rooms, a model that was trained on such rooms, and what to look for.
// A first result then needs no camera, no file and no network. How all of it was
// made, and how good it is, is told in README.md beside it.
package demo

import _ "embed"

// Clip is an H.264 video in an MP4 container, 640x480 at 15 frames a second. The
// model has never seen its rooms.
//
//go:embed clip.mp4
var Clip []byte

// Checkpoint is a TokLIP checkpoint as safetensors, fp16.
//
//go:embed model.safetensors
var Checkpoint []byte

// Tokenizer cuts texts for the checkpoint's text tower: a SentencePiece model.
//
//go:embed tokenizer.model
var Tokenizer []byte

// Labels is a JSON array as the command labels/set takes it.
//
//go:embed labels.json
var Labels []byte
