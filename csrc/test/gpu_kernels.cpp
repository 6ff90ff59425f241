// The CUDA kernels on a GPU: their results against the CPU's, which must be the same to the bit, and their times.
//
//   toklip_gpu_kernels           compares, in random cases of every kind; run it under compute-sanitizer too
//   toklip_gpu_kernels --bench   also tells the time of each, by events
//   toklip_gpu_kernels --libcuda PATH  with a libcuda of one's own, to try the program itself
//
// Exit codes: 0 all are equal, 1 some are not or something failed, 77 there is no GPU.
// The reference pictures are compared by csrc/test/kernels, with TOKLIP_KERNELS_CHECK=…/toklip_kernels_check.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/pixels.h"
#include "kernels/tokens.h"
#include "test/bench_device.h"

namespace toklip {
namespace {

constexpr int kNoGpu = 77;

int differences = 0;

void compare_bytes(const std::string &what, const Bench::Array &gpu, const Bench::Array &cpu) {
  const auto a = Bench::read<uint8_t>(gpu);
  const auto b = Bench::read<uint8_t>(cpu);
  const auto at = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  if (at.first == a.end() && at.second == b.end()) return;
  differences++;
  std::printf("DIFFERS %s at byte %td of %zu\n", what.c_str(), at.first - a.begin(), a.size());
}

template <typename T>
T *of(const Bench::Array &a) {
  return static_cast<T *>(a.place);
}

struct Frames {
  std::vector<std::vector<uint8_t>> data;
  std::vector<toklip_trt_frame> frames;

  void add(std::mt19937 &random, int32_t width, int32_t height, int32_t padding, toklip_trt_pixels pixels,
           toklip_trt_resize resize) {
    const int64_t stride = row_bytes(pixels, width) + padding;
    std::vector<uint8_t> bytes(static_cast<size_t>(frame_bytes(pixels, width, height, stride)));
    for (uint8_t &b : bytes) b = static_cast<uint8_t>(random());
    data.push_back(std::move(bytes));
    toklip_trt_frame frame = {};
    frame.data = data.back().data();
    frame.size = data.back().size();
    frame.width = width;
    frame.height = height;
    frame.stride = static_cast<int32_t>(stride);
    frame.pixels = pixels;
    frame.resize = resize;
    frames.push_back(frame);
  }

  std::string describe() const {
    std::string out;
    for (const toklip_trt_frame &f : frames)
      out +=
          text(" %dx%d pixels %d resize %d", f.width, f.height, static_cast<int>(f.pixels), static_cast<int>(f.resize));
    return out;
  }
};

PreprocessorOptions preprocessor_options(int32_t size, Type type) {
  return PreprocessorOptions{
      size, 8, {0.48145466F, 0.4578275F, 0.40821073F}, {0.26862954F, 0.26130258F, 0.27577711F}, type};
}

size_t image_bytes(const PreprocessorOptions &o, size_t n) {
  return n * 3 * static_cast<size_t>(o.size) * static_cast<size_t>(o.size) * size_of(o.type);
}

Bench::Array preprocess(const Bench &b, Preprocessor &p, const PreprocessorOptions &o, const Frames &f) {
  const auto n = static_cast<int32_t>(f.frames.size());
  for (const toklip_trt_frame &frame : f.frames) p.check(frame);
  p.reserve(f.frames.data(), n);
  p.load(f.frames.data(), n);
  Bench::Array image = b.array(image_bytes(o, f.frames.size()));
  p.upload(*b.stream, n);
  p.enqueue(*b.stream, n, image.place);
  b.fetch(image);
  b.wait();
  return image;
}

void check_preprocess(const Bench &gpu, const Bench &cpu, std::mt19937 &random) {
  for (const int32_t size : {256, 384, 65}) {
    for (const Type type : {Type::kFP32, Type::kFP16}) {
      const PreprocessorOptions o = preprocessor_options(size, type);
      const auto on_gpu = gpu.kernels->new_preprocessor(o);
      const auto on_cpu = cpu.kernels->new_preprocessor(o);
      for (int round = 0; round < 12; round++) {
        Frames f;
        for (unsigned i = 0; i <= random() % 3; i++) {
          auto width = static_cast<int32_t>(2 + random() % 1500);
          auto height = static_cast<int32_t>(2 + random() % 1200);
          if (random() % 4 == 0) width = 1 + width / 8;  // tall: the passes go the other way round
          if (random() % 16 == 0) width = 16384, height = 16;
          width += width % 2;
          height += height % 2;
          const auto resize = static_cast<toklip_trt_resize>(1 + random() % 2);
          f.add(random, width, height, static_cast<int32_t>(random() % 3 * 17),
                static_cast<toklip_trt_pixels>(1 + random() % 6), resize);
        }
        f.add(random, 640, 480, 0, TOKLIP_TRT_BGR, TOKLIP_TRT_LONGEST);
        compare_bytes("preprocess" + f.describe(), preprocess(gpu, *on_gpu, o, f), preprocess(cpu, *on_cpu, o, f));
      }
    }
  }
}

struct Codes {
  std::vector<float> codebook, latents;

