// The arithmetic of csrc/kernels against plain loops, on the CPU.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu_forms.h"
#include "kernels/half.h"
#include "kernels/layout.h"
#include "kernels/pixels.h"
#include "kernels/taps.h"
#include "kernels/tokens.h"
#include "kernels/unit.h"
#include "test/bench_device.h"
#include "test/expect.h"

namespace toklip {
namespace {

// Value of a finite half.
double value_of(uint16_t h) {
  const int exponent = (h >> 10) & 31;
  const int mantissa = h & 1023;
  const double v = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (h & 0x8000) != 0 ? -v : v;
}

// Every half and all that lies between two of them.
void test_half() {
  for (uint32_t h = 0; h < 0x7c00; h++) {
    const auto v = static_cast<float>(value_of(static_cast<uint16_t>(h)));
    EXPECT(half_of(v) == h);
    EXPECT(half_of(-v) == (h | 0x8000U));
    // The next half above; past the greatest it would be 65536.
    const double next = h == 0x7bff ? 65536.0 : value_of(static_cast<uint16_t>(h + 1));
    const auto middle = static_cast<float>((static_cast<double>(v) + next) / 2);
    EXPECT(half_of(middle) == (h % 2 == 0 ? h : h + 1));
    EXPECT(half_of(std::nextafterf(middle, 0)) == h);
    EXPECT(half_of(std::nextafterf(middle, 1e9F)) == h + 1);
  }
  EXPECT(half_of(std::numeric_limits<float>::infinity()) == 0x7c00);
  EXPECT(half_of(-1e30F) == 0xfc00);
  EXPECT(half_of(std::numeric_limits<float>::denorm_min()) == 0);
  EXPECT((half_of(std::numeric_limits<float>::quiet_NaN()) & 0x7fff) == 0x7e00);
}

// The definition of search.h, word by word.
std::vector<int32_t> plain_search(const std::vector<float> &codebook, const std::vector<float> &latents, int32_t n,
                                  int32_t tokens, int32_t dim, int32_t codes) {
  const auto unit = [dim](const float *from, size_t stride) {
    float s = 0;
    for (int32_t c = 0; c < dim; c++) {
      const float v = from[static_cast<size_t>(c) * stride];
      s = std::fmaf(v, v, s);
    }
    float length = std::sqrt(s);
    if (length < 1e-12F) length = 1e-12F;
    std::vector<float> u;
    for (int32_t c = 0; c < dim; c++) u.push_back(from[static_cast<size_t>(c) * stride] / length);
    return u;
  };
  std::vector<std::vector<float>> e;
  for (int32_t k = 0; k < codes; k++)
    e.push_back(unit(&codebook[static_cast<size_t>(k) * static_cast<size_t>(dim)], 1));
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < n; i++) {
    for (int32_t t = 0; t < tokens; t++) {
      const auto u = unit(&latents[static_cast<size_t>(i) * static_cast<size_t>(dim * tokens) + static_cast<size_t>(t)],
                          static_cast<size_t>(tokens));
      int32_t best = 0;
      float cosine = -std::numeric_limits<float>::infinity();
      for (int32_t k = 0; k < codes; k++) {
        float a = 0;
        for (size_t c = 0; c < u.size(); c++) a = std::fmaf(u[c], e[static_cast<size_t>(k)][c], a);
        if (a > cosine) {
          cosine = a;
          best = k;
        }
      }
      ids.push_back(best);
    }
  }
  return ids;
}

std::vector<int32_t> bench_search(const Bench &b, const std::vector<float> &codebook, const std::vector<float> &latents,
                                  int32_t n, int32_t tokens, int32_t dim, int32_t codes) {
  const auto search = b.kernels->new_search(SearchOptions{codebook.data(), codes, dim, tokens, n});
  const Bench::Array in = b.filled(latents.data(), latents.size() * sizeof(float));
  const Bench::Array out = b.array(static_cast<size_t>(n * tokens) * sizeof(int32_t));
  search->enqueue(*b.stream, n, static_cast<const float *>(in.place), static_cast<int32_t *>(out.place));
  b.fetch(out);
  b.wait();
  return Bench::read<int32_t>(out);
}

// Every dimension there is, with ties: half of the codes are copies, opposites or multiples of others, and values are
// coarse.
void test_search() {
  const Bench b = Bench::host();
  std::mt19937 random(1);
  for (int32_t dim = 1; dim <= 32; dim++) {
    for (const bool coarse : {false, true}) {
      const int32_t n = 1 + dim % 3;
      const int32_t tokens = 5 + 9 * (dim % 5);
      const int32_t codes = 1 + static_cast<int32_t>(random() % 700);
      const auto value = [&] {
        return coarse ? static_cast<float>(static_cast<int>(random() % 3)) - 1
                      : static_cast<float>(random()) * 0x1p-31F - 1;
      };
      std::vector<float> codebook(static_cast<size_t>(codes * dim));
      for (size_t i = 0; i < codebook.size(); i++) {
        const size_t back = static_cast<size_t>(dim) * (1 + i / static_cast<size_t>(dim) / 3);
        const bool copy = (i / static_cast<size_t>(dim)) % 2 == 1 && i >= back;
        codebook[i] = copy ? codebook[i - back] * (i / static_cast<size_t>(dim) % 4 == 1 ? 2.0F : 1.0F) : value();
        // Some differ by so little that only rounding tells them apart.
        if (copy && !coarse && random() % 3 == 0) codebook[i] = std::nextafterf(codebook[i], value());
      }
      std::vector<float> latents(static_cast<size_t>(n * tokens * dim));
      for (float &v : latents) v = value();
      EXPECT(bench_search(b, codebook, latents, n, tokens, dim, codes) ==
             plain_search(codebook, latents, n, tokens, dim, codes));
    }
  }
}

// Latents that are no numbers give an id inside the codebook.
void test_search_of_anything() {
  const Bench b = Bench::host();
  constexpr float inf = std::numeric_limits<float>::infinity();
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> codebook = {1, 0, 0, 1, -1, 0};
  // As [dim, tokens]: tokens (nan,1) (inf,1) (0,0) (3e38,3e38) (-2,0) (0,1e-30) (1e-44,0)
  const std::vector<float> latents = {nan, inf, 0, 3e38F, -2, 0, 1e-44F, 1, 1, 0, 3e38F, 0, 1e-30F, 0};
  const auto ids = bench_search(b, codebook, latents, 1, 7, 2, 3);
  EXPECT(ids == plain_search(codebook, latents, 1, 7, 2, 3));
  for (const int32_t id : ids) EXPECT(id >= 0 && id < 3);
  EXPECT(ids[0] == 0 && ids[2] == 0 && ids[4] == 2);

  EXPECT_ERROR(TOKLIP_TRT_INVALID, "1 to 32", b.kernels->new_search(SearchOptions{codebook.data(), 1, 33, 1, 1}));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "0 codes", b.kernels->new_search(SearchOptions{codebook.data(), 0, 2, 1, 1}));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "NULL", b.kernels->new_search(SearchOptions{nullptr, 1, 2, 1, 1}));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "value 0 of code 0",
               b.kernels->new_search(SearchOptions{latents.data(), 1, 2, 1, 1}));
}

