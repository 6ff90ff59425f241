// Runs kernels on bytes: tests in Go give it cases and compare what comes out with the reference.
//
//   toklip_kernels_check                 the CPU's kernels
//   toklip_kernels_check --gpu           the GPU's; exit code 77 where there is no GPU
//   toklip_kernels_check --libcuda PATH  those of a libcuda of one's own
//
// Requests come on standard input, answers go to standard output, both little-endian. A request is an operation (int32)
// and what that takes, see the functions below. An answer is 0 (int32), a size (int32) and so many bytes; or a
// toklip_trt_code (int32), a size and a message. It ends with its input.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/tokens.h"
#include "test/bench_device.h"

namespace toklip {
namespace {

constexpr int kNoGpu = 77;

void take(void *to, size_t size) {
  if (size != 0 && std::fread(to, 1, size, stdin) != size) throw std::runtime_error("the request ends early");
}

template <typename T>
T take() {
  T v;
  take(&v, sizeof v);
  return v;
}

template <typename T>
std::vector<T> take_vector(int64_t n) {
  std::vector<T> v(static_cast<size_t>(n));
  take(v.data(), v.size() * sizeof(T));
  return v;
}

void give(const void *data, size_t size) {
  if (std::fwrite(data, 1, size, stdout) != size) throw std::runtime_error("the answer cannot be written");
}

void answer(int32_t code, const void *data, size_t size) {
  const auto length = static_cast<int32_t>(size);
  give(&code, sizeof code);
  give(&length, sizeof length);
  give(data, size);
  std::fflush(stdout);
}

// Answers one operation after the other; keeps what a pipeline would keep.
class Check {
 public:
  explicit Check(Bench bench) : bench_(std::move(bench)) {}

  // int32 n, size, half, graph; float mean[3], std[3]; then n frames: int32 width, height, stride, pixels, resize, bytes
  // and the bytes. -> [n,3,S,S] fp32 or fp16. With graph the work is captured once for each n and launched from then on.
  void preprocess() {
    const auto n = take<int32_t>();
    PreprocessorOptions options = {};
    options.size = take<int32_t>();
    options.type = take<int32_t>() != 0 ? Type::kFP16 : Type::kFP32;
    const bool use_graph = take<int32_t>() != 0;
    take(options.mean, sizeof options.mean);
    take(options.std, sizeof options.std);
    std::vector<std::vector<uint8_t>> data(static_cast<size_t>(n));
    std::vector<toklip_trt_frame> frames;
    for (auto &bytes : data) {
      toklip_trt_frame frame = {};
      frame.width = take<int32_t>();
      frame.height = take<int32_t>();
      frame.stride = take<int32_t>();
      frame.pixels = static_cast<toklip_trt_pixels>(take<int32_t>());
      frame.resize = static_cast<toklip_trt_resize>(take<int32_t>());
      bytes = take_vector<uint8_t>(take<int32_t>());
      frame.data = bytes.data();
      frame.size = bytes.size();
      frames.push_back(frame);
    }
    options.batch_max = kBatchMax;
    if (n < 1 || n > kBatchMax) throw std::runtime_error("batch size");
    if (preprocessor_ == nullptr || options.size != options_.size || options.type != options_.type ||
        std::memcmp(options.mean, options_.mean, sizeof options.mean) != 0 ||
        std::memcmp(options.std, options_.std, sizeof options.std) != 0) {
      graphs_.clear();
      preprocessor_ = nullptr;
      preprocessor_ = bench_.kernels->new_preprocessor(options);
      options_ = options;
      image_ = bench_.array(image_bytes() * kBatchMax);
    }
    for (const toklip_trt_frame &frame : frames) preprocessor_->check(frame);
    if (preprocessor_->reserve(frames.data(), n)) graphs_.clear();
    preprocessor_->load(frames.data(), n);
    const auto work = [&] {
      preprocessor_->upload(*bench_.stream, n);
      preprocessor_->enqueue(*bench_.stream, n, image_.place);
    };
    if (use_graph) {
      graphs_.resize(kBatchMax + 1);
      auto &graph = graphs_[static_cast<size_t>(n)];
      if (graph == nullptr) graph = bench_.stream->capture(work);
      bench_.stream->launch(*graph);
    } else {
      work();
    }
    bench_.fetch(image_);
    bench_.wait();
    answer(0, image_.pinned.host(), image_bytes() * static_cast<size_t>(n));
  }

  // int32 n, tokens, dim, codes; float codebook[codes,dim], latents[n,dim,tokens] -> int32 ids[n,tokens].
  void search() {
    const auto n = take<int32_t>();
    SearchOptions options = {};
    options.tokens = take<int32_t>();
    options.dim = take<int32_t>();
    options.size = take<int32_t>();
    const std::vector<float> codebook = take_vector<float>(int64_t{options.size} * options.dim);
    const std::vector<float> latents = take_vector<float>(int64_t{n} * options.dim * options.tokens);
    options.codebook = codebook.data();
    options.batch_max = n;
    const auto search = bench_.kernels->new_search(options);
    const Bench::Array in = bench_.filled(latents.data(), latents.size() * sizeof(float));
    const Bench::Array ids = bench_.array(static_cast<size_t>(n * options.tokens) * sizeof(int32_t));
    search->enqueue(*bench_.stream, n, static_cast<const float *>(in.place), static_cast<int32_t *>(ids.place));
    bench_.fetch(ids);
    bench_.wait();
    answer(0, ids.pinned.host(), ids.pinned.size());
  }

