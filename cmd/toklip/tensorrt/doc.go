// Package tensorrt runs toklip's models on TensorRT: it finds or builds the engines of a model, judges
// them against the model's fp32 reference, and makes an engine.Backend of them.
//
// An engine is a network of the model compiled for one GPU and one version of TensorRT. Building takes
// minutes, so that it happens in a process of its own ([Build]), and what came of it is kept in a cache:
//
//	machine, err := tensorrt.Open(options)     // TensorRT, its shim, the GPU
//	plans, err := machine.Find(model)          // in the cache; what is missing or damaged, and why
//	err = tensorrt.Build(ctx, ...)             // the child process, with progress
//	backend, report, err := machine.Load(...)  // onto the GPU, judged
//
// The backend maps one batch to one call into C (or two, with two batches in flight), see [Backend].
package tensorrt
