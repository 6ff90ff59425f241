// The CUDA driver, opened at run time: the few types and functions of it that we use. No header of CUDA is needed.
//
// Names, values and signatures are those of the driver's ABI, which has not changed for them from CUDA 11.4 (JetPack 5)
// to 13; where the ABI's name has a suffix, such as cuMemAlloc_v2, that very symbol is looked up. tests: csrc/test has
// a libcuda of its own with the same symbols.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/error.h"

namespace toklip {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st *;
using CUstream = struct CUstream_st *;
using CUevent = struct CUevent_st *;
using CUmodule = struct CUmod_st *;
using CUfunction = struct CUfunc_st *;
using CUgraph = struct CUgraph_st *;
using CUgraphExec = struct CUgraphExec_st *;
using CUgraphNode = struct CUgraphNode_st *;
using CUhostFn = void (*)(void *);

// An address as the driver's functions take it.
inline CUdeviceptr device_address(const void *address) { return reinterpret_cast<uintptr_t>(address); }

// Results that are treated in a way of their own.
constexpr CUresult kCudaSuccess = 0;
constexpr CUresult kCudaOutOfMemory = 2;
constexpr CUresult kCudaInvalidHandle = 400;
constexpr CUresult kCudaNotReady = 600;

// Values of enumerations.
constexpr unsigned kHostAllocPortable = 1, kHostAllocMapped = 2;
constexpr unsigned kStreamNonBlocking = 1;
constexpr unsigned kEventRecordExternal = 1;
constexpr int kCaptureThreadLocal = 1;
constexpr int kAttributeMultiprocessors = 16, kAttributeIntegrated = 18, kAttributeCanMapHostMemory = 19,
              kAttributeMajor = 75, kAttributeMinor = 76;

// F(member, symbol, parameters): all of them must be there.
#define TOKLIP_CUDA_FUNCTIONS(F)                                                                                 \
  F(init, cuInit, (unsigned flags))                                                                              \
  F(driver_version, cuDriverGetVersion, (int *version))                                                          \
  F(error_name, cuGetErrorName, (CUresult error, const char **name))                                             \
  F(error_string, cuGetErrorString, (CUresult error, const char **text))                                         \
  F(device_count, cuDeviceGetCount, (int *count))                                                                \
  F(device_get, cuDeviceGet, (CUdevice * device, int ordinal))                                                   \
  F(device_name, cuDeviceGetName, (char *name, int size, CUdevice device))                                       \
  F(device_attribute, cuDeviceGetAttribute, (int *value, int attribute, CUdevice device))                        \
  F(device_memory, cuDeviceTotalMem_v2, (size_t *bytes, CUdevice device))                                        \
  F(context_retain, cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                            \
  F(context_release, cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                            \
  F(context_reset, cuDevicePrimaryCtxReset_v2, (CUdevice device))                                                \
  F(context_push, cuCtxPushCurrent_v2, (CUcontext context))                                                      \
  F(context_pop, cuCtxPopCurrent_v2, (CUcontext * context))                                                      \
  F(memory_info, cuMemGetInfo_v2, (size_t *free, size_t *total))                                                 \
  F(memory_allocate, cuMemAlloc_v2, (CUdeviceptr * address, size_t size))                                        \
  F(memory_free, cuMemFree_v2, (CUdeviceptr address))                                                            \
  F(host_allocate, cuMemHostAlloc, (void **address, size_t size, unsigned flags))                                \
  F(host_free, cuMemFreeHost, (void *address))                                                                   \
  F(host_device_address, cuMemHostGetDevicePointer_v2, (CUdeviceptr * address, void *host, unsigned flags))      \
  F(copy_to_device, cuMemcpyHtoD_v2, (CUdeviceptr to, const void *from, size_t size))                            \
  F(copy_async, cuMemcpyAsync, (CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream))                 \
  F(fill_async, cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t size, CUstream stream))            \
  F(stream_create, cuStreamCreate, (CUstream * stream, unsigned flags))                                          \
  F(stream_destroy, cuStreamDestroy_v2, (CUstream stream))                                                       \
  F(stream_wait, cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                            \
  F(stream_begin_capture, cuStreamBeginCapture_v2, (CUstream stream, int mode))                                  \
  F(stream_end_capture, cuStreamEndCapture, (CUstream stream, CUgraph * graph))                                  \
  F(call, cuLaunchHostFunc, (CUstream stream, CUhostFn function, void *argument))                                \
  F(event_create, cuEventCreate, (CUevent * event, unsigned flags))                                              \
  F(event_destroy, cuEventDestroy_v2, (CUevent event))                                                           \
  F(event_record, cuEventRecordWithFlags, (CUevent event, CUstream stream, unsigned flags))                      \
  F(event_query, cuEventQuery, (CUevent event))                                                                  \
  F(event_elapsed, cuEventElapsedTime, (float *milliseconds, CUevent from, CUevent to))                          \
  F(graph_destroy, cuGraphDestroy, (CUgraph graph))                                                              \
  F(graph_exec_destroy, cuGraphExecDestroy, (CUgraphExec graph))                                                 \
  F(graph_launch, cuGraphLaunch, (CUgraphExec graph, CUstream stream))                                           \
  F(module_load, cuModuleLoadData, (CUmodule * module, const void *image))                                       \
  F(module_unload, cuModuleUnload, (CUmodule module))                                                            \
  F(module_function, cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name))            \
  F(launch, cuLaunchKernel,                                                                                      \
    (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, \
     unsigned block_z, unsigned shared, CUstream stream, void **parameters, void **extra))

// One of the two is there: the first since 11.4, the second in every driver since 11.0.
#define TOKLIP_CUDA_INSTANTIATE(F)                                                                           \
  F(instantiate, cuGraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long flags)) \
  F(instantiate_old, cuGraphInstantiate_v2,                                                                  \
    (CUgraphExec * exec, CUgraph graph, CUgraphNode * node, char *log, size_t log_size))

// The opened driver. Its functions may be called by any threads; it is never closed, because the driver cannot be.
struct Driver {
  // Opens libcuda (path, or libcuda.so.1 where it is empty) and initialises it. Throws TOKLIP_TRT_NO_DEVICE saying what
  // is missing and what to do.
  explicit Driver(const std::string &path);
  Driver(const Driver &) = delete;
  Driver &operator=(const Driver &) = delete;

  // The code of a result: OUT_OF_MEMORY, DEVICE_LOST for what sticks, NO_DEVICE, UNSUPPORTED for what cannot be
  // captured or has no kernel image, else INTERNAL.
  static toklip_trt_code code_of(CUresult result);

  // "NAME (number): text", as the driver calls the result.
  std::string describe(CUresult result) const;

  // An Error of this result: "what: describe(result)", and the next step where there is one.
  Error error(CUresult result, const char *what) const;

  // Throws error() unless the result is success. For calls before there is a CudaDevice, whose check() is for all later
  // ones.
  void check(CUresult result, const char *what) const {
    if (result != kCudaSuccess) throw error(result, what);
  }

  int version = 0;  // CUDA version of the driver, 12060 is 12.6

#define TOKLIP_CUDA_MEMBER(member, symbol, parameters) CUresult(*member) parameters = nullptr;
  TOKLIP_CUDA_FUNCTIONS(TOKLIP_CUDA_MEMBER)
  TOKLIP_CUDA_INSTANTIATE(TOKLIP_CUDA_MEMBER)
#undef TOKLIP_CUDA_MEMBER
};

}  // namespace toklip