void test_packing() {
  std::mt19937 random(2);
  for (int32_t bits = 1; bits <= 31; bits++) {
    for (const int32_t tokens : {1, 2, 7, 8, 16, 63, 64, 65, 256, 577}) {
      std::vector<int32_t> ids(static_cast<size_t>(tokens));
      for (int32_t &id : ids) id = static_cast<int32_t>(random() & ((1U << bits) - 1));
      std::vector<uint8_t> want(static_cast<size_t>(packed_bytes(tokens, bits)));
      EXPECT(want.size() == static_cast<size_t>(tokens * bits + 7) / 8);
      for (size_t bit = 0; bit < static_cast<size_t>(tokens * bits); bit++) {
        const size_t width = static_cast<size_t>(bits);
        if ((ids[bit / width] >> (bit % width)) & 1)
          want[bit / 8] = static_cast<uint8_t>(want[bit / 8] | 1U << bit % 8);
      }
      for (size_t i = 0; i < want.size(); i++)
        EXPECT(packed_byte(ids.data(), tokens, bits, static_cast<int32_t>(i)) == want[i]);
    }
  }
  EXPECT(token_bits(1) == 1 && token_bits(2) == 1 && token_bits(3) == 2 && token_bits(512) == 9 &&
         token_bits(16384) == 14 && token_bits(16385) == 15);
}

