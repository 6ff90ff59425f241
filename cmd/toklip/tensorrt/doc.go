// Package tensorrt runs toklip's models on TensorRT: it finds or builds the engines of a model, judges
// them against the model's fp32 reference, and makes an engine.Backend of them.
//
// An engine is a network of the model compiled for one GPU and one version of TensorRT. Building takes
// minutes, so that it happens in a process of its own ([Process]), and what came of it is kept in a cache:
//
//	machine, err := tensorrt.Open(options)               // TensorRT, its shim, the GPU
//	loaded, err := machine.Load(ctx, source, options)    // onto the GPU, judged; *Missing: what has to be built, and why
//	built, err := tensorrt.ThisProgram(args...).Run(...) // builds it, with progress; then Load again
//
// A folder of plans that were built elsewhere ([Machine.Export], Options.Plans) is looked into before the cache.
//
// The backend maps one batch to one call into C (or two, with two batches in flight), see [Backend].
package tensorrt
