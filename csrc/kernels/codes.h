// The codebook as the search wants it.
#pragma once

#include <vector>

#include "core/kernels.h"

namespace toklip {

// Codes [size, padded_dim(dim)] at length 1. Throws TOKLIP_TRT_INVALID if options cannot be.
std::vector<float> unit_codes(const SearchOptions &options);

}  // namespace toklip
