// Codebook search: the code whose direction is nearest to a latent's.
//
// What "bit-equal" means, here and in the tests. For a latent z[0..C) and codes e[0..K):
//   length   s = 0; s = fma(v[c], v[c], s) for c ascending; sqrt(s), but at least 1e-12
//   unit     u[c] = v[c] / length, one division each, for latents and codes alike
//   cosine   a = 0; a = fma(u[c], e[c], a) for c ascending
//   id       the lowest k whose cosine no other exceeds; comparisons with NaN are false, so a latent with NaN gets 0
// all in fp32. It is what torch's F.normalize and argmin of |u-e|^2 mean, in an order of our own; where two
// codes are nearer to each other than rounding, ids may differ from PyTorch's. Vectors may be padded with zeros to a
// multiple of the registers at hand: fma(0, 0, a) is a, except that -0 becomes 0, which compares equal.
//
// Codes are brought to length 1 once, on the CPU. Which threads look at which codes does not matter, because choosing
// by (greater cosine, then lower id) has one outcome in any order.
#pragma once

#include "kernels/unit.h"

namespace toklip {

constexpr int32_t kMaxCodeDim = 32;

// Length of v[0], v[stride], ... v[(c-1)*stride], at least 1e-12.
TOKLIP_HD float vector_length(const float *v, int64_t stride, int32_t c) {
  float s = 0;
  for (int32_t i = 0; i < c; i++) s = fused(v[i * stride], v[i * stride], s);
  return length_of_squares(s);
}

// The best code so far.
struct Best {
  float cosine;
  int32_t id;
};

// No code has been looked at; first is the lowest id of those that will be.
TOKLIP_HD Best best_of_none(int32_t first) { return Best{-__builtin_huge_valf(), first}; }

// Looks at codes in ascending order of their ids.
TOKLIP_HD void best_look(Best *best, float cosine, int32_t id) {
  if (cosine > best->cosine) *best = Best{cosine, id};
}

// Joins the best of two sets of codes.
TOKLIP_HD Best best_join(const Best &a, const Best &b) {
  if (a.cosine > b.cosine) return a;
  if (b.cosine > a.cosine) return b;
  return a.id < b.id ? a : b;
}

}  // namespace toklip