  Codes(std::mt19937 &random, int32_t n, int32_t tokens, int32_t dim, int32_t codes)
      : codebook(static_cast<size_t>(codes) * static_cast<size_t>(dim)),
        latents(static_cast<size_t>(n) * static_cast<size_t>(tokens) * static_cast<size_t>(dim)) {
    const auto width = static_cast<size_t>(dim);
    for (float &v : latents) v = static_cast<float>(random()) * 0x1p-31F - 1;
    for (size_t i = 0; i < codebook.size(); i++) {
      const size_t k = i / width;
      const size_t back = width * (1 + k / 2);
      codebook[i] = static_cast<float>(random()) * 0x1p-31F - 1;
      // Copies, and codes that only rounding tells apart.
      if (k % 3 == 2) codebook[i] = codebook[i - back];
      if (k % 3 == 1 && k > 3) codebook[i] = codebook[i - back] * (1 + 0x1p-23F * static_cast<float>(random() % 3));
    }
  }
};

Bench::Array search(const Bench &b, const Codes &c, int32_t n, int32_t tokens, int32_t dim, int32_t codes) {
  const auto s = b.kernels->new_search(SearchOptions{c.codebook.data(), codes, dim, tokens, n});
  const Bench::Array latents = b.filled(c.latents.data(), c.latents.size() * sizeof(float));
  Bench::Array ids = b.array(static_cast<size_t>(n * tokens) * sizeof(int32_t));
  s->enqueue(*b.stream, n, of<const float>(latents), of<int32_t>(ids));
  b.fetch(ids);
  b.wait();
  return ids;
}

void check_search(const Bench &gpu, const Bench &cpu, std::mt19937 &random) {
  constexpr int32_t shapes[][4] = {{1, 256, 8, 16384}, {8, 256, 8, 16384}, {1, 576, 8, 16384}, {1, 16, 8, 512},
                                   {3, 77, 8, 1001},   {2, 40, 4, 999},    {1, 100, 16, 2048}, {1, 33, 32, 555},
                                   {2, 5, 13, 77},     {1, 1, 1, 1}};
  for (const auto &s : shapes) {
    const Codes c(random, s[0], s[1], s[2], s[3]);
    compare_bytes(text("search %dx%d of %dx%d", s[0], s[1], s[3], s[2]), search(gpu, c, s[0], s[1], s[2], s[3]),
                  search(cpu, c, s[0], s[1], s[2], s[3]));
  }
}

// Everything that Compare writes.
struct Compared {
  Bench::Array frames, ids, last, changed, counts, packed, copy;

  Compared(const Bench &b, const std::vector<FrameState> &states, const std::vector<int32_t> &values,
           const std::vector<int32_t> &before, int32_t tokens, int32_t bits) {
    const size_t n = states.size();
    frames = b.filled(states.data(), n * sizeof(FrameState));
    ids = b.filled(values.data(), values.size() * sizeof(int32_t));
    last = b.filled(before.data(), before.size() * sizeof(int32_t));
    changed = b.array(n * static_cast<size_t>(mask_words(tokens)) * sizeof(uint64_t));
    counts = b.array(n * sizeof(int32_t));
    packed = b.array(n * static_cast<size_t>(packed_bytes(tokens, bits)));
    copy = b.array(values.size() * sizeof(int32_t));
    b.kernels->compare(*b.stream, static_cast<int32_t>(n), arguments(tokens, bits));
    for (const Bench::Array *a : {&last, &changed, &counts, &packed, &copy}) b.fetch(*a);
    b.wait();
  }

