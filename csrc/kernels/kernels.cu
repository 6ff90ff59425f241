// The CUDA kernels. Their arithmetic is in the headers; here is only who computes what.
//
// Grids do not depend on the frames' geometry: blocks go through the work in strides. What a launch needs to know of
// frames lies in memory that the kernel reads, so that a captured graph serves any frame.
#include "kernels/half.h"
#include "kernels/launch.h"
#include "kernels/resample.h"
#include "kernels/search.h"
#include "kernels/tokens.h"
#include "kernels/unit.h"

namespace toklip {
namespace {

// Copies a descriptor into shared memory: it may lie in the host's, where every read is slow.
template <typename T>
__device__ void take(T *shared, const T *from) {
  static_assert(sizeof(T) % 4 == 0, "copied word by word");
  auto *to = reinterpret_cast<uint32_t *>(shared);
  const auto *words = reinterpret_cast<const uint32_t *>(from);
  for (uint32_t i = threadIdx.x; i < sizeof(T) / 4; i += blockDim.x) to[i] = words[i];
  __syncthreads();
}

// Tiles of the horizontal first pass: kTileX x kTileY pixels of the middle picture, one a thread, of kSpan source
// pixels a row at most. A larger reduction reads the frame directly.
constexpr int32_t kTileX = 64;
constexpr int32_t kTileY = kPassThreads / kTileX;
constexpr int32_t kSpan = 1056;

__device__ void first_pass_across(const FrameWork &f, Rgb *lines) {
  const int32_t rows = middle_height(f);
  const int32_t tiles_x = (f.kept_w + kTileX - 1) / kTileX;
  const int32_t tiles_y = (rows + kTileY - 1) / kTileY;
  const int32_t in_x = static_cast<int32_t>(threadIdx.x) % kTileX;
  const int32_t in_y = static_cast<int32_t>(threadIdx.x) / kTileX;
  for (auto tile = static_cast<int32_t>(blockIdx.x); tile < tiles_x * tiles_y; tile += static_cast<int32_t>(gridDim.x)) {
    const int32_t x0 = tile % tiles_x * kTileX;
    const int32_t y0 = tile / tiles_x * kTileY;
    const int32_t last = lesser(x0 + kTileX, f.kept_w) - 1;
    // Starts and ends of taps never fall from one pixel to the next.
    const int32_t from = f.across.start[x0];
    const int32_t span = f.across.start[last] + f.across.count[last] - from;
    const int32_t x = x0 + in_x;
    const int32_t y = y0 + in_y;
    const bool staged = span <= kSpan;
    if (staged) {
      const int32_t n = lesser(kTileY, rows - y0);
      for (int32_t r = 0; r < n; r++) {
        for (auto i = static_cast<int32_t>(threadIdx.x); i < span; i += kPassThreads)
          lines[r * kSpan + i] = frame_pixel(f, from + i, f.row_from + y0 + r);
      }
      __syncthreads();
    }
    if (x < f.kept_w && y < rows) {
      Rgb p;
      if (staged) {
        const Rgb *line = lines + in_y * kSpan - from;
        p = first_across(f, [line](int32_t i) { return line[i]; }, x);
      } else {
        const int32_t row = f.row_from + y;
        p = first_across(f, [&f, row](int32_t i) { return frame_pixel(f, i, row); }, x);
      }
      f.scratch[static_cast<int64_t>(y) * f.kept_w + x] = p;
    }
    if (staged) __syncthreads();
  }
}

__device__ void first_pass_down(const FrameWork &f) {
  const int64_t width = middle_width(f);
  const int64_t n = width * middle_height(f);
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step)
    f.scratch[i] = first_down(f, static_cast<int32_t>(i % width), static_cast<int32_t>(i / width));
}

__device__ void store(const FrameWork &f, int64_t at, float v) {
  if (f.half)
    static_cast<uint16_t *>(f.output)[at] = half_of(v);
  else
    static_cast<float *>(f.output)[at] = v;
}

// One slice of the codebook for one tile of tokens. Each of kSearchWarps warps has all tokens of the tile, R a lane,
// and looks at every kSearchWarps-th code; all lanes look at the same code at a time, so that reading it is one
// broadcast for 32*R tokens.
template <int C, int R>
__device__ void search_slice(const SearchWork &w) {
  constexpr int32_t kTileCodes = 2048 / C;
  __shared__ float4 tile[kTileCodes * C / 4];
  __shared__ Best found[kSearchWarps][32 * R];
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / 32;
  const auto first = static_cast<int32_t>(blockIdx.x) * 32 * R;
  const int32_t all = w.images * w.tokens;
  const auto from = static_cast<int32_t>(blockIdx.y) * w.slice;
  const int32_t to = lesser(from + w.slice, w.codes);

  float u[R][C];
  Best best[R];
#pragma unroll
  for (int32_t r = 0; r < R; r++) {
    const int32_t token = first + r * 32 + lane;
#pragma unroll
    for (int32_t c = 0; c < C; c++) u[r][c] = 0;
    if (token < all) {
      const float *z = w.latents + (static_cast<int64_t>(token / w.tokens) * w.dim * w.tokens + token % w.tokens);
#pragma unroll
      for (int32_t c = 0; c < C; c++)
        if (c < w.dim) u[r][c] = z[static_cast<int64_t>(c) * w.tokens];
    }
    const float length = vector_length(u[r], 1, C);
#pragma unroll
    for (int32_t c = 0; c < C; c++) u[r][c] = u[r][c] / length;
    best[r] = best_of_none(from);
  }

  for (int32_t base = from; base < to; base += kTileCodes) {
    const int32_t n = lesser(kTileCodes, to - base);
    const auto *codes = reinterpret_cast<const float4 *>(w.codebook) + static_cast<int64_t>(base) * (C / 4);
    for (auto i = static_cast<int32_t>(threadIdx.x); i < n * (C / 4); i += 32 * kSearchWarps) tile[i] = codes[i];
    __syncthreads();
#pragma unroll 2
    for (int32_t k = warp; k < n; k += kSearchWarps) {
      float e[C];
#pragma unroll
      for (int32_t c = 0; c < C / 4; c++) {
        const float4 q = tile[k * (C / 4) + c];
        e[4 * c] = q.x;
        e[4 * c + 1] = q.y;
        e[4 * c + 2] = q.z;
        e[4 * c + 3] = q.w;
      }
#pragma unroll
      for (int32_t r = 0; r < R; r++) {
        float a = 0;
#pragma unroll
        for (int32_t c = 0; c < C; c++) a = fused(u[r][c], e[c], a);
        best_look(&best[r], a, base + k);
      }
    }
    __syncthreads();
  }

#pragma unroll
  for (int32_t r = 0; r < R; r++) found[warp][r * 32 + lane] = best[r];
  __syncthreads();
  for (auto i = static_cast<int32_t>(threadIdx.x); i < 32 * R; i += 32 * kSearchWarps) {
    if (first + i >= all) continue;
    Best b = found[0][i];
    for (int32_t s = 1; s < kSearchWarps; s++) b = best_join(b, found[s][i]);
    w.partial[static_cast<int64_t>(blockIdx.y) * all + first + i] = b;
  }
}

}  // namespace
}  // namespace toklip

