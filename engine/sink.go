package engine

// Sink takes what the pipeline has computed.
type Sink interface {
	// Deliver gets each result once, results of a camera in the order of its frames.
	// It is called by one goroutine at a time and must not block: while it runs, no
	// result is collected. It hands the result to whoever publishes it, after a Retain
	// if it is used beyond the call.
	Deliver(*Result)
}

// SinkFunc is a function as a Sink.
type SinkFunc func(*Result)

// Deliver calls f.
func (f SinkFunc) Deliver(r *Result) { f(r) }
