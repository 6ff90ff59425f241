// Package trt drives TensorRT through a small shared object of ours, the shim.
//
// Nothing of NVIDIA is needed to build or start a program with this package: the shim, TensorRT
// and the CUDA driver are opened at run time. [Probe] says what a machine has and what it lacks,
// [Open] opens the best of it:
//
//	lib, err := trt.Open(trt.Options{Logger: logger})
//	if errors.Is(err, trt.ErrNoLibrary) { ... } // TensorRT or the shim is not there: err says what to install
//	defer lib.Close()
//
//	o := trt.DefaultBuildOptions() // ONNX file -> plan file: seconds to many minutes
//	o.ONNX, o.Plan = "tokenizer.fp16.onnx", "tokenizer.plan"
//	err = lib.Build(ctx, o, func(p trt.Progress) { ... })
//
//	tokenizer, err := lib.Load(plan, -1) // plan -> engine on the GPU
//	defer tokenizer.Close()
//
//	po := trt.DefaultPipelineOptions()
//	po.Tokenizer, po.Encoder = tokenizer, encoder // and the model's sizes
//	pipeline, err := lib.NewPipeline(po)
//	defer pipeline.Close()
//	times, err := pipeline.Process(ctx, frames, results) // one call into C a batch, nothing allocated
//
// # Ownership
//
// A [Library] owns what was made from it, an [Engine] the pipelines that use it. Close is the
// contract: it is idempotent, waits for calls under way, and refuses with [ErrBusy] while children
// are open. Whoever drops a handle without closing it leaks memory of the GPU; the garbage
// collector then rings an alarm that names where the handle was made, and frees nothing.
//
// # Concurrency
//
// All methods may be called from any goroutine. A call into C is never abandoned: contexts are
// obeyed while a call waits for its turn, and a build is asked to stop and then waited for.
//
// # Errors
//
// What fails in C is an [*Error] with a [Code], and errors.Is finds the code: errors.Is(err,
// trt.ErrDeviceLost). After [ErrDeviceLost] and [ErrTimeout] every handle of the device is dead:
// close pipelines and engines, then call [Library.Reset].
package trt
