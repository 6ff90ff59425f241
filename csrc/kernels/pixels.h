// Pixels of a frame as red, green and blue bytes.
#pragma once

#include "kernels/hd.h"

namespace toklip {

// Layout of a frame in memory. The values are those of toklip_trt_pixels.
enum Pixels : int32_t {
  kBGR = 1,   // 3 bytes a pixel
  kRGB = 2,   // 3 bytes a pixel
  kBGRX = 3,  // 4 bytes a pixel, the fourth is ignored
  kGray = 4,  // 1 byte a pixel
  kNV12 = 5,  // a plane of Y, then at stride*height pairs U,V for each 2 x 2 pixels, with the same stride
  kYUYV = 6,  // Y0 U Y1 V for two pixels of a row
  kImage = 7  // no picture: the network's input itself, fp32 [3,S,S]
};

// One pixel. Four bytes, so that passes read and write it as one aligned word; the fourth is 0.
struct alignas(4) Rgb {
  uint8_t r, g, b, x;
};

// Brings v into 0..255.
TOKLIP_HD uint8_t clip(int32_t v) { return static_cast<uint8_t>(v < 0 ? 0 : (v > 255 ? 255 : v)); }

// YUV to RGB as OpenCV does it (imgproc, color_yuv.simd.hpp): ITU-R BT.601, limited range, factors times 2^20.
constexpr int32_t kYuvShift = 20;
constexpr int32_t kYuvY = 1220542;
constexpr int32_t kYuvUB = 2116026;
constexpr int32_t kYuvUG = -409993;
constexpr int32_t kYuvVG = -852492;
constexpr int32_t kYuvVR = 1673527;

TOKLIP_HD Rgb rgb_of_yuv(int32_t y, int32_t u, int32_t v) {
  const int32_t luma = greater(y - 16, 0) * kYuvY + (1 << (kYuvShift - 1));
  u -= 128;
  v -= 128;
  return Rgb{clip((luma + kYuvVR * v) >> kYuvShift), clip((luma + kYuvUG * u + kYuvVG * v) >> kYuvShift),
             clip((luma + kYuvUB * u) >> kYuvShift), 0};
}

// Bytes that the pixels of one row take: the least stride.
TOKLIP_HD int64_t row_bytes(int32_t pixels, int32_t width) {
  switch (pixels) {
    case kBGRX:
      return int64_t{4} * width;
    case kGray:
    case kNV12:
      return width;
    case kYUYV:
      return int64_t{2} * width;
    default:
      return int64_t{3} * width;
  }
}

// Bytes of a whole frame; the last row needs its pixels only, not its padding.
TOKLIP_HD int64_t frame_bytes(int32_t pixels, int32_t width, int32_t height, int64_t stride) {
  const int64_t rows = pixels == kNV12 ? int64_t{height} + height / 2 : height;
  return (rows - 1) * stride + row_bytes(pixels, width);
}

// Pixel x of a row; chroma is its row of pairs U,V, of kNV12 alone. Both may begin at any even pixel of the frame, if x is
// counted from there.
TOKLIP_HD Rgb pixel_in(const uint8_t *row, const uint8_t *chroma, int32_t pixels, int32_t x) {
  switch (pixels) {
    case kBGR: {
      const uint8_t *p = row + 3 * x;
      return Rgb{p[2], p[1], p[0], 0};
    }
    case kRGB: {
      const uint8_t *p = row + 3 * x;
      return Rgb{p[0], p[1], p[2], 0};
    }
    case kBGRX: {
      const uint8_t *p = row + 4 * x;
      return Rgb{p[2], p[1], p[0], 0};
    }
    case kGray:
      return Rgb{row[x], row[x], row[x], 0};
    case kNV12: {
      const uint8_t *uv = chroma + (x & ~1);
      return rgb_of_yuv(row[x], uv[0], uv[1]);
    }
    default: {  // kYUYV
      const uint8_t *pair = row + 2 * (x & ~1);
      return rgb_of_yuv(row[2 * x], pair[1], pair[3]);
    }
  }
}

// Where rows of a frame lie that begins at data.
TOKLIP_HD const uint8_t *row_at(const uint8_t *data, int64_t stride, int32_t y) { return data + y * stride; }
TOKLIP_HD const uint8_t *chroma_at(const uint8_t *data, int32_t height, int64_t stride, int32_t y) {
  return data + (int64_t{height} + y / 2) * stride;
}

}  // namespace toklip
