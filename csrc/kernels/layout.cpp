#include "kernels/layout.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "kernels/pixels.h"

namespace toklip {
namespace {

// Python's int(round(n / 2)), as torchvision's center_crop has it.
int32_t half_even(int32_t n) { return static_cast<int32_t>(std::nearbyint(n / 2.0)); }

const char *name_of_pixels(int32_t pixels) {
  switch (pixels) {
    case kBGR:
      return "BGR";
    case kRGB:
      return "RGB";
    case kBGRX:
      return "BGRX";
    case kGray:
      return "GRAY";
    case kNV12:
      return "NV12";
    case kYUYV:
      return "YUYV";
    default:
      return "IMAGE";
  }
}

void check_geometry(const Geometry &g) {
  const int32_t w = g.width;
  const int32_t h = g.height;
  if (g.pixels < kBGR || g.pixels > kYUYV)
    fail(TOKLIP_TRT_INVALID, "pixel format %d is unknown: 1 (BGR) to 7 (IMAGE) are known", g.pixels);
  if (w < 1 || w > kMaxSourceEdge) fail(TOKLIP_TRT_INVALID, "frame width %d is outside 1..%d", w, kMaxSourceEdge);
  if (h < 1 || h > kMaxSourceEdge) fail(TOKLIP_TRT_INVALID, "frame height %d is outside 1..%d", h, kMaxSourceEdge);
  if ((g.pixels == kNV12 || g.pixels == kYUYV) && w % 2 != 0)
    fail(TOKLIP_TRT_INVALID, "frame width %d is odd: %s holds pixels in pairs", w, name_of_pixels(g.pixels));
  if (g.pixels == kNV12 && h % 2 != 0) fail(TOKLIP_TRT_INVALID, "frame height %d is odd: NV12 holds rows in pairs", h);
}

}  // namespace

Layout make_layout(const Geometry &g) {
  check_geometry(g);
  const int32_t w = g.width;
  const int32_t h = g.height;
  const int32_t s = g.size;
  Layout l = {s, s, 0, 0, s, s, 0, 0, false};
  switch (g.resize) {
    case kSquash:
      break;
    case kShortest:
      // torchvision.transforms.Resize(S): the longer edge is int(S * long / short).
      if (w <= h)
        l.height = static_cast<int32_t>(static_cast<double>(s * h) / w);
      else
        l.width = static_cast<int32_t>(static_cast<double>(s * w) / h);
      l.crop_x = half_even(l.width - s);
      l.crop_y = half_even(l.height - s);
      break;
    case kLongest: {
      // open_clip's ResizeKeepRatio(longest=1), then CenterCropOrPad.
      const double ratio = std::max(static_cast<double>(w) / s, static_cast<double>(h) / s);
      l.width = static_cast<int32_t>(std::nearbyint(w / ratio));
      l.height = static_cast<int32_t>(std::nearbyint(h / ratio));
      if (l.width < 1 || l.height < 1)
        fail(TOKLIP_TRT_INVALID,
             "a frame of %dx%d fitted inside %d is %dx%d, nothing to see: use resize mode SQUASH or SHORTEST", w, h, s,
             l.width, l.height);
      l.kept_w = l.width;
      l.kept_h = l.height;
      l.pad_x = (s - l.width) / 2;
      l.pad_y = (s - l.height) / 2;
      break;
    }
    default:
      fail(TOKLIP_TRT_INVALID, "resize mode %d is unknown: 1 (SQUASH), 2 (SHORTEST) and 3 (LONGEST) are known",
           g.resize);
  }
  l.vertical_first = h > l.height && h - l.height > 2 * (w - l.width);
  return l;
}

void check_frame(const Geometry &g, const void *data, uint64_t size, int64_t stride) {
  if (data == nullptr) fail(TOKLIP_TRT_INVALID, "the frame's data is NULL");
  const auto have = static_cast<unsigned long long>(size);
  if (g.pixels == kImage) {
    const unsigned long long need = 12ULL * static_cast<unsigned>(g.size) * static_cast<unsigned>(g.size);
    if (size != need)
      fail(TOKLIP_TRT_INVALID, "an IMAGE frame of %llu bytes is not fp32 [3,%d,%d], which takes %llu", have, g.size,
           g.size, need);
    return;
  }
  static_cast<void>(make_layout(g));
  const auto row = static_cast<long long>(row_bytes(g.pixels, g.width));
  if (stride < row)
    fail(TOKLIP_TRT_INVALID, "stride %lld is shorter than a row: %d pixels of %s take %lld bytes",
         static_cast<long long>(stride), g.width, name_of_pixels(g.pixels), row);
  const auto need = static_cast<long long>(frame_bytes(g.pixels, g.width, g.height, stride));
  if (size < static_cast<uint64_t>(need))
    fail(TOKLIP_TRT_INVALID, "a frame of %llu bytes is too short: %dx%d %s with stride %lld needs %lld", have, g.width,
         g.height, name_of_pixels(g.pixels), static_cast<long long>(stride), need);
}

}  // namespace toklip