using namespace toklip;

// Frames -> the picture between the passes. Grid (any, frames), kPassThreads threads.
extern "C" __global__ void __launch_bounds__(kPassThreads) toklip_first_pass(const FrameWork *frames) {
  __shared__ FrameWork f;
  __shared__ Rgb lines[kTileY * kSpan];
  take(&f, frames + blockIdx.y);
  if (f.pixels == kImage) return;
  if (f.vertical_first)
    first_pass_down(f);
  else
    first_pass_across(f, lines);
}

// The picture between the passes -> the network's input. Grid (any, frames), kPassThreads threads.
extern "C" __global__ void __launch_bounds__(kPassThreads) toklip_second_pass(const FrameWork *frames) {
  __shared__ FrameWork f;
  take(&f, frames + blockIdx.y);
  const int64_t plane = int64_t{f.size} * f.size;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  const int64_t begin = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (f.pixels == kImage) {
    const auto *image = reinterpret_cast<const float *>(f.data);
    for (int64_t i = begin; i < 3 * plane; i += step) store(f, i, image[i]);
    return;
  }
  for (int64_t i = begin; i < plane; i += step) {
    const Rgb p = square_pixel(f, static_cast<int32_t>(i % f.size), static_cast<int32_t>(i / f.size));
    store(f, i, normalised(p.r, f.mean[0], f.std[0]));
    store(f, plane + i, normalised(p.g, f.mean[1], f.std[1]));
    store(f, 2 * plane + i, normalised(p.b, f.mean[2], f.std[2]));
  }
}

// Latents -> the best code of each slice. Grid (tiles of 32*R tokens, slices), 32*kSearchWarps threads.
extern "C" __global__ void __launch_bounds__(32 * kSearchWarps) toklip_search_4(SearchWork w) { search_slice<4, 4>(w); }
extern "C" __global__ void __launch_bounds__(32 * kSearchWarps) toklip_search_8(SearchWork w) { search_slice<8, 4>(w); }
extern "C" __global__ void __launch_bounds__(32 * kSearchWarps) toklip_search_16(SearchWork w) { search_slice<16, 2>(w); }
extern "C" __global__ void __launch_bounds__(32 * kSearchWarps) toklip_search_32(SearchWork w) { search_slice<32, 1>(w); }

