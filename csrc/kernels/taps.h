// Coefficients of the antialiased bicubic filter, as Pillow computes them.
//
// They are computed on the CPU, once for a geometry, and not in a kernel: they need double precision, of which a
// Jetson's GPU has next to none, and a camera keeps its geometry for days.
#pragma once

#include <cstdint>
#include <vector>

namespace toklip {

// Pillow's: coefficients are integers of 1/2^22.
constexpr int32_t kTapBits = 32 - 8 - 2;

// Taps of one axis: kept output pixel i is the sum of weights[j*kept + i] * source[start[i] + j] for j < count[i], of
// most taps at most. Other weights are 0.
struct Taps {
  std::vector<int32_t> start, count, weights;
  int32_t most = 0;

  // The part of the source that any tap reads, from <= x < to.
  int32_t from() const;
  int32_t to() const;
};

// Taps (Resample.c, precompute_coeffs and normalize_coeffs_8bpc) for a source of in pixels resized to out, of which
// the pixels first to first+kept are wanted.
Taps make_taps(int32_t in, int32_t out, int32_t first, int32_t kept);

}  // namespace toklip