void test_normalise() {
  const Bench b = Bench::host();
  std::mt19937 random(3);
  for (const int32_t width : {1, 3, 255, 256, 257, 1152}) {
    std::vector<float> in(static_cast<size_t>(3 * width));
    for (float &v : in) v = static_cast<float>(random()) * 0x1p-29F - 4;
    std::fill(in.begin() + width, in.begin() + 2 * width, 0.0F);
    const Bench::Array from = b.filled(in.data(), in.size() * sizeof(float));
    const Bench::Array to = b.array(in.size() * sizeof(float));
    b.kernels->normalise(*b.stream, 3, static_cast<const float *>(from.place), width, static_cast<float *>(to.place));
    b.wait();
    const auto out = Bench::read<float>(to);
    for (size_t row = 0; row < 3; row++) {
      double squares = 0;
      for (size_t i = 0; i < static_cast<size_t>(width); i++) {
        const double v = static_cast<double>(in[row * static_cast<size_t>(width) + i]);
        squares += v * v;
      }
      for (size_t i = 0; i < static_cast<size_t>(width); i++) {
        const size_t at = row * static_cast<size_t>(width) + i;
        const double want = squares > 0 ? static_cast<double>(in[at]) / std::sqrt(squares) : 0;
        EXPECT(std::fabs(static_cast<double>(out[at]) - want) < 1e-6);
      }
    }
  }
}

// Sums of a pass stay within 32 bits, and starts and ends of taps never fall: the passes rely on both.
void test_taps() {
  for (const int32_t in : {1, 2, 3, 17, 240, 1080, 1920, 3840, 16384}) {
    for (const int32_t out : {1, 2, 64, 256, 384, 1001}) {
      const Taps t = make_taps(in, out, 0, out);
      EXPECT(t.from() == 0 && t.to() == in);
      for (size_t i = 0; i < t.start.size(); i++) {
        int64_t most = 1 << 21;
        int64_t all = 0;
        for (int32_t j = 0; j < t.count[i]; j++) {
          const int64_t w = t.weights[static_cast<size_t>(j) * t.start.size() + i];
          most += 255 * std::abs(w);
          all += w;
        }
        EXPECT(most < std::numeric_limits<int32_t>::max());
        // Every weight is rounded by half at most.
        EXPECT(std::abs(all - (1 << kTapBits)) <= t.count[i] / 2 + 1);
        EXPECT(t.count[i] > 0 && t.count[i] <= t.most && t.start[i] >= 0 && t.start[i] + t.count[i] <= in);
        if (i > 0) EXPECT(t.start[i] >= t.start[i - 1] && t.start[i] + t.count[i] >= t.start[i - 1] + t.count[i - 1]);
      }
    }
  }
}

PreprocessorOptions preprocessor_options() {
  PreprocessorOptions o = {};
  o.size = 32;
  o.batch_max = 2;
  o.type = Type::kFP32;
  for (float &v : o.mean) v = 0.5F;
  for (float &v : o.std) v = 0.5F;
  return o;
}

toklip_trt_frame gray(const std::vector<uint8_t> &data, int32_t width, int32_t height) {
  toklip_trt_frame f = {};
  f.data = data.data();
  f.size = data.size();
  f.width = f.stride = width;
  f.height = height;
  f.pixels = TOKLIP_TRT_GRAY;
  f.resize = TOKLIP_TRT_SQUASH;
  return f;
}

