package trt

import "unsafe"

// abiVersion is the version of the shim's interface that this package speaks: TOKLIP_TRT_ABI.
const abiVersion = 1

// abi is the shim's interface, a method for each of its functions, with nothing of C in it: the
// real one calls through a table of pointers, the one of the tests is plain Go. A handle is an
// unsafe.Pointer that only the implementation looks behind. Where C returns an error object, the
// method returns it, nil for success; errorFree frees it. No method keeps a pointer to Go memory.
type abi interface {
	errorCode(err unsafe.Pointer) Code
	errorMessage(err unsafe.Pointer) string
	errorFree(err unsafe.Pointer)
	stringCopy(s unsafe.Pointer) string // of a text that the shim gave out
	stringFree(s unsafe.Pointer)

	open(abi uint32, o *openArg, out *unsafe.Pointer) unsafe.Pointer
	libraryFree(library unsafe.Pointer) unsafe.Pointer
	libraryDescribe(library unsafe.Pointer, out *libraryArg)
	logTake(library unsafe.Pointer, severity *int32, text []byte, dropped *uint64) bool
	deviceDescribe(library unsafe.Pointer, out *deviceArg) unsafe.Pointer
	deviceReset(library unsafe.Pointer) unsafe.Pointer

	buildNew(library unsafe.Pointer, o *buildArg, out *unsafe.Pointer) unsafe.Pointer
	buildRun(build unsafe.Pointer) unsafe.Pointer
	buildProgress(build unsafe.Pointer, out *progressArg)
	buildCancel(build unsafe.Pointer)
	buildFree(build unsafe.Pointer)
	networkDescribe(library unsafe.Pointer, onnx uintptr, json *unsafe.Pointer) unsafe.Pointer

	engineLoad(library unsafe.Pointer, plan []byte, dla int32, out *unsafe.Pointer) unsafe.Pointer
	engineFree(engine unsafe.Pointer) unsafe.Pointer
	engineLayers(engine unsafe.Pointer, json *unsafe.Pointer) unsafe.Pointer
	engineRun(engine unsafe.Pointer, inputs, outputs []tensorArg) unsafe.Pointer

	pipelineNew(library unsafe.Pointer, o *pipelineArg, out *unsafe.Pointer) unsafe.Pointer
	pipelineFree(pipeline unsafe.Pointer)
	pipelineSubmit(pipeline unsafe.Pointer, frames []frameArg) unsafe.Pointer
	pipelineWait(pipeline unsafe.Pointer, results []resultArg, times *timesArg) unsafe.Pointer
	pipelineProcess(pipeline unsafe.Pointer, frames []frameArg, results []resultArg, times *timesArg) unsafe.Pointer
}

// The structs of toklip_trt.h, field by field; the compiler compares their layouts in shim.go.
//
// Pointers are uintptr. For those that go into C this means that the garbage collector needs no
// write barrier, which would look at whatever pointer a slot held before; whoever fills them in
// pins what they point to for the time of the call. Those that come out point into C's memory.

type openArg struct {
	nvinfer, parser, cuda uintptr
	device                int32
	cpuOnly               bool
}

type libraryArg struct {
	family                                   [8]byte
	path                                     [512]byte
	major, minor, patch, build               int32
	headersMajor, headersMinor, headersPatch int32
	kernels                                  [128]byte
}

type deviceArg struct {
	name                    [256]byte
	sm, driver, dlaCores    int32
	integrated, kernels     bool
	memoryTotal, memoryFree uint64
}

type buildArg struct {
	onnx, plan, timingCache, layers uintptr
	batchMin, batchOpt, batchMax    int32
	workspace                       uint64
	optimizationLevel, threads      int32
	dlaCore                         int32
	fp16, versionCompatible         bool
	compatibility                   int32
	capabilities                    uintptr
	capabilityCount                 uintptr
}

type progressArg struct {
	phase    [128]byte
	fraction float64
}

type tensorArg struct {
	name  uintptr
	typ   int32
	shape uintptr
	rank  int32
	data  uintptr
	size  uintptr
}

// Types of a tensor.
const (
	typeFP32  = 1
	typeFP16  = 2
	typeInt32 = 3
)

type pipelineArg struct {
	tokenizer, encoder             unsafe.Pointer // C's handles
	imageSize, tokens              int32
	featureDim, embeddingDim       int32
	codebook                       uintptr
	codebookSize, codebookDim      int32
	mean, std                      [3]float32
	batchMax, streamsMax, inFlight int32
	cudaGraph, kernels             bool
	timeoutMS                      uint32
}

type frameArg struct {
	data                  uintptr
	size                  uintptr
	width, height, stride int32
	pixels, resize        int32
	stream                int32
	fresh                 bool
}

type resultArg struct {
	ids                       uintptr
	packed                    uintptr
	packedSize                uintptr
	changed                   uintptr
	changedCount              int32
	fresh, encoded            bool
	features, embedding, unit uintptr
}

type timesArg struct {
	upload, preprocess, tokenizer, search, encoder, download float32
	total                                                    float32
	graph                                                    bool
}

// text is the NUL-terminated text in a C array.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// view is the C array of n elements at p, nil if p is.
func view[T any](p uintptr, n int) []T {
	if p == 0 {
		return nil
	}
	// p came from C: converting it through its own memory says so to go vet.
	return unsafe.Slice(*(**T)(unsafe.Pointer(&p)), n)
}
