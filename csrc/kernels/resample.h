// The two passes of pre-processing: frame -> resized in one direction, 8 bits -> the network's input.
//
// Every output value of a pass is a function of its place alone, so the CPU loops over places and the GPU gives one to
// each thread, and both get the same bytes whatever the order.
#pragma once

#include "kernels/half.h"
#include "kernels/hd.h"
#include "kernels/pixels.h"

namespace toklip {

// Taps of one axis, in memory that the one who computes can read: kept pixel i is the sum of
// weights[j*kept + i] * source[start[i] + j] for j < count[i]. Neighbouring threads make neighbouring pixels, and so
// read neighbouring weights.
struct Axis {
  const int32_t *start, *count, *weights;
  int32_t kept;
};

// One frame of a batch as the passes see it; written by the host into memory that the GPU reads, so that a captured
// graph serves frames of any geometry. Addresses are of the one who computes.
struct FrameWork {
  const uint8_t *data;  // at a multiple of 4 bytes, readable to the next multiple of 4 after its end
  int64_t stride;
  int32_t width, height, pixels;
  int32_t size;                                // S
  int32_t vertical_first;                      // order of the passes
  int32_t pad_x, pad_y, kept_w, kept_h;        // of the square
  int32_t row_from, row_to, col_from, col_to;  // of the frame: what taps reach
  Axis across, down;
  Rgb *scratch;           // between the passes, middle_width x middle_height
  float mean[3], std[3];  // of red, green, blue in [0,1]
  int32_t half;           // the network's input is fp16
  int32_t unused;
};

// The picture between the passes: of the kept width and the rows that are read, or the other way round.
TOKLIP_HD int32_t middle_width(const FrameWork &f) { return f.vertical_first ? f.col_to - f.col_from : f.kept_w; }
TOKLIP_HD int32_t middle_height(const FrameWork &f) { return f.vertical_first ? f.kept_h : f.row_to - f.row_from; }

// Pixels of scratch memory: the middle picture and, for the CPU, one row of the frame.
TOKLIP_HD int64_t scratch_pixels(const FrameWork &f) {
  return int64_t{middle_width(f)} * middle_height(f) + (f.col_to - f.col_from);
}

// A weighted sum of pixels. It stays within 32 bits: 255 times the absolute sum of weights, which is below 1.5 * 2^22.
struct Sum {
  int32_t r, g, b;
};

constexpr int32_t kSumShift = 22;  // kTapBits

TOKLIP_HD Sum sum_begin() {
  constexpr int32_t half = 1 << (kSumShift - 1);
  return Sum{half, half, half};
}

TOKLIP_HD void sum_add(Sum *s, Rgb p, int32_t weight) {
  s->r += weight * p.r;
  s->g += weight * p.g;
  s->b += weight * p.b;
}

TOKLIP_HD Rgb sum_end(const Sum &s) {
  return Rgb{clip(s.r >> kSumShift), clip(s.g >> kSumShift), clip(s.b >> kSumShift), 0};
}

TOKLIP_HD Rgb frame_pixel(const FrameWork &f, int32_t x, int32_t y) {
  return pixel_in(row_at(f.data, f.stride, y), f.pixels == kNV12 ? chroma_at(f.data, f.height, f.stride, y) : nullptr,
                  f.pixels, x);
}

// First pass, vertical first: pixel (x, y) of the middle picture.
TOKLIP_HD Rgb first_down(const FrameWork &f, int32_t x, int32_t y) {
  Sum sum = sum_begin();
  const int32_t from = f.down.start[y];
  const int32_t count = f.down.count[y];
  const int32_t *weight = f.down.weights + y;
  for (int32_t j = 0; j < count; j++, weight += f.down.kept)
    sum_add(&sum, frame_pixel(f, f.col_from + x, from + j), *weight);
  return sum_end(sum);
}

// First pass, horizontal first: pixel x of a row of the middle picture. line(i) is pixel i of the frame's row.
template <typename Line>
TOKLIP_HD Rgb first_across(const FrameWork &f, const Line &line, int32_t x) {
  Sum sum = sum_begin();
  const int32_t from = f.across.start[x];
  const int32_t count = f.across.count[x];
  const int32_t *weight = f.across.weights + x;
  for (int32_t j = 0; j < count; j++, weight += f.across.kept) sum_add(&sum, line(from + j), *weight);
  return sum_end(sum);
}

// Second pass: pixel (x, y) of the kept picture.
TOKLIP_HD Rgb second(const FrameWork &f, int32_t x, int32_t y) {
  Sum sum = sum_begin();
  const int64_t width = middle_width(f);
  if (f.vertical_first) {
    const Rgb *line = f.scratch + y * width + (f.across.start[x] - f.col_from);
    const int32_t count = f.across.count[x];
    const int32_t *weight = f.across.weights + x;
    for (int32_t j = 0; j < count; j++, weight += f.across.kept) sum_add(&sum, line[j], *weight);
  } else {
    const Rgb *column = f.scratch + (f.down.start[y] - f.row_from) * width + x;
    const int32_t count = f.down.count[y];
    const int32_t *weight = f.down.weights + y;
    for (int32_t j = 0; j < count; j++, weight += f.down.kept) sum_add(&sum, column[j * width], *weight);
  }
  return sum_end(sum);
}

// Pixel (x, y) of the square before normalisation.
TOKLIP_HD Rgb square_pixel(const FrameWork &f, int32_t x, int32_t y) {
  x -= f.pad_x;
  y -= f.pad_y;
  if (x < 0 || y < 0 || x >= f.kept_w || y >= f.kept_h) return Rgb{0, 0, 0, 0};
  return second(f, x, y);
}

// A byte as the network wants it, in float32 step by step as torchvision does: ToTensor divides by 255, Normalize
// subtracts the mean and divides by the deviation.
TOKLIP_HD float normalised(uint8_t v, float mean, float std) { return (static_cast<float>(v) / 255.0F - mean) / std; }

// Writes value `at` of one picture of the network's input.
TOKLIP_HD void store(const FrameWork &f, void *image, int64_t at, float v) {
  if (f.half)
    static_cast<uint16_t *>(image)[at] = half_of(v);
  else
    static_cast<float *>(image)[at] = v;
}

// Writes pixel i of the square to the three planes of one picture.
TOKLIP_HD void store_pixel(const FrameWork &f, void *image, int64_t i, Rgb p) {
  const int64_t plane = int64_t{f.size} * f.size;
  store(f, image, i, normalised(p.r, f.mean[0], f.std[0]));
  store(f, image, plane + i, normalised(p.g, f.mean[1], f.std[1]));
  store(f, image, 2 * plane + i, normalised(p.b, f.mean[2], f.std[2]));
}

}  // namespace toklip
