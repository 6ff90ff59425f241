// Where a frame goes in the network's square picture.
#pragma once

#include <cstdint>

namespace toklip {

// How a frame becomes a square. The values are those of toklip_trt_resize.
enum Resize : int32_t {
  kSquash = 1,    // to S x S
  kShortest = 2,  // shorter edge to S, the middle cut out
  kLongest = 3    // longer edge to S, the rest filled with 0
};

// Limits; they keep every product of sizes within 32 bits.
constexpr int32_t kMaxSourceEdge = 16384;
constexpr int32_t kMaxSize = 4096;

// What pre-processing is prepared for. The stride is not part of it: it may differ from frame to frame.
struct Geometry {
  int32_t width, height;  // of the frame, pixels
  int32_t pixels;         // enum Pixels
  int32_t resize;         // enum Resize
  int32_t size;           // edge S of the square

  bool operator==(const Geometry &o) const {
    return width == o.width && height == o.height && pixels == o.pixels && resize == o.resize && size == o.size;
  }
};

// The frame is resized to width x height, of that kept_w x kept_h pixels from (crop_x, crop_y) on are kept, and
// they lie at (pad_x, pad_y) of the square.
struct Layout {
  int32_t width, height;
  int32_t crop_x, crop_y;
  int32_t kept_w, kept_h;
  int32_t pad_x, pad_y;

  // The order of the two passes, which rounding to 8 bits between them makes visible. Pillow 13 takes the vertical
  // one first when the height loses more than twice what the width loses, as it does for a 9:16 portrait.
  bool vertical_first;
};

// The layout of a geometry. Throws Error(TOKLIP_TRT_INVALID) naming what cannot be. Not for kImage.
Layout make_layout(const Geometry &geometry);

// Throws Error(TOKLIP_TRT_INVALID) unless a buffer of size bytes with rows stride bytes apart holds the frame. For
// kImage, which has no stride, size must be exactly 3*S*S*4 bytes.
void check_frame(const Geometry &geometry, const void *data, uint64_t size, int64_t stride);

}  // namespace toklip
