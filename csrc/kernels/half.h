// fp16 as bits, without anybody's header.
#pragma once

#include "kernels/hd.h"

namespace toklip {

TOKLIP_HD uint32_t bits_of(float v) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(v);
#else
  uint32_t u;
  __builtin_memcpy(&u, &v, sizeof u);
  return u;
#endif
}

// Rounds to nearest, ties to even. Too large becomes infinite, NaN becomes the quiet NaN 0x7e00 with its sign.
TOKLIP_HD uint16_t half_of(float v) {
  const uint32_t u = bits_of(v);
  const uint32_t sign = (u >> 16) & 0x8000U;
  const uint32_t a = u & 0x7fffffffU;
  if (a > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00U);
  if (a >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00U);  // 65520 and above round to infinity
  if (a < 0x38800000U) {                                               // below 2^-14: subnormal
    if (a < 0x33000000U) return static_cast<uint16_t>(sign);           // below 2^-25: 0
    const uint32_t shift = 126U - (a >> 23);                           // 14 to 24
    const uint32_t m = (a & 0x7fffffU) | 0x800000U;
    const uint32_t kept = m >> shift;
    const uint32_t rest = m & ((1U << shift) - 1U);
    const uint32_t middle = 1U << (shift - 1U);
    const uint32_t up = rest > middle || (rest == middle && (kept & 1U)) ? 1U : 0U;
    return static_cast<uint16_t>(sign | (kept + up));
  }
  // The exponent's bias falls from 127 to 15; a carry of the mantissa into it is as it should be.
  const uint32_t rounded = a - 0x38000000U + 0xfffU + ((a >> 13) & 1U);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

}  // namespace toklip
