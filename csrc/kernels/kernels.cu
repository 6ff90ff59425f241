// The CUDA kernels. Their arithmetic is in the headers; here is only who computes what.
//
// Grids do not depend on the frames' geometry: blocks go through the work in strides. What a launch needs to know of
// frames lies in memory that the kernel reads, so that a captured graph serves any frame.
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
// pixels a row at most. A larger reduction reads the frame pixel by pixel.
constexpr int32_t kTileX = 64;
constexpr int32_t kTileY = kPassThreads / kTileX;
constexpr int32_t kSpan = 1040;

// Parts of a tile's rows, as they lie in the frame and as pixels.
struct Tile {
  uint32_t raw[kTileY][kSpan + 4];  // a row and, of kNV12, its chroma
  Rgb lines[kTileY][kSpan];
};

// Copies bytes into shared memory, in words: the frame may lie in memory of the CPU that no cache holds, and is to be
// read once. Returns the words written; the first byte lies *skip bytes after `to`.
__device__ int32_t take_bytes(uint32_t *to, const uint8_t *from, int32_t bytes, int32_t thread, int32_t *skip) {
  const auto shift = static_cast<int32_t>(reinterpret_cast<uintptr_t>(from) & 3U);
  const int32_t words = (shift + bytes + 3) / 4;
  const auto *aligned = reinterpret_cast<const uint32_t *>(from - shift);
  for (int32_t i = thread; i < words; i += kTileX) to[i] = aligned[i];
  *skip = shift;
  return words;
}

__device__ void first_pass_across(const FrameWork &f, Tile *tile) {
  const int32_t rows = middle_height(f);
  const int32_t tiles_x = (f.kept_w + kTileX - 1) / kTileX;
  const int32_t tiles = tiles_x * ((rows + kTileY - 1) / kTileY);
  // kTileX threads have a row.
  const int32_t column = static_cast<int32_t>(threadIdx.x) % kTileX;
  const int32_t line = static_cast<int32_t>(threadIdx.x) / kTileX;
  for (auto t = static_cast<int32_t>(blockIdx.x); t < tiles; t += static_cast<int32_t>(gridDim.x)) {
    const int32_t x0 = t % tiles_x * kTileX;
    const int32_t x = x0 + column;
    const int32_t y = t / tiles_x * kTileY + line;
    const int32_t last = lesser(x0 + kTileX, f.kept_w) - 1;
    // Starts and ends of taps never fall from one pixel to the next. Whole pairs, for formats that have them.
    const int32_t from = f.across.start[x0] & ~1;
    const int32_t to = lesser((f.across.start[last] + f.across.count[last] + 1) & ~1, f.width);
    const bool staged = to - from <= kSpan;
    const bool inside = x < f.kept_w && y < rows;
    const int32_t source_y = f.row_from + y;
    if (staged) {
      const uint8_t *row = nullptr;
      const uint8_t *chroma = nullptr;
      if (y < rows) {
        int32_t skip;
        uint32_t *raw = tile->raw[line];
        const auto before = static_cast<int32_t>(row_bytes(f.pixels, from));
        const auto bytes = static_cast<int32_t>(row_bytes(f.pixels, to - from));
        const int32_t words = take_bytes(raw, row_at(f.data, f.stride, source_y) + before, bytes, column, &skip);
        row = reinterpret_cast<const uint8_t *>(raw) + skip;
        if (f.pixels == kNV12) {
          take_bytes(raw + words, chroma_at(f.data, f.height, f.stride, source_y) + from, to - from, column, &skip);
          chroma = reinterpret_cast<const uint8_t *>(raw + words) + skip;
        }
      }
      __syncthreads();
      if (y < rows) {
        for (int32_t i = column; i < to - from; i += kTileX) tile->lines[line][i] = pixel_in(row, chroma, f.pixels, i);
      }
      __syncthreads();
      // The next round writes raw at once, which nobody reads any more, and lines only after its first barrier.
    }
    if (!inside) continue;
    Rgb p;
    if (staged) {
      const Rgb *pixels = tile->lines[line];
      p = first_across(f, [pixels, from](int32_t i) { return pixels[i - from]; }, x);
    } else {
      p = first_across(f, [&f, source_y](int32_t i) { return frame_pixel(f, i, source_y); }, x);
    }
    f.scratch[static_cast<int64_t>(y) * f.kept_w + x] = p;
  }
}

__device__ void first_pass_down(const FrameWork &f) {
  const int64_t width = middle_width(f);
  const int64_t n = width * middle_height(f);
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step)
    f.scratch[i] = first_down(f, static_cast<int32_t>(i % width), static_cast<int32_t>(i / width));
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

// Copies from memory of the CPU, reading it in the largest words there are. A kernel and not a copy of the driver's, because
// what is to be copied differs from frame to frame and a graph does not. Grid (any, pieces), kCopyThreads threads.
extern "C" __global__ void __launch_bounds__(kCopyThreads) toklip_upload(const CopyWork *copies) {
  __shared__ CopyWork c;
  take(&c, copies + blockIdx.y);
  const auto *from = static_cast<const uint4 *>(c.from);
  auto *to = static_cast<uint4 *>(c.to);
  const int64_t n = c.size / 16;
  const int64_t step = int64_t{gridDim.x} * kCopyThreads;
  for (int64_t i = int64_t{blockIdx.x} * kCopyThreads + threadIdx.x; i < n; i += step) to[i] = from[i];
}