// Far more geometries than are remembered, with a steady one among them; room is not taken twice for what fits.
void test_many_geometries() {
  const Bench b = Bench::host();
  const auto &device = static_cast<const HostDevice &>(*b.device);
  const uint64_t before = device.allocated();
  {
    const auto p = b.kernels->new_preprocessor(preprocessor_options());
    const Bench::Array image = b.array(size_t{2} * 3 * 32 * 32 * sizeof(float));
    const std::vector<uint8_t> data(size_t{64} * 400, 99);
    uint64_t most = 0;
    for (int32_t i = 0; i < 300; i++) {
      const toklip_trt_frame frames[2] = {gray(data, 64, 48), gray(data, 64, 100 + i)};
      p->check(frames[1]);
      p->reserve(frames, 2);
      p->load(frames, 2);
      p->upload(*b.stream, 2);
      p->enqueue(*b.stream, 2, image.place);
      b.wait();
      const auto out = Bench::read<float>(image);
      const float want = normalised(99, 0.5F, 0.5F);
      for (const float v : out) EXPECT(v == want);
      if (i == 150) most = device.allocated();
    }
    EXPECT(device.allocated() < most + (1U << 20));
    const toklip_trt_frame steady[2] = {gray(data, 64, 48), gray(data, 64, 399)};
    const uint64_t allocations = device.allocations();
    for (int32_t i = 0; i < 10; i++) {
      EXPECT(!p->reserve(steady, 2));
      p->load(steady, 2);
    }
    EXPECT(device.allocations() == allocations);
  }
  EXPECT(device.allocated() == before);
}

void test_bad_frames() {
  const Bench b = Bench::host();
  const auto p = b.kernels->new_preprocessor(preprocessor_options());
  const std::vector<uint8_t> data(4096);
  const auto with = [&](int32_t width, int32_t height, int32_t stride, int pixels, int resize, size_t size) {
    toklip_trt_frame f = gray(data, width, height);
    f.stride = stride;
    f.pixels = static_cast<toklip_trt_pixels>(pixels);
    f.resize = static_cast<toklip_trt_resize>(resize);
    f.size = size;
    return f;
  };
  p->check(with(8, 8, 8, TOKLIP_TRT_GRAY, TOKLIP_TRT_SQUASH, 64));
  p->check(with(8, 8, 100, TOKLIP_TRT_GRAY, TOKLIP_TRT_SQUASH, 708));
  p->check(with(8, 8, 8, TOKLIP_TRT_NV12, TOKLIP_TRT_LONGEST, 96));
  p->check(with(0, 0, 0, TOKLIP_TRT_IMAGE, 0, size_t{3} * 32 * 32 * 4));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "width 0", p->check(with(0, 8, 8, TOKLIP_TRT_GRAY, 1, 64)));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "height 16385", p->check(with(8, 16385, 8, TOKLIP_TRT_GRAY, 1, 64)));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "pixel format 9", p->check(with(8, 8, 8, 9, 1, 64)));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "pixel format 0", p->check(with(8, 8, 8, 0, 1, 64)));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "resize mode 4", p->check(with(8, 8, 8, TOKLIP_TRT_GRAY, 4, 64)));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "stride 7", p->check(with(8, 8, 7, TOKLIP_TRT_GRAY, 1, 64)));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "stride -8", p->check(with(8, 8, -8, TOKLIP_TRT_GRAY, 1, 64)));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "needs 64", p->check(with(8, 8, 8, TOKLIP_TRT_GRAY, 1, 63)));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "odd", p->check(with(7, 8, 14, TOKLIP_TRT_YUYV, 1, 200)));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "odd", p->check(with(8, 7, 8, TOKLIP_TRT_NV12, 1, 200)));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "needs 96", p->check(with(8, 8, 8, TOKLIP_TRT_NV12, 1, 95)));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "nothing to see", p->check(with(4000, 1, 4000, TOKLIP_TRT_GRAY, 3, 4000)));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "12288", p->check(with(0, 0, 0, TOKLIP_TRT_IMAGE, 0, 12287)));
  toklip_trt_frame none = gray(data, 8, 8);
  none.data = nullptr;
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "NULL", p->check(none));

  PreprocessorOptions bad = preprocessor_options();
  bad.size = 5000;
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "5000", b.kernels->new_preprocessor(bad));
  bad = preprocessor_options();
  bad.std[1] = 0;
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "deviation 0", b.kernels->new_preprocessor(bad));
  bad = preprocessor_options();
  bad.type = Type::kINT32;
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "int32", b.kernels->new_preprocessor(bad));
}

constexpr Case kCases[] = {
    {"half", test_half},
    {"search", test_search},
    {"search of anything", test_search_of_anything},
    {"packing", test_packing},
    {"normalise", test_normalise},
    {"taps", test_taps},
    {"many geometries", test_many_geometries},
    {"bad frames", test_bad_frames},
};

}  // namespace
}  // namespace toklip

int main() { return toklip::run_cases(toklip::kCases); }
