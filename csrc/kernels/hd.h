// TOKLIP_HD marks arithmetic that is compiled for the CPU and for the GPU from one source, so that what the tests
// prove on the CPU is what the GPU runs.
//
// Floating point is the same on both sides because every operation used here is IEEE-754 exact (+, -, *, /, sqrt,
// fma) and because nothing is contracted behind our back: the build passes -ffp-contract=off to the C++ compiler
// and --fmad=false --prec-div=true --prec-sqrt=true --ftz=false to nvcc. Where a fused multiply-add is wanted it is
// written: fused().
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define TOKLIP_HD __host__ __device__ __forceinline__
#else
#define TOKLIP_HD inline __attribute__((always_inline))
#endif

namespace toklip {

// a*b + c with one rounding, in one instruction where the machine has it and in software where not.
TOKLIP_HD float fused(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

TOKLIP_HD float square_root(float v) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(v);
#else
  return __builtin_sqrtf(v);
#endif
}

TOKLIP_HD int32_t lesser(int32_t a, int32_t b) { return a < b ? a : b; }
TOKLIP_HD int32_t greater(int32_t a, int32_t b) { return a > b ? a : b; }

}  // namespace toklip