// The best code of each slice -> ids. Grid (tiles of 32 tokens), 32*kSearchWarps threads.
extern "C" __global__ void __launch_bounds__(32 * kSearchWarps) toklip_search_join(SearchWork w) {
  __shared__ Best found[kSearchWarps][32];
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / 32;
  const int32_t all = w.images * w.tokens;
  const int32_t token = static_cast<int32_t>(blockIdx.x) * 32 + lane;
  Best best = best_of_none(0x7fffffff);
  if (token < all) {
    for (int32_t s = warp; s < w.slices; s += kSearchWarps)
      best = best_join(best, w.partial[static_cast<int64_t>(s) * all + token]);
  }
  found[warp][lane] = best;
  __syncthreads();
  if (warp != 0 || token >= all) return;
  for (int32_t s = 1; s < kSearchWarps; s++) best = best_join(best, found[s][lane]);
  w.ids[token] = best.id;
}

// Ids against those of the stream's frame before, which they then replace. A block a frame, kTokenThreads threads.
extern "C" __global__ void __launch_bounds__(kTokenThreads) toklip_compare(CompareWork w) {
  __shared__ int32_t count;
  const CompareFrame frame = w.frames[blockIdx.x];
  const int32_t *ids = w.ids + static_cast<int64_t>(blockIdx.x) * w.tokens;
  int32_t *last = w.last + static_cast<int64_t>(frame.stream) * w.tokens;
  auto *mask = reinterpret_cast<uint32_t *>(w.changed + static_cast<int64_t>(blockIdx.x) * mask_words(w.tokens));
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  // Whole words of 64, so that bits past the last id are written 0.
  const int32_t n = 64 * mask_words(w.tokens);
  int32_t mine = 0;
  for (auto base = static_cast<int32_t>(threadIdx.x) / 32 * 32; base < n; base += kTokenThreads) {
    const int32_t i = base + static_cast<int32_t>(threadIdx.x) % 32;
    bool differs = false;
    if (i < w.tokens) {
      differs = frame.fresh || ids[i] != last[i];
      last[i] = ids[i];
    }
    const uint32_t bits = __ballot_sync(0xffffffffU, differs);
    if (threadIdx.x % 32 == 0) {
      mask[base / 32] = bits;
      mine += __popc(bits);
    }
  }
  if (threadIdx.x % 32 == 0) atomicAdd(&count, mine);
  __syncthreads();
  if (threadIdx.x == 0) w.counts[blockIdx.x] = count;
}

// Ids -> packed ids, one byte a thread and stride. Grid (any, frames), kTokenThreads threads.
extern "C" __global__ void __launch_bounds__(kTokenThreads) toklip_pack(PackWork w) {
  const int32_t *ids = w.ids + static_cast<int64_t>(blockIdx.y) * w.tokens;
  uint8_t *packed = w.packed + static_cast<int64_t>(blockIdx.y) * w.stride;
  const int32_t n = packed_bytes(w.tokens, w.bits);
  for (auto i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x); i < n;
       i += static_cast<int32_t>(gridDim.x * blockDim.x))
    packed[i] = packed_byte(ids, w.tokens, w.bits, i);
}

// Ids of chosen frames, one after the other. Grid (any, chosen), kTokenThreads threads.
extern "C" __global__ void __launch_bounds__(kTokenThreads) toklip_gather(GatherWork w) {
  const int32_t *from = w.ids + static_cast<int64_t>(w.chosen[blockIdx.y]) * w.tokens;
  int32_t *to = w.gathered + static_cast<int64_t>(blockIdx.y) * w.tokens;
  for (auto i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x); i < w.tokens;
       i += static_cast<int32_t>(gridDim.x * blockDim.x))
    to[i] = from[i];
}

// Vectors -> the same at length 1. A block a vector, kUnitLanes threads.
extern "C" __global__ void __launch_bounds__(kUnitLanes) toklip_unit(UnitWork w) {
  __shared__ float sums[kUnitLanes];
  const float *v = w.vectors + static_cast<int64_t>(blockIdx.x) * w.dim;
  float *out = w.units + static_cast<int64_t>(blockIdx.x) * w.dim;
  const auto lane = static_cast<int32_t>(threadIdx.x);
  sums[lane] = lane_squares(v, w.dim, lane);
  __syncthreads();
  for (int32_t h = kUnitLanes / 2; h > 0; h /= 2) {
    if (lane < h) sums[lane] = sums[lane] + sums[lane + h];
    __syncthreads();
  }
  const float length = length_of_squares(sums[0]);
  for (int32_t i = lane; i < w.dim; i += kUnitLanes) out[i] = v[i] / length;
}

// fp16 -> fp32. Any grid.
extern "C" __global__ void __launch_bounds__(kTokenThreads) toklip_widen(const uint16_t *from, float *to, int64_t n) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) to[i] = float_of_half(from[i]);
}