  // int32 n, tokens, bits, streams; int32 {stream, fresh}[n]; int32 ids[n,tokens], last[streams,tokens]
  // -> uint64 changed[n,words], int32 counts[n], packed[n,bytes], last, copy[n,tokens].
  void compare() {
    const auto n = take<int32_t>();
    Compare c = {};
    c.tokens = take<int32_t>();
    c.bits = take<int32_t>();
    const auto streams = take<int32_t>();
    const auto frames_in = take_vector<FrameState>(n);
    const auto ids_in = take_vector<int32_t>(int64_t{n} * c.tokens);
    const auto last_in = take_vector<int32_t>(int64_t{streams} * c.tokens);
    const auto count = static_cast<size_t>(n);
    const Bench::Array frames = bench_.filled(frames_in.data(), frames_in.size() * sizeof(FrameState));
    const Bench::Array ids = bench_.filled(ids_in.data(), ids_in.size() * sizeof(int32_t));
    const Bench::Array last = bench_.filled(last_in.data(), last_in.size() * sizeof(int32_t));
    const Bench::Array changed = bench_.array(count * static_cast<size_t>(mask_words(c.tokens)) * sizeof(uint64_t));
    const Bench::Array counts = bench_.array(count * sizeof(int32_t));
    const Bench::Array packed = bench_.array(count * static_cast<size_t>(packed_bytes(c.tokens, c.bits)));
    const Bench::Array copy = bench_.array(ids_in.size() * sizeof(int32_t));
    c.frames = static_cast<const FrameState *>(frames.place);
    c.ids = static_cast<const int32_t *>(ids.place);
    c.last = static_cast<int32_t *>(last.place);
    c.changed = static_cast<uint64_t *>(changed.place);
    c.counts = static_cast<int32_t *>(counts.place);
    c.packed = static_cast<uint8_t *>(packed.place);
    c.copy = static_cast<int32_t *>(copy.place);
    bench_.kernels->compare(*bench_.stream, n, c);
    std::vector<uint8_t> out;
    for (const Bench::Array *a : {&changed, &counts, &packed, &last, &copy}) bench_.fetch(*a);
    bench_.wait();
    for (const Bench::Array *a : {&changed, &counts, &packed, &last, &copy}) {
      const auto bytes = Bench::read<uint8_t>(*a);
      out.insert(out.end(), bytes.begin(), bytes.end());
    }
    answer(0, out.data(), out.size());
  }

  // int32 n, rows, width; int32 in[rows,width], chosen[n] -> int32 [n,width].
  void gather() {
    const auto n = take<int32_t>();
    const auto rows = take<int32_t>();
    const auto width = take<int32_t>();
    const auto in = take_vector<int32_t>(int64_t{rows} * width);
    const auto chosen = take_vector<int32_t>(n);
    const Bench::Array from = bench_.filled(in.data(), in.size() * sizeof(int32_t));
    const Bench::Array which = bench_.filled(chosen.data(), chosen.size() * sizeof(int32_t));
    const Bench::Array to = bench_.array(static_cast<size_t>(n * width) * sizeof(int32_t));
    bench_.kernels->gather(*bench_.stream, n, static_cast<const int32_t *>(from.place),
                           static_cast<const int32_t *>(which.place), width, static_cast<int32_t *>(to.place));
    bench_.fetch(to);
    bench_.wait();
    answer(0, to.pinned.host(), to.pinned.size());
  }

  // int32 n, width; float in[n,width] -> float [n,width].
  void normalise() {
    const auto n = take<int32_t>();
    const auto width = take<int32_t>();
    const auto in = take_vector<float>(int64_t{n} * width);
    const Bench::Array from = bench_.filled(in.data(), in.size() * sizeof(float));
    const Bench::Array to = bench_.array(in.size() * sizeof(float));
    bench_.kernels->normalise(*bench_.stream, n, static_cast<const float *>(from.place), width,
                              static_cast<float *>(to.place));
    bench_.fetch(to);
    bench_.wait();
    answer(0, to.pinned.host(), to.pinned.size());
  }

  void run() {
    int32_t operation = 0;
    while (std::fread(&operation, 1, sizeof operation, stdin) == sizeof operation) {
      try {
        switch (operation) {
          case 1:
            preprocess();
            break;
          case 2:
            search();
            break;
          case 3:
            compare();
            break;
          case 4:
            gather();
            break;
          case 5:
            normalise();
            break;
          default:
            throw std::runtime_error("operation " + std::to_string(operation));
        }
      } catch (const Error &e) {
        answer(e.code(), e.what(), std::strlen(e.what()));
      }
    }
  }

 private:
  static constexpr int32_t kBatchMax = 8;

  size_t image_bytes() const {
    return size_t{3} * static_cast<size_t>(options_.size) * static_cast<size_t>(options_.size) * size_of(options_.type);
  }

  Bench bench_;
  PreprocessorOptions options_ = {};
  std::unique_ptr<Preprocessor> preprocessor_;
  std::vector<std::unique_ptr<Graph>> graphs_;
  Bench::Array image_;
};

int run(int argc, char **argv) {
  const std::string option = argc > 1 ? argv[1] : "";
  if (option == "--libcuda" && argc == 3) {
    Check(Bench::gpu(argv[2], "no kernels")).run();
  } else if (option == "--gpu" && argc == 2) {
    try {
      Check(Bench::gpu("", nullptr)).run();
    } catch (const Error &e) {
      if (e.code() != TOKLIP_TRT_NO_DEVICE) throw;
      std::fprintf(stderr, "no GPU: %s\n", e.what());
      return kNoGpu;
    }
  } else if (argc == 1) {
    Check(Bench::host()).run();
  } else {
    std::fprintf(stderr, "use: %s [--gpu | --libcuda PATH]\n", argv[0]);
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace toklip

int main(int argc, char **argv) {
  try {
    return toklip::run(argc, argv);
  } catch (const std::exception &e) {
    std::fprintf(stderr, "%s: %s\n", argv[0], e.what());
    return 1;
  }
}
