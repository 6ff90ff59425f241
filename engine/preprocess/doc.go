// Package preprocess turns camera pixels into the network's input.
package preprocess