  Compare arguments(int32_t tokens, int32_t bits) const {
    return Compare{of<const FrameState>(frames),
                   of<const int32_t>(ids),
                   of<int32_t>(last),
                   of<uint64_t>(changed),
                   of<int32_t>(counts),
                   of<uint8_t>(packed),
                   of<int32_t>(copy),
                   tokens,
                   bits};
  }
};

void check_tokens(const Bench &gpu, const Bench &cpu, std::mt19937 &random) {
  for (const int32_t tokens : {1, 16, 63, 256, 576, 1000}) {
    for (const int32_t bits : {1, 9, 14, 20}) {
      const auto width = static_cast<size_t>(tokens);
      std::vector<int32_t> last(4 * width);
      for (int32_t &id : last) id = static_cast<int32_t>(random() % (1U << bits));
      std::vector<int32_t> ids(last.begin() + tokens, last.end());
      for (int32_t &id : ids) {
        if (random() % 3 == 0) id = static_cast<int32_t>(random() % (1U << bits));
      }
      const std::vector<FrameState> states = {{1, 0}, {2, 0}, {3, 1}};
      const Compared a(gpu, states, ids, last, tokens, bits);
      const Compared b(cpu, states, ids, last, tokens, bits);
      const std::string what = text("compare %d tokens of %d bits, ", tokens, bits);
      compare_bytes(what + "mask", a.changed, b.changed);
      compare_bytes(what + "counts", a.counts, b.counts);
      compare_bytes(what + "packed", a.packed, b.packed);
      compare_bytes(what + "last", a.last, b.last);
      compare_bytes(what + "copy", a.copy, b.copy);

      const int32_t rows[] = {3, 1};
      const auto gather = [&](const Bench &x) {
        const Bench::Array in = x.filled(last.data(), last.size() * sizeof(int32_t));
        const Bench::Array which = x.filled(rows, sizeof rows);
        Bench::Array out = x.array(2 * width * sizeof(int32_t));
        x.kernels->gather(*x.stream, 2, of<const int32_t>(in), of<const int32_t>(which), tokens, of<int32_t>(out));
        x.fetch(out);
        x.wait();
        return out;
      };
      compare_bytes("gather", gather(gpu), gather(cpu));
    }
  }
  for (const int32_t width : {1, 96, 300, 1152}) {
    std::vector<float> in(3 * static_cast<size_t>(width));
    for (float &v : in) v = static_cast<float>(random()) * 0x1p-30F - 2;
    const auto normalise = [&](const Bench &x) {
      const Bench::Array from = x.filled(in.data(), in.size() * sizeof(float));
      Bench::Array to = x.array(in.size() * sizeof(float));
      x.kernels->normalise(*x.stream, 3, of<const float>(from), width, of<float>(to));
      x.fetch(to);
      x.wait();
      return to;
    };
    compare_bytes(text("normalise %d", width), normalise(gpu), normalise(cpu));
  }
}

// Time of what `work` enqueues, median of many single runs, and of a graph of it.
template <typename Work>
void time_of(const Bench &b, const std::string &what, double bytes, const Work &work) {
  const auto begin = b.device->new_event();
  const auto median = [&](const auto &run) {
    std::vector<float> times;
    for (int i = 0; i < 60; i++) {
      b.stream->record(*begin);
      run();
      b.wait();
      if (i >= 10) times.push_back(b.end->microseconds_since(*begin));
    }
    std::sort(times.begin(), times.end());
    return static_cast<double>(times[times.size() / 2]);
  };
  const double alone = median(work);
  const auto graph = b.stream->capture(work);
  const double launched = median([&] { b.stream->launch(*graph); });
  std::printf("%-52s %9.1f us  graph %9.1f us", what.c_str(), alone, launched);
  if (bytes > 0) std::printf("  %7.1f GB/s", bytes / launched / 1e3);
  std::printf("\n");
}

void bench_preprocess(const Bench &b, std::mt19937 &random) {
  const PreprocessorOptions o = preprocessor_options(256, Type::kFP16);
  const struct {
    int32_t width, height;
    toklip_trt_pixels pixels;
    size_t n;
  } cases[] = {{1920, 1080, TOKLIP_TRT_BGR, 1},  {1920, 1080, TOKLIP_TRT_BGR, 8},  {1920, 1080, TOKLIP_TRT_BGRX, 1},
               {1920, 1080, TOKLIP_TRT_NV12, 1}, {1920, 1080, TOKLIP_TRT_YUYV, 1}, {1080, 1920, TOKLIP_TRT_BGR, 1},
               {640, 480, TOKLIP_TRT_BGR, 1},    {3840, 2160, TOKLIP_TRT_NV12, 1}};
  for (const auto &c : cases) {
    Frames f;
    for (size_t i = 0; i < c.n; i++) f.add(random, c.width, c.height, 0, c.pixels, TOKLIP_TRT_SQUASH);
    const auto p = b.kernels->new_preprocessor(o);
    const auto n = static_cast<int32_t>(c.n);
    const Bench::Array image = b.array(image_bytes(o, c.n));
    p->reserve(f.frames.data(), n);
    p->load(f.frames.data(), n);
    const std::string name = text("%zu x %dx%d pixels %d", c.n, c.width, c.height, static_cast<int>(c.pixels));
    const double bytes = static_cast<double>(c.n) * static_cast<double>(f.data[0].size());
    time_of(b, "upload " + name, bytes, [&] { p->upload(*b.stream, n); });
    time_of(b, "preprocess " + name, bytes, [&] { p->enqueue(*b.stream, n, image.place); });
  }
}

void bench_rest(const Bench &b, std::mt19937 &random) {
  constexpr int32_t tokens = 256, dim = 8, codes = 16384;
  for (const int32_t n : {1, 8}) {
    const Codes c(random, n, tokens, dim, codes);
    const auto s = b.kernels->new_search(SearchOptions{c.codebook.data(), codes, dim, tokens, n});
    const Bench::Array latents = b.filled(c.latents.data(), c.latents.size() * sizeof(float));
    const Bench::Array ids = b.array(static_cast<size_t>(n * tokens) * sizeof(int32_t));
    time_of(b, text("search %d x %d of %d x %d", n, tokens, codes, dim), 0,
            [&] { s->enqueue(*b.stream, n, of<const float>(latents), of<int32_t>(ids)); });
    b.fetch(ids);
    b.wait();
    std::vector<FrameState> states;
    for (int32_t i = 0; i < n; i++) states.push_back(FrameState{i, 0});
    const auto values = Bench::read<int32_t>(ids);
    const Compared compared(b, states, values, values, tokens, 14);
    time_of(b, text("compare and pack %d x %d", n, tokens), 0,
            [&] { b.kernels->compare(*b.stream, n, compared.arguments(tokens, 14)); });
    const std::vector<float> vectors(static_cast<size_t>(n) * 1152, 0.5F);
    const Bench::Array in = b.filled(vectors.data(), vectors.size() * sizeof(float));
    const Bench::Array out = b.array(vectors.size() * sizeof(float));
    time_of(b, text("normalise %d x 1152", n), 0,
            [&] { b.kernels->normalise(*b.stream, n, of<const float>(in), 1152, of<float>(out)); });
  }
}

int run(bool bench, const char *libcuda) {
  std::unique_ptr<Bench> gpu;
  try {
    gpu = std::make_unique<Bench>(libcuda != nullptr ? Bench::gpu(libcuda, "no kernels") : Bench::gpu("", nullptr));
  } catch (const Error &e) {
    if (e.code() != TOKLIP_TRT_NO_DEVICE) throw;
    std::printf("no GPU: %s\n", e.what());
    return kNoGpu;
  }
  const toklip_trt_device_info info = gpu->device->info();
  std::printf("%s, sm_%d, CUDA %d.%d, %s; kernels for %s\n", info.name, info.sm, info.driver / 1000,
              info.driver % 1000 / 10, info.integrated ? "integrated" : "discrete", kernel_architectures());
  const Bench cpu = Bench::host();
  std::mt19937 random(20250215);
  check_preprocess(*gpu, cpu, random);
  check_search(*gpu, cpu, random);
  check_tokens(*gpu, cpu, random);
  std::printf("%s\n", differences == 0 ? "all equal to the CPU's, to the bit" : "NOT all equal to the CPU's");
  if (bench) {
    bench_preprocess(*gpu, random);
    bench_rest(*gpu, random);
  }
  return differences == 0 ? 0 : 1;
}

}  // namespace
}  // namespace toklip

int main(int argc, char **argv) {
  const bool bench = argc == 2 && std::strcmp(argv[1], "--bench") == 0;
  const char *libcuda = argc == 3 && std::strcmp(argv[1], "--libcuda") == 0 ? argv[2] : nullptr;
  if (argc > 1 && !bench && libcuda == nullptr) {
    std::fprintf(stderr, "use: %s [--bench | --libcuda PATH]\n", argv[0]);
    return 2;
  }
  try {
    return toklip::run(bench, libcuda);
  } catch (const std::exception &e) {
    std::fprintf(stderr, "%s: %s\n", argv[0], e.what());
    return 1;
  }
}
