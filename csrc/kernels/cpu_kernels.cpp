// Kernels on the CPU: the forms of cpu_forms.h, called in a stream's order.
#include <cstring>
#include <deque>
#include <mutex>
#include <type_traits>

#include "kernels/codes.h"
#include "kernels/cpu_forms.h"
#include "kernels/frames.h"
#include "kernels/kernels.h"

namespace toklip {
namespace {

// Arguments of host functions. They are kept as long as the Kernels, because a graph may hold their addresses; the same
// arguments, which a slot of the pipeline has in every batch, are kept once. Any thread.
template <typename T>
class Arguments {
 public:
  void *keep(const T &arguments) {
    static_assert(std::has_unique_object_representations_v<T>, "compared byte by byte");
    const std::lock_guard<std::mutex> lock(mutex_);
    for (T &kept : all_) {
      if (std::memcmp(&kept, &arguments, sizeof arguments) == 0) return &kept;
    }
    all_.push_back(arguments);
    return &all_.back();
  }

 private:
  std::mutex mutex_;
  std::deque<T> all_;  // whose elements stay where they are
};

template <typename Work>
struct Call {
  Work work;
  int64_t n;
};

// Calls form(work, n) in the stream's order.
template <typename Work, void (*form)(const Work &, int32_t)>
void enqueue_call(Stream &stream, Arguments<Call<Work>> &arguments, const Work &work, int32_t n) {
  stream.call(
      [](void *argument) {
        const auto *call = static_cast<const Call<Work> *>(argument);
        form(call->work, static_cast<int32_t>(call->n));
      },
      arguments.keep(Call<Work>{work, n}));
}

struct Images {
  const FrameWork *frames;
  void *images;
};

void preprocess_all(const Images &w, int32_t n) {
  for (int32_t i = 0; i < n; i++) {
    const FrameWork &f = w.frames[i];
    const int64_t bytes = int64_t{3} * f.size * f.size * (f.half ? 2 : 4);
    cpu_preprocess(f, static_cast<char *>(w.images) + i * bytes);
  }
}

void search_all(const SearchWork &w, int32_t) { cpu_search(w); }

class CpuPreprocessor final : public FramePreprocessor {
 public:
  CpuPreprocessor(Device &device, const PreprocessorOptions &options)
      : FramePreprocessor(device, options, Reach::kHost) {}

  void upload(Stream &, int32_t) override {}

  void enqueue(Stream &stream, int32_t n, void *image) override {
    enqueue_call<Images, preprocess_all>(stream, arguments_,
                                         Images{static_cast<const FrameWork *>(works_.host()), image}, n);
  }

 protected:
  void write(Buffer &to, const void *from, size_t size) override { std::memcpy(to.host(), from, size); }

 private:
  Arguments<Call<Images>> arguments_;
};

class CpuSearch final : public Search {
 public:
  explicit CpuSearch(const SearchOptions &options) : options_(options), codes_(unit_codes(options)) {}

  void enqueue(Stream &stream, int32_t n, const float *latents, int32_t *ids) override {
    const SearchWork work = {latents,         codes_.data(), nullptr,       ids,           n,
                             options_.tokens, options_.dim,  options_.size, options_.size, 1};
    enqueue_call<SearchWork, search_all>(stream, arguments_, work, n);
  }

 private:
  const SearchOptions options_;
  const std::vector<float> codes_;
  Arguments<Call<SearchWork>> arguments_;
};

class CpuKernels final : public Kernels {
 public:
  explicit CpuKernels(Device &device) : device_(device) {}

  Space space() const override { return Space::kHost; }

  std::unique_ptr<Preprocessor> new_preprocessor(const PreprocessorOptions &options) override {
    return std::make_unique<CpuPreprocessor>(device_, options);
  }

  std::unique_ptr<Search> new_search(const SearchOptions &options) override {
    return std::make_unique<CpuSearch>(options);
  }

  void compare(Stream &stream, int32_t n, const Compare &arguments) override {
    enqueue_call<Compare, cpu_compare>(stream, compares_, arguments, n);
  }

  void gather(Stream &stream, int32_t n, const int32_t *in, const int32_t *rows, int32_t width, int32_t *out) override {
    enqueue_call<GatherWork, cpu_gather>(stream, gathers_, GatherWork{in, rows, out, width, 0}, n);
  }

  void normalise(Stream &stream, int32_t n, const float *in, int32_t width, float *out) override {
    enqueue_call<NormaliseWork, cpu_normalise>(stream, normalises_, NormaliseWork{in, out, width, 0}, n);
  }

 private:
  Device &device_;
  Arguments<Call<Compare>> compares_;
  Arguments<Call<GatherWork>> gathers_;
  Arguments<Call<NormaliseWork>> normalises_;
};

}  // namespace

std::unique_ptr<Kernels> new_cpu_kernels(Device &device) { return std::make_unique<CpuKernels>(device); }

}  // namespace toklip
