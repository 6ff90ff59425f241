// What kernels.cu and those who launch it agree on.
#pragma once

#include "core/kernels.h"
#include "kernels/hd.h"
#include "kernels/search.h"

namespace toklip {

constexpr int32_t kCopyThreads = 256;
constexpr int32_t kPassThreads = 256;
constexpr int32_t kSearchWarps = 8;
constexpr int32_t kTokenThreads = 256;

// Codebook search over latents [images, dim, tokens] and codes of length 1 [codes, C], C being dim padded with zeros
// to 4, 8, 16 or 32.
struct SearchWork {
  const float *latents;
  const float *codebook;  // at a multiple of 16 bytes
  Best *partial;          // [slices, images*tokens]
  int32_t *ids;           // [images*tokens]
  int32_t images, tokens, dim, codes;
  int32_t slice, slices;  // codes a slice
};

// dim padded to what there is a kernel for.
TOKLIP_HD int32_t padded_dim(int32_t dim) { return dim <= 4 ? 4 : (dim <= 8 ? 8 : (dim <= 16 ? 16 : 32)); }

// Tokens that one block of toklip_search_C looks at.
TOKLIP_HD int32_t search_tile(int32_t padded) { return padded <= 8 ? 128 : (padded == 16 ? 64 : 32); }

// Rows of width int32: out[i] = in[rows[i]].
struct GatherWork {
  const int32_t *in, *rows;
  int32_t *out;
  int32_t width;
  int32_t unused;
};

struct NormaliseWork {
  const float *in;  // [n, width]
  float *out;       // [n, width]
  int32_t width;
  int32_t unused;
};

// One piece of memory that toklip_upload copies: at multiples of 16 bytes, of a whole number of 16 bytes.
struct CopyWork {
  const void *from;
  void *to;
  int64_t size;
};

}  // namespace toklip
