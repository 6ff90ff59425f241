// A vector at length 1.
//
// The sum of squares is taken by kUnitLanes lanes, lane l summing v[l], v[l+kUnitLanes], ... with fma in that order;
// then sums are halved: lane l adds that of lane l+h, for h = kUnitLanes/2, ..., 2, 1. The length is its root, at least
// 1e-12, and each value is divided by it. All in fp32, the same on CPU and GPU to the bit.
#pragma once

#include "kernels/hd.h"

namespace toklip {

constexpr int32_t kUnitLanes = 256;

TOKLIP_HD float lane_squares(const float *v, int32_t n, int32_t lane) {
  float s = 0;
  for (int32_t i = lane; i < n; i += kUnitLanes) s = fused(v[i], v[i], s);
  return s;
}

TOKLIP_HD float length_of_squares(float sum) {
  const float length = square_root(sum);
  return length > 1e-12F || length != length ? length : 1e-12F;
}

}  // namespace toklip
