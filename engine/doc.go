// Package engine turns camera frames into tokens, token features and embeddings.
//
// A [Frame] comes from a camera and is offered to a [Camera] of a [Pipeline], which
// keeps the newest one only. The pipeline gathers the newest frames of all cameras
// into a [Batch] and gives it to a [Backend], which resizes and normalises the
// pixels, runs the tokenizer, compares the token ids with those of the camera's
// frame before, and runs the token encoder for frames whose ids changed. What comes
// of a frame is a [Result]; the pipeline hands it to the [Sink].
//
//	p, err := engine.New(engine.Config{Backend: backend, Sink: sink})
//	cam, err := p.AddCamera(engine.CameraConfig{Name: "front"})
//	go func() { done <- p.Run(ctx) }()
//	cam.Offer(frame) // never blocks; the pipeline releases the frame
//
// # Ownership
//
// A frame has one owner. Offer hands it to the pipeline, which releases it as soon as
// its pixels were read, or when a newer one takes its place. Results are counted
// references out of a pool: the sink may use one during Deliver, and keeps it longer
// with [Result.Retain]. In the steady state nothing is allocated per frame.
//
// # Backends
//
// A backend handles a batch whole, because one that runs on a GPU does everything in
// one submission. [NewBackend] composes the CPU's backend from [Graphs], which runs
// the bare networks (package engine/onnxruntime has one), and the pre-processing of
// engine/preprocess. Package engine/enginetest holds what any backend must fulfil.
package engine
