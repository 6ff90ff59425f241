#include "kernels/cpu_forms.h"

#include <cstring>

#include "kernels/tokens.h"
#include "kernels/unit.h"

namespace toklip {
namespace {

void first_pass(const FrameWork &f) {
  const int32_t width = middle_width(f);
  const int32_t height = middle_height(f);
  if (f.vertical_first) {
    for (int32_t y = 0; y < height; y++) {
      for (int32_t x = 0; x < width; x++) f.scratch[static_cast<int64_t>(y) * width + x] = first_down(f, x, y);
    }
    return;
  }
  // A row is converted once, behind the middle picture.
  Rgb *row = f.scratch + static_cast<int64_t>(width) * height;
  const int32_t columns = f.col_to - f.col_from;
  const int32_t from = f.col_from;
  for (int32_t y = 0; y < height; y++) {
    for (int32_t i = 0; i < columns; i++) row[i] = frame_pixel(f, from + i, f.row_from + y);
    Rgb *out = f.scratch + static_cast<int64_t>(y) * width;
    for (int32_t x = 0; x < width; x++) out[x] = first_across(f, [row, from](int32_t i) { return row[i - from]; }, x);
  }
}

// Tokens that are searched at once: a few vector registers of them, whatever a register holds.
constexpr int32_t kLanes = 32;

template <int C>
TOKLIP_HD void search_tokens(const SearchWork &w) {
  const int32_t all = w.images * w.tokens;
  for (int32_t first = 0; first < all; first += kLanes) {
    float u[C][kLanes] = {};
    const int32_t n = lesser(kLanes, all - first);
    for (int32_t t = 0; t < n; t++) {
      const int32_t token = first + t;
      const float *z = w.latents + (static_cast<int64_t>(token / w.tokens) * w.dim * w.tokens + token % w.tokens);
      const float length = vector_length(z, w.tokens, w.dim);
      for (int32_t c = 0; c < w.dim; c++) u[c][t] = z[static_cast<int64_t>(c) * w.tokens] / length;
    }
    float cosine[kLanes];
    int32_t id[kLanes];
    const Best none = best_of_none(0);
    for (int32_t t = 0; t < kLanes; t++) {
      cosine[t] = none.cosine;
      id[t] = none.id;
    }
    const float *e = w.codebook;
    for (int32_t k = 0; k < w.codes; k++, e += C) {
      float a[kLanes] = {};
      for (int32_t c = 0; c < C; c++) {
        for (int32_t t = 0; t < kLanes; t++) a[t] = fused(u[c][t], e[c], a[t]);
      }
      for (int32_t t = 0; t < kLanes; t++) {
        // best_look, without a branch.
        const bool better = a[t] > cosine[t];
        cosine[t] = better ? a[t] : cosine[t];
        id[t] = better ? k : id[t];
      }
    }
    std::memcpy(w.ids + first, id, static_cast<size_t>(n) * sizeof *id);
  }
}

TOKLIP_HD void search_any(const SearchWork &w) {
  switch (padded_dim(w.dim)) {
    case 4:
      return search_tokens<4>(w);
    case 8:
      return search_tokens<8>(w);
    case 16:
      return search_tokens<16>(w);
    default:
      return search_tokens<32>(w);
  }
}

// fma is one instruction on every ARM and on x86 processors since 2013; on others it is a slow function with the same
// result.
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void search_avx2(const SearchWork &w) { search_any(w); }
#endif
void search_plain(const SearchWork &w) { search_any(w); }

}  // namespace

void cpu_preprocess(const FrameWork &f, void *image) {
  const int64_t plane = static_cast<int64_t>(f.size) * f.size;
  if (f.pixels == kImage) {
    for (int64_t i = 0; i < 3 * plane; i++) {
      float v;
      std::memcpy(&v, f.data + 4 * i, sizeof v);
      store(f, image, i, v);
    }
    return;
  }
  first_pass(f);
  for (int32_t y = 0; y < f.size; y++) {
    for (int32_t x = 0; x < f.size; x++) {
      store_pixel(f, image, static_cast<int64_t>(y) * f.size + x, square_pixel(f, x, y));
    }
  }
}

void cpu_search(const SearchWork &w) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return search_avx2(w);
#endif
  search_plain(w);
}

void cpu_compare(const Compare &w, int32_t n) {
  const int32_t words = mask_words(w.tokens);
  const int32_t bytes = packed_bytes(w.tokens, w.bits);
  const size_t row = static_cast<size_t>(w.tokens) * sizeof(int32_t);
  for (int32_t f = 0; f < n; f++) {
    const int32_t *ids = w.ids + static_cast<int64_t>(f) * w.tokens;
    int32_t *last = w.last + static_cast<int64_t>(w.frames[f].stream) * w.tokens;
    uint64_t *changed = w.changed + static_cast<int64_t>(f) * words;
    const bool fresh = w.frames[f].fresh != 0;
    int32_t count = 0;
    for (int32_t word = 0; word < words; word++) changed[word] = 0;
    for (int32_t i = 0; i < w.tokens; i++) {
      const bool differs = fresh || ids[i] != last[i];
      changed[i / 64] |= static_cast<uint64_t>(differs) << (i % 64);
      count += differs;
    }
    w.counts[f] = count;
    std::memcpy(last, ids, row);
    if (w.copy != nullptr) std::memcpy(w.copy + static_cast<int64_t>(f) * w.tokens, ids, row);
    uint8_t *packed = w.packed + static_cast<int64_t>(f) * bytes;
    for (int32_t i = 0; i < bytes; i++) packed[i] = packed_byte(ids, w.tokens, w.bits, i);
  }
}

void cpu_gather(const GatherWork &w, int32_t n) {
  for (int32_t i = 0; i < n; i++)
    std::memcpy(w.out + static_cast<int64_t>(i) * w.width, w.in + static_cast<int64_t>(w.rows[i]) * w.width,
                static_cast<size_t>(w.width) * sizeof(int32_t));
}

void cpu_normalise(const NormaliseWork &w, int32_t n) {
  for (int32_t j = 0; j < n; j++) {
    const float *in = w.in + static_cast<int64_t>(j) * w.width;
    float *out = w.out + static_cast<int64_t>(j) * w.width;
    float sums[kUnitLanes];
    for (int32_t lane = 0; lane < kUnitLanes; lane++) sums[lane] = lane_squares(in, w.width, lane);
    for (int32_t h = kUnitLanes / 2; h > 0; h /= 2) {
      for (int32_t lane = 0; lane < h; lane++) sums[lane] = sums[lane] + sums[lane + h];
    }
    const float length = length_of_squares(sums[0]);
    for (int32_t i = 0; i < w.width; i++) out[i] = in[i] / length;
  }
}

}  // namespace toklip