// Frames -> the picture between the passes. Grid (any, frames), kPassThreads threads.
extern "C" __global__ void __launch_bounds__(kPassThreads) toklip_first_pass(const FrameWork *frames) {
  __shared__ FrameWork f;
  __shared__ Tile tile;
  take(&f, frames + blockIdx.y);
  if (f.pixels == kImage) return;
  if (f.vertical_first)
    first_pass_down(f);
  else
    first_pass_across(f, &tile);
}

// The picture between the passes -> the network's input [frames,3,S,S]. Grid (any, frames), kPassThreads threads.
extern "C" __global__ void __launch_bounds__(kPassThreads) toklip_second_pass(const FrameWork *frames, void *images) {
  __shared__ FrameWork f;
  take(&f, frames + blockIdx.y);
  const int64_t plane = int64_t{f.size} * f.size;
  void *image = static_cast<char *>(images) + blockIdx.y * 3 * plane * (f.half ? 2 : 4);
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  const int64_t begin = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (f.pixels == kImage) {
    const auto *data = reinterpret_cast<const float *>(f.data);
    for (int64_t i = begin; i < 3 * plane; i += step) store(f, image, i, data[i]);
    return;
  }
  for (int64_t i = begin; i < plane; i += step) {
    store_pixel(f, image, i, square_pixel(f, static_cast<int32_t>(i % f.size), static_cast<int32_t>(i / f.size)));
  }
}

// Latents -> the best code of each slice. Grid (tiles of 32*R tokens, slices), 32*kSearchWarps threads.
extern "C" __global__ void __launch_bounds__(32 * kSearchWarps) toklip_search_4(SearchWork w) { search_slice<4, 4>(w); }
extern "C" __global__ void __launch_bounds__(32 * kSearchWarps) toklip_search_8(SearchWork w) { search_slice<8, 4>(w); }
extern "C" __global__ void __launch_bounds__(32 * kSearchWarps) toklip_search_16(SearchWork w) {
  search_slice<16, 2>(w);
}
extern "C" __global__ void __launch_bounds__(32 * kSearchWarps) toklip_search_32(SearchWork w) {
  search_slice<32, 1>(w);
}

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

// See struct Compare. A block a frame, kTokenThreads threads.
extern "C" __global__ void __launch_bounds__(kTokenThreads) toklip_compare(Compare w) {
  __shared__ int32_t count;
  const FrameState frame = w.frames[blockIdx.x];
  const int32_t *ids = w.ids + static_cast<int64_t>(blockIdx.x) * w.tokens;
  int32_t *last = w.last + static_cast<int64_t>(frame.stream) * w.tokens;
  int32_t *copy = w.copy != nullptr ? w.copy + static_cast<int64_t>(blockIdx.x) * w.tokens : nullptr;
  // Two words of 32 bits are one of 64: GPUs are little-endian.
  auto *mask = reinterpret_cast<uint32_t *>(w.changed + static_cast<int64_t>(blockIdx.x) * mask_words(w.tokens));
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  // All of the last word, so that the bits past the last id are written 0.
  const int32_t n = 64 * mask_words(w.tokens);
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  int32_t mine = 0;
  for (int32_t base = static_cast<int32_t>(threadIdx.x) - lane; base < n; base += kTokenThreads) {
    const int32_t i = base + lane;
    bool differs = false;
    if (i < w.tokens) {
      const int32_t id = ids[i];
      differs = frame.fresh || id != last[i];
      last[i] = id;
      if (copy != nullptr) copy[i] = id;
    }
    const uint32_t bits = __ballot_sync(0xffffffffU, differs);
    if (lane == 0) {
      mask[base / 32] = bits;
      mine += __popc(bits);
    }
  }
  if (lane == 0) atomicAdd(&count, mine);
  const int32_t bytes = packed_bytes(w.tokens, w.bits);
  uint8_t *packed = w.packed + static_cast<int64_t>(blockIdx.x) * bytes;
  for (auto i = static_cast<int32_t>(threadIdx.x); i < bytes; i += kTokenThreads)
    packed[i] = packed_byte(ids, w.tokens, w.bits, i);
  __syncthreads();
  if (threadIdx.x == 0) w.counts[blockIdx.x] = count;
}

// Grid (any, n), kTokenThreads threads.
extern "C" __global__ void __launch_bounds__(kTokenThreads) toklip_gather(GatherWork w) {
  const int32_t *in = w.in + static_cast<int64_t>(w.rows[blockIdx.y]) * w.width;
  int32_t *out = w.out + static_cast<int64_t>(blockIdx.y) * w.width;
  for (auto i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x); i < w.width;
       i += static_cast<int32_t>(gridDim.x * blockDim.x))
    out[i] = in[i];
}

// Vectors -> the same at length 1. A block a vector, kUnitLanes threads.
extern "C" __global__ void __launch_bounds__(kUnitLanes) toklip_normalise(NormaliseWork w) {
  __shared__ float sums[kUnitLanes];
  const float *v = w.in + static_cast<int64_t>(blockIdx.x) * w.width;
  float *out = w.out + static_cast<int64_t>(blockIdx.x) * w.width;
  const auto lane = static_cast<int32_t>(threadIdx.x);
  sums[lane] = lane_squares(v, w.width, lane);
  __syncthreads();
  for (int32_t h = kUnitLanes / 2; h > 0; h /= 2) {
    if (lane < h) sums[lane] = sums[lane] + sums[lane + h];
    __syncthreads();
  }
  const float length = length_of_squares(sums[0]);
  for (int32_t i = lane; i < w.width; i += kUnitLanes) out[i] = v[i] / length;
}
