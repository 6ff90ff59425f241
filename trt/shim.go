package trt

// The one file that speaks C. Everything above it is plain Go behind the interfaces abi and loader.

/*
#cgo CFLAGS: -std=c11 -I${SRCDIR}/../csrc/include
#cgo LDFLAGS: -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include "toklip_trt.h"

// dlerror speaks of the calling thread, which Go may change between two calls: both in one.
static void *loader_open(const char *path, char **problem) {
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char *text = dlerror();
    *problem = strdup(text ? text : "unknown reason");
  }
  return handle;
}
static const char *loader_file(void *symbol) {
  Dl_info info;
  return dladdr(symbol, &info) ? info.dli_fname : NULL;
}
static int32_t call_version(void *fn) { return ((int32_t(*)(void))fn)(); }
static int call_driver_version(void *fn, int *out) { return ((int (*)(int *))fn)(out); }

#define FN(name) ((__typeof__(&toklip_trt_##name))fn)

static uint32_t call_abi(void *fn) { return FN(abi)(); }
static int call_error_code(void *fn, void *e) { return (int)FN(error_code)(e); }
static const char *call_error_message(void *fn, void *e) { return FN(error_message)(e); }
static void call_error_free(void *fn, void *e) { FN(error_free)(e); }
static void call_string_free(void *fn, void *s) { FN(string_free)(s); }
static void *call_open(void *fn, uint32_t abi, void *o, void *out) { return FN(open)(abi, o, out); }
static void *call_library_free(void *fn, void *l) { return FN(library_free)(l); }
static void call_library_describe(void *fn, void *l, void *out) { FN(library_describe)(l, out); }
static bool call_log_take(void *fn, void *l, int32_t *severity, void *text, size_t size, uint64_t *dropped) {
  toklip_trt_severity s = TOKLIP_TRT_LOG_DEBUG;
  bool taken = FN(log_take)(l, &s, text, size, dropped);
  *severity = (int32_t)s;
  return taken;
}
static void *call_device_describe(void *fn, void *l, void *out) { return FN(device_describe)(l, out); }
static void *call_device_reset(void *fn, void *l) { return FN(device_reset)(l); }
static void *call_build_new(void *fn, void *l, void *o, void *out) { return FN(build_new)(l, o, out); }
static void *call_build_run(void *fn, void *b) { return FN(build_run)(b); }
static void call_build_progress(void *fn, void *b, void *out) { FN(build_progress)(b, out); }
static void call_build_cancel(void *fn, void *b) { FN(build_cancel)(b); }
static void call_build_free(void *fn, void *b) { FN(build_free)(b); }
static void *call_network_describe(void *fn, void *l, uintptr_t onnx, void *json) {
  return FN(network_describe)(l, (const char *)onnx, json);
}
static void *call_engine_load(void *fn, void *l, void *plan, size_t size, int32_t dla, void *out) {
  return FN(engine_load)(l, plan, size, dla, out);
}
static void *call_engine_free(void *fn, void *e) { return FN(engine_free)(e); }
static void *call_engine_layers(void *fn, void *e, void *json) { return FN(engine_layers)(e, json); }
static void *call_engine_run(void *fn, void *e, void *in, size_t ins, void *out, size_t outs) {
  return FN(engine_run)(e, in, ins, out, outs);
}
static void *call_pipeline_new(void *fn, void *l, void *o, void *out) { return FN(pipeline_new)(l, o, out); }
static void call_pipeline_free(void *fn, void *p) { FN(pipeline_free)(p); }
static void *call_pipeline_submit(void *fn, void *p, void *f, size_t n) { return FN(pipeline_submit)(p, f, n); }
static void *call_pipeline_wait(void *fn, void *p, void *r, size_t n, void *t) { return FN(pipeline_wait)(p, r, n, t); }
static void *call_pipeline_process(void *fn, void *p, void *f, size_t n, void *r, void *t) {
  return FN(pipeline_process)(p, f, n, r, t);
}

#cgo noescape call_pipeline_submit
#cgo nocallback call_pipeline_submit
#cgo noescape call_pipeline_wait
#cgo nocallback call_pipeline_wait
#cgo noescape call_pipeline_process
#cgo nocallback call_pipeline_process
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// loader is the dynamic loader.
type loader interface {
	// open loads a shared object, by path or by soname. What was loaded stays: TensorRT's threads
	// and destructors do not survive being unloaded.
	open(path string) (unsafe.Pointer, error)
	// symbol finds a function, nil if there is none.
	symbol(object unsafe.Pointer, name string) unsafe.Pointer
	// file is the path of the object that a function lies in.
	file(symbol unsafe.Pointer) string
	// version calls int32_t f(void).
	version(symbol unsafe.Pointer) int32
	// driverVersion calls CUresult f(int *version).
	driverVersion(symbol unsafe.Pointer) (version int32, result int32)
	// bind checks the version of a loaded shim and finds its functions.
	bind(object unsafe.Pointer) (abi, error)
}

// system is the real loader.
type system struct{}

func (system) open(path string) (unsafe.Pointer, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var problem *C.char
	object := C.loader_open(name, &problem)
	if object == nil {
		defer C.free(unsafe.Pointer(problem))
		return nil, errors.New(C.GoString(problem))
	}
	return object, nil
}

func (system) symbol(object unsafe.Pointer, name string) unsafe.Pointer {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	return C.dlsym(object, n)
}

func (system) file(symbol unsafe.Pointer) string {
	if name := C.loader_file(symbol); name != nil {
		return C.GoString(name)
	}
	return ""
}

func (system) version(symbol unsafe.Pointer) int32 { return int32(C.call_version(symbol)) }

func (system) driverVersion(symbol unsafe.Pointer) (int32, int32) {
	var v C.int
	result := C.call_driver_version(symbol, &v)
	return int32(v), int32(result)
}

// shim is a loaded shim: pointers to its functions.
type shim struct {
	fnErrorCode, fnErrorMessage, fnErrorFree, fnStringFree                          unsafe.Pointer
	fnOpen, fnLibraryFree, fnLibraryDescribe, fnLogTake                             unsafe.Pointer
	fnDeviceDescribe, fnDeviceReset                                                 unsafe.Pointer
	fnBuildNew, fnBuildRun, fnBuildProgress, fnBuildCancel, fnBuildFree             unsafe.Pointer
	fnNetworkDescribe                                                               unsafe.Pointer
	fnEngineLoad, fnEngineFree, fnEngineLayers, fnEngineRun                         unsafe.Pointer
	fnPipelineNew, fnPipelineFree, fnPipelineSubmit, fnPipelineWait, fnPipelineProc unsafe.Pointer
}

var _ abi = (*shim)(nil)

func (s system) bind(object unsafe.Pointer) (abi, error) {
	// The handshake: of a shim of another version nothing else may be called.
	version := s.symbol(object, "toklip_trt_abi")
	if version == nil {
		return nil, &Error{"open shim", ErrABIMismatch, "it has no function toklip_trt_abi: it is no shim of toklip"}
	}
	if v := uint32(C.call_abi(version)); v != abiVersion {
		return nil, &Error{"open shim", ErrABIMismatch,
			fmt.Sprintf("it speaks version %d of the interface, this program version %d: install program and shim of one release", v, abiVersion)}
	}
	b := &shim{}
	for name, fn := range map[string]*unsafe.Pointer{
		"error_code": &b.fnErrorCode, "error_message": &b.fnErrorMessage, "error_free": &b.fnErrorFree, "string_free": &b.fnStringFree,
		"open": &b.fnOpen, "library_free": &b.fnLibraryFree, "library_describe": &b.fnLibraryDescribe, "log_take": &b.fnLogTake,
		"device_describe": &b.fnDeviceDescribe, "device_reset": &b.fnDeviceReset,
		"build_new": &b.fnBuildNew, "build_run": &b.fnBuildRun, "build_progress": &b.fnBuildProgress,
		"build_cancel": &b.fnBuildCancel, "build_free": &b.fnBuildFree, "network_describe": &b.fnNetworkDescribe,
		"engine_load": &b.fnEngineLoad, "engine_free": &b.fnEngineFree, "engine_layers": &b.fnEngineLayers, "engine_run": &b.fnEngineRun,
		"pipeline_new": &b.fnPipelineNew, "pipeline_free": &b.fnPipelineFree, "pipeline_submit": &b.fnPipelineSubmit,
		"pipeline_wait": &b.fnPipelineWait, "pipeline_process": &b.fnPipelineProc,
	} {
		if *fn = s.symbol(object, "toklip_trt_"+name); *fn == nil {
			return nil, &Error{"open shim", ErrABIMismatch, fmt.Sprintf("it has no function toklip_trt_%s: it is damaged", name)}
		}
	}
	return b, nil
}

func (s *shim) errorCode(e unsafe.Pointer) Code { return Code(C.call_error_code(s.fnErrorCode, e)) }
func (s *shim) errorMessage(e unsafe.Pointer) string {
	return C.GoString(C.call_error_message(s.fnErrorMessage, e))
}
func (s *shim) errorFree(e unsafe.Pointer)         { C.call_error_free(s.fnErrorFree, e) }
func (s *shim) stringCopy(p unsafe.Pointer) string { return C.GoString((*C.char)(p)) }
func (s *shim) stringFree(p unsafe.Pointer)        { C.call_string_free(s.fnStringFree, p) }

func (s *shim) open(abi uint32, o *openArg, out *unsafe.Pointer) unsafe.Pointer {
	return C.call_open(s.fnOpen, C.uint32_t(abi), unsafe.Pointer(o), unsafe.Pointer(out))
}
func (s *shim) libraryFree(l unsafe.Pointer) unsafe.Pointer {
	return C.call_library_free(s.fnLibraryFree, l)
}
func (s *shim) libraryDescribe(l unsafe.Pointer, out *libraryArg) {
	C.call_library_describe(s.fnLibraryDescribe, l, unsafe.Pointer(out))
}
func (s *shim) logTake(l unsafe.Pointer, severity *int32, text []byte, dropped *uint64) bool {
	return bool(C.call_log_take(s.fnLogTake, l, (*C.int32_t)(severity), unsafe.Pointer(unsafe.SliceData(text)), C.size_t(len(text)), (*C.uint64_t)(dropped)))
}
func (s *shim) deviceDescribe(l unsafe.Pointer, out *deviceArg) unsafe.Pointer {
	return C.call_device_describe(s.fnDeviceDescribe, l, unsafe.Pointer(out))
}
func (s *shim) deviceReset(l unsafe.Pointer) unsafe.Pointer {
	return C.call_device_reset(s.fnDeviceReset, l)
}

func (s *shim) buildNew(l unsafe.Pointer, o *buildArg, out *unsafe.Pointer) unsafe.Pointer {
	return C.call_build_new(s.fnBuildNew, l, unsafe.Pointer(o), unsafe.Pointer(out))
}
func (s *shim) buildRun(b unsafe.Pointer) unsafe.Pointer { return C.call_build_run(s.fnBuildRun, b) }
func (s *shim) buildProgress(b unsafe.Pointer, out *progressArg) {
	C.call_build_progress(s.fnBuildProgress, b, unsafe.Pointer(out))
}
func (s *shim) buildCancel(b unsafe.Pointer) { C.call_build_cancel(s.fnBuildCancel, b) }
func (s *shim) buildFree(b unsafe.Pointer)   { C.call_build_free(s.fnBuildFree, b) }
func (s *shim) networkDescribe(l unsafe.Pointer, onnx uintptr, json *unsafe.Pointer) unsafe.Pointer {
	return C.call_network_describe(s.fnNetworkDescribe, l, C.uintptr_t(onnx), unsafe.Pointer(json))
}

func (s *shim) engineLoad(l unsafe.Pointer, plan []byte, dla int32, out *unsafe.Pointer) unsafe.Pointer {
	return C.call_engine_load(s.fnEngineLoad, l, unsafe.Pointer(unsafe.SliceData(plan)), C.size_t(len(plan)), C.int32_t(dla), unsafe.Pointer(out))
}
func (s *shim) engineFree(e unsafe.Pointer) unsafe.Pointer {
	return C.call_engine_free(s.fnEngineFree, e)
}
func (s *shim) engineLayers(e unsafe.Pointer, json *unsafe.Pointer) unsafe.Pointer {
	return C.call_engine_layers(s.fnEngineLayers, e, unsafe.Pointer(json))
}
func (s *shim) engineRun(e unsafe.Pointer, in, out []tensorArg) unsafe.Pointer {
	return C.call_engine_run(s.fnEngineRun, e, unsafe.Pointer(unsafe.SliceData(in)), C.size_t(len(in)), unsafe.Pointer(unsafe.SliceData(out)), C.size_t(len(out)))
}

func (s *shim) pipelineNew(l unsafe.Pointer, o *pipelineArg, out *unsafe.Pointer) unsafe.Pointer {
	return C.call_pipeline_new(s.fnPipelineNew, l, unsafe.Pointer(o), unsafe.Pointer(out))
}
func (s *shim) pipelineFree(p unsafe.Pointer) { C.call_pipeline_free(s.fnPipelineFree, p) }
func (s *shim) pipelineSubmit(p unsafe.Pointer, f []frameArg) unsafe.Pointer {
	return C.call_pipeline_submit(s.fnPipelineSubmit, p, unsafe.Pointer(unsafe.SliceData(f)), C.size_t(len(f)))
}
func (s *shim) pipelineWait(p unsafe.Pointer, r []resultArg, t *timesArg) unsafe.Pointer {
	return C.call_pipeline_wait(s.fnPipelineWait, p, unsafe.Pointer(unsafe.SliceData(r)), C.size_t(len(r)), unsafe.Pointer(t))
}
func (s *shim) pipelineProcess(p unsafe.Pointer, f []frameArg, r []resultArg, t *timesArg) unsafe.Pointer {
	return C.call_pipeline_process(s.fnPipelineProc, p, unsafe.Pointer(unsafe.SliceData(f)), C.size_t(len(f)), unsafe.Pointer(unsafe.SliceData(r)), unsafe.Pointer(t))
}

// The structs of Go and C are of one layout, or this does not compile: every index must be 0.
var _ = [...]int{
	[1]int{}[C.TOKLIP_TRT_ABI-abiVersion],

	[1]int{}[unsafe.Sizeof(openArg{})-C.sizeof_toklip_trt_open_options],
	[1]int{}[unsafe.Offsetof(openArg{}.nvinfer)-unsafe.Offsetof(C.toklip_trt_open_options{}.nvinfer)],
	[1]int{}[unsafe.Offsetof(openArg{}.parser)-unsafe.Offsetof(C.toklip_trt_open_options{}.parser)],
	[1]int{}[unsafe.Offsetof(openArg{}.cuda)-unsafe.Offsetof(C.toklip_trt_open_options{}.cuda)],
	[1]int{}[unsafe.Offsetof(openArg{}.device)-unsafe.Offsetof(C.toklip_trt_open_options{}.device)],
	[1]int{}[unsafe.Offsetof(openArg{}.cpuOnly)-unsafe.Offsetof(C.toklip_trt_open_options{}.cpu_only)],

	[1]int{}[unsafe.Sizeof(libraryArg{})-C.sizeof_toklip_trt_library_info],
	[1]int{}[unsafe.Offsetof(libraryArg{}.family)-unsafe.Offsetof(C.toklip_trt_library_info{}.family)],
	[1]int{}[unsafe.Offsetof(libraryArg{}.path)-unsafe.Offsetof(C.toklip_trt_library_info{}.path)],
	[1]int{}[unsafe.Offsetof(libraryArg{}.major)-unsafe.Offsetof(C.toklip_trt_library_info{}.major)],
	[1]int{}[unsafe.Offsetof(libraryArg{}.build)-unsafe.Offsetof(C.toklip_trt_library_info{}.build)],
	[1]int{}[unsafe.Offsetof(libraryArg{}.headersMajor)-unsafe.Offsetof(C.toklip_trt_library_info{}.headers_major)],
	[1]int{}[unsafe.Offsetof(libraryArg{}.headersPatch)-unsafe.Offsetof(C.toklip_trt_library_info{}.headers_patch)],
	[1]int{}[unsafe.Offsetof(libraryArg{}.kernels)-unsafe.Offsetof(C.toklip_trt_library_info{}.kernels)],

	[1]int{}[unsafe.Sizeof(deviceArg{})-C.sizeof_toklip_trt_device_info],
	[1]int{}[unsafe.Offsetof(deviceArg{}.name)-unsafe.Offsetof(C.toklip_trt_device_info{}.name)],
	[1]int{}[unsafe.Offsetof(deviceArg{}.sm)-unsafe.Offsetof(C.toklip_trt_device_info{}.sm)],
	[1]int{}[unsafe.Offsetof(deviceArg{}.driver)-unsafe.Offsetof(C.toklip_trt_device_info{}.driver)],
	[1]int{}[unsafe.Offsetof(deviceArg{}.dlaCores)-unsafe.Offsetof(C.toklip_trt_device_info{}.dla_cores)],
	[1]int{}[unsafe.Offsetof(deviceArg{}.integrated)-unsafe.Offsetof(C.toklip_trt_device_info{}.integrated)],
	[1]int{}[unsafe.Offsetof(deviceArg{}.kernels)-unsafe.Offsetof(C.toklip_trt_device_info{}.kernels)],
	[1]int{}[unsafe.Offsetof(deviceArg{}.memoryTotal)-unsafe.Offsetof(C.toklip_trt_device_info{}.memory_total)],
	[1]int{}[unsafe.Offsetof(deviceArg{}.memoryFree)-unsafe.Offsetof(C.toklip_trt_device_info{}.memory_free)],

	[1]int{}[unsafe.Sizeof(buildArg{})-C.sizeof_toklip_trt_build_options],
	[1]int{}[unsafe.Offsetof(buildArg{}.onnx)-unsafe.Offsetof(C.toklip_trt_build_options{}.onnx_path)],
	[1]int{}[unsafe.Offsetof(buildArg{}.plan)-unsafe.Offsetof(C.toklip_trt_build_options{}.plan_path)],
	[1]int{}[unsafe.Offsetof(buildArg{}.timingCache)-unsafe.Offsetof(C.toklip_trt_build_options{}.timing_cache_path)],
	[1]int{}[unsafe.Offsetof(buildArg{}.layers)-unsafe.Offsetof(C.toklip_trt_build_options{}.layers_path)],
	[1]int{}[unsafe.Offsetof(buildArg{}.batchMin)-unsafe.Offsetof(C.toklip_trt_build_options{}.batch_min)],
	[1]int{}[unsafe.Offsetof(buildArg{}.batchOpt)-unsafe.Offsetof(C.toklip_trt_build_options{}.batch_opt)],
	[1]int{}[unsafe.Offsetof(buildArg{}.batchMax)-unsafe.Offsetof(C.toklip_trt_build_options{}.batch_max)],
	[1]int{}[unsafe.Offsetof(buildArg{}.workspace)-unsafe.Offsetof(C.toklip_trt_build_options{}.workspace_bytes)],
	[1]int{}[unsafe.Offsetof(buildArg{}.optimizationLevel)-unsafe.Offsetof(C.toklip_trt_build_options{}.optimization_level)],
	[1]int{}[unsafe.Offsetof(buildArg{}.threads)-unsafe.Offsetof(C.toklip_trt_build_options{}.threads)],
	[1]int{}[unsafe.Offsetof(buildArg{}.dlaCore)-unsafe.Offsetof(C.toklip_trt_build_options{}.dla_core)],
	[1]int{}[unsafe.Offsetof(buildArg{}.fp16)-unsafe.Offsetof(C.toklip_trt_build_options{}.fp16)],
	[1]int{}[unsafe.Offsetof(buildArg{}.versionCompatible)-unsafe.Offsetof(C.toklip_trt_build_options{}.version_compatible)],
	[1]int{}[unsafe.Offsetof(buildArg{}.compatibility)-unsafe.Offsetof(C.toklip_trt_build_options{}.compatibility)],
	[1]int{}[unsafe.Offsetof(buildArg{}.capabilities)-unsafe.Offsetof(C.toklip_trt_build_options{}.compute_capabilities)],
	[1]int{}[unsafe.Offsetof(buildArg{}.capabilityCount)-unsafe.Offsetof(C.toklip_trt_build_options{}.compute_capability_count)],

	[1]int{}[unsafe.Sizeof(progressArg{})-C.sizeof_toklip_trt_progress],
	[1]int{}[unsafe.Offsetof(progressArg{}.phase)-unsafe.Offsetof(C.toklip_trt_progress{}.phase)],
	[1]int{}[unsafe.Offsetof(progressArg{}.fraction)-unsafe.Offsetof(C.toklip_trt_progress{}.fraction)],

	[1]int{}[unsafe.Sizeof(tensorArg{})-C.sizeof_toklip_trt_tensor],
	[1]int{}[unsafe.Offsetof(tensorArg{}.name)-unsafe.Offsetof(C.toklip_trt_tensor{}.name)],
	[1]int{}[unsafe.Offsetof(tensorArg{}.typ)-unsafe.Offsetof(C.toklip_trt_tensor{}._type)],
	[1]int{}[unsafe.Offsetof(tensorArg{}.shape)-unsafe.Offsetof(C.toklip_trt_tensor{}.shape)],
	[1]int{}[unsafe.Offsetof(tensorArg{}.rank)-unsafe.Offsetof(C.toklip_trt_tensor{}.rank)],
	[1]int{}[unsafe.Offsetof(tensorArg{}.data)-unsafe.Offsetof(C.toklip_trt_tensor{}.data)],
	[1]int{}[unsafe.Offsetof(tensorArg{}.size)-unsafe.Offsetof(C.toklip_trt_tensor{}.size)],

	[1]int{}[unsafe.Sizeof(pipelineArg{})-C.sizeof_toklip_trt_pipeline_options],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.tokenizer)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.tokenizer)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.encoder)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.encoder)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.imageSize)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.image_size)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.tokens)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.tokens)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.featureDim)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.feature_dim)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.embeddingDim)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.embedding_dim)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.codebook)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.codebook)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.codebookSize)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.codebook_size)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.codebookDim)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.codebook_dim)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.mean)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.mean)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.std)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.std)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.batchMax)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.batch_max)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.streamsMax)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.streams_max)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.inFlight)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.in_flight)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.cudaGraph)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.cuda_graph)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.kernels)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.kernels)],
	[1]int{}[unsafe.Offsetof(pipelineArg{}.timeoutMS)-unsafe.Offsetof(C.toklip_trt_pipeline_options{}.timeout_ms)],

	[1]int{}[unsafe.Sizeof(frameArg{})-C.sizeof_toklip_trt_frame],
	[1]int{}[unsafe.Offsetof(frameArg{}.data)-unsafe.Offsetof(C.toklip_trt_frame{}.data)],
	[1]int{}[unsafe.Offsetof(frameArg{}.size)-unsafe.Offsetof(C.toklip_trt_frame{}.size)],
	[1]int{}[unsafe.Offsetof(frameArg{}.width)-unsafe.Offsetof(C.toklip_trt_frame{}.width)],
	[1]int{}[unsafe.Offsetof(frameArg{}.height)-unsafe.Offsetof(C.toklip_trt_frame{}.height)],
	[1]int{}[unsafe.Offsetof(frameArg{}.stride)-unsafe.Offsetof(C.toklip_trt_frame{}.stride)],
	[1]int{}[unsafe.Offsetof(frameArg{}.pixels)-unsafe.Offsetof(C.toklip_trt_frame{}.pixels)],
	[1]int{}[unsafe.Offsetof(frameArg{}.resize)-unsafe.Offsetof(C.toklip_trt_frame{}.resize)],
	[1]int{}[unsafe.Offsetof(frameArg{}.stream)-unsafe.Offsetof(C.toklip_trt_frame{}.stream)],
	[1]int{}[unsafe.Offsetof(frameArg{}.fresh)-unsafe.Offsetof(C.toklip_trt_frame{}.fresh)],

	[1]int{}[unsafe.Sizeof(resultArg{})-C.sizeof_toklip_trt_result],
	[1]int{}[unsafe.Offsetof(resultArg{}.ids)-unsafe.Offsetof(C.toklip_trt_result{}.ids)],
	[1]int{}[unsafe.Offsetof(resultArg{}.packed)-unsafe.Offsetof(C.toklip_trt_result{}.packed)],
	[1]int{}[unsafe.Offsetof(resultArg{}.packedSize)-unsafe.Offsetof(C.toklip_trt_result{}.packed_size)],
	[1]int{}[unsafe.Offsetof(resultArg{}.changed)-unsafe.Offsetof(C.toklip_trt_result{}.changed)],
	[1]int{}[unsafe.Offsetof(resultArg{}.changedCount)-unsafe.Offsetof(C.toklip_trt_result{}.changed_count)],
	[1]int{}[unsafe.Offsetof(resultArg{}.fresh)-unsafe.Offsetof(C.toklip_trt_result{}.fresh)],
	[1]int{}[unsafe.Offsetof(resultArg{}.encoded)-unsafe.Offsetof(C.toklip_trt_result{}.encoded)],
	[1]int{}[unsafe.Offsetof(resultArg{}.features)-unsafe.Offsetof(C.toklip_trt_result{}.features)],
	[1]int{}[unsafe.Offsetof(resultArg{}.embedding)-unsafe.Offsetof(C.toklip_trt_result{}.embedding)],
	[1]int{}[unsafe.Offsetof(resultArg{}.unit)-unsafe.Offsetof(C.toklip_trt_result{}.unit)],

	[1]int{}[unsafe.Sizeof(timesArg{})-C.sizeof_toklip_trt_times],
	[1]int{}[unsafe.Offsetof(timesArg{}.upload)-unsafe.Offsetof(C.toklip_trt_times{}.upload)],
	[1]int{}[unsafe.Offsetof(timesArg{}.preprocess)-unsafe.Offsetof(C.toklip_trt_times{}.preprocess)],
	[1]int{}[unsafe.Offsetof(timesArg{}.tokenizer)-unsafe.Offsetof(C.toklip_trt_times{}.tokenizer)],
	[1]int{}[unsafe.Offsetof(timesArg{}.search)-unsafe.Offsetof(C.toklip_trt_times{}.search)],
	[1]int{}[unsafe.Offsetof(timesArg{}.encoder)-unsafe.Offsetof(C.toklip_trt_times{}.encoder)],
	[1]int{}[unsafe.Offsetof(timesArg{}.download)-unsafe.Offsetof(C.toklip_trt_times{}.download)],
	[1]int{}[unsafe.Offsetof(timesArg{}.total)-unsafe.Offsetof(C.toklip_trt_times{}.total)],
	[1]int{}[unsafe.Offsetof(timesArg{}.graph)-unsafe.Offsetof(C.toklip_trt_times{}.graph)],
}
