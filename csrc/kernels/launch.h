// What kernels.cu and those who launch it agree on.
#pragma once

#include "kernels/hd.h"
#include "kernels/search.h"

namespace toklip {

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

struct CompareFrame {
  int32_t stream;  // whose ids in last
  int32_t fresh;   // nothing to compare with: all ids count as changed
};

struct CompareWork {
  const int32_t *ids;          // [frames, tokens]
  const CompareFrame *frames;  // [frames]
  int32_t *last;               // [streams, tokens]
  uint64_t *changed;           // [frames, mask_words(tokens)]
  int32_t *counts;             // [frames]
  int32_t tokens;
  int32_t unused;
};

struct PackWork {
  const int32_t *ids;  // [frames, tokens]
  uint8_t *packed;     // of a frame every stride bytes
  int64_t stride;
  int32_t tokens, bits;
};

struct GatherWork {
  const int32_t *ids;     // [frames, tokens]
  const int32_t *chosen;  // [chosen] frames
  int32_t *gathered;      // [chosen, tokens]
  int32_t tokens;
  int32_t unused;
};

struct UnitWork {
  const float *vectors;  // [n, dim]
  float *units;          // [n, dim]
  int32_t dim;
  int32_t unused;
};

}  // namespace toklip
