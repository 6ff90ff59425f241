// Package enginetest holds what every backend of package engine must fulfil, as test
// suites: [RunGoldens] compares bare networks with the reference implementation's
// numbers, [Run] tests a backend on frames. A backend's own test calls both.
// [BenchmarkAge] measures what a pipeline over a backend promises of the age of frames.
package enginetest
