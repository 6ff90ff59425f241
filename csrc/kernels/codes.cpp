#include "kernels/codes.h"

#include <cmath>

#include "core/error.h"
#include "kernels/launch.h"
#include "kernels/search.h"

namespace toklip {

std::vector<float> unit_codes(const SearchOptions &o) {
  if (o.codebook == nullptr) fail(TOKLIP_TRT_INVALID, "the codebook is NULL");
  if (o.size < 1) fail(TOKLIP_TRT_INVALID, "a codebook of %d codes", o.size);
  if (o.dim < 1 || o.dim > kMaxCodeDim)
    fail(TOKLIP_TRT_INVALID, "codes of %d values: 1 to %d can be searched", o.dim, kMaxCodeDim);
  if (o.tokens < 1 || o.batch_max < 1)
    fail(TOKLIP_TRT_INVALID, "a search for %d tokens in batches of %d", o.tokens, o.batch_max);
  const auto dim = static_cast<size_t>(o.dim);
  const auto padded = static_cast<size_t>(padded_dim(o.dim));
  std::vector<float> out(static_cast<size_t>(o.size) * padded);
  for (int32_t k = 0; k < o.size; k++) {
    const float *code = o.codebook + static_cast<size_t>(k) * dim;
    const float length = vector_length(code, 1, o.dim);
    for (size_t c = 0; c < dim; c++) {
      if (!std::isfinite(code[c]))
        fail(TOKLIP_TRT_INVALID, "value %zu of code %d of the codebook is not a number: import the model again", c, k);
      out[static_cast<size_t>(k) * padded + c] = code[c] / length;
    }
  }
  return out;
}

}  // namespace toklip
