// Package e2e tests the daemon as its users meet it: the built programs, a real
// broker, real video, and clients that share no code with the daemon.
package e2e
