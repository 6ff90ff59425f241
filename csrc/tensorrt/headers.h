// TensorRT's headers, and what differs between its families in one place.
//
// Only types, constants and inline methods are used: the functions that make the first objects come from dlsym, so
// nothing of NVIDIA is linked. A virtual method that a family's first version lacks may be called only where the
// version of the library that was opened (not that of these headers) has it; see Version::at_least.
#pragma once

#include <NvInfer.h>
#include <NvInferVersion.h>
#include <NvOnnxParser.h>
#ifdef TRT_MAJOR_RTX
#define TOKLIP_RTX 1
#else
#define TOKLIP_RTX 0
#endif

#if !TOKLIP_RTX && NV_TENSORRT_MAJOR == 8
#define TOKLIP_TRT8 1
#else
#define TOKLIP_TRT8 0
#endif

#if !TOKLIP_RTX && NV_TENSORRT_MAJOR == 10
#define TOKLIP_TRT10 1
#else
#define TOKLIP_TRT10 0
#endif

// Networks whose types TensorRT may change: all of 8.x; in 10.x those for DLA.
#define TOKLIP_WEAK_TYPING (TOKLIP_TRT8 || TOKLIP_TRT10)

// Headers of this version or newer, of TensorRT (RTX has everything that is asked for by this).
#define TOKLIP_HEADERS_AT_LEAST(major, minor) \
  (TOKLIP_RTX || NV_TENSORRT_MAJOR > (major) || (NV_TENSORRT_MAJOR == (major) && NV_TENSORRT_MINOR >= (minor)))
