// Kernels in CUDA: launches of what kernels.cu has.
#include <algorithm>

#include "core/error.h"
#include "cuda/device.h"
#include "kernels/codes.h"
#include "kernels/frames.h"
#include "kernels/image.h"
#include "kernels/kernels.h"
#include "kernels/tokens.h"
#include "kernels/unit.h"

namespace toklip {
namespace {

unsigned blocks_of(int64_t work, int64_t of_a_block) {
  return static_cast<unsigned>(std::max<int64_t>(1, (work + of_a_block - 1) / of_a_block));
}

// The kernels loaded on a device.
class Module {
 public:
  Module(CudaDevice &device, const void *image) : device_(device) {
    const Driver &d = device.driver();
    const CUresult result = d.module_load(&module_, image);
    if (result != kCudaSuccess) {
      if (Driver::code_of(result) == TOKLIP_TRT_UNSUPPORTED)
        fail(TOKLIP_TRT_UNSUPPORTED,
             "the CUDA kernels inside are for %s and do not fit this GPU, sm_%d, with a driver of CUDA %d.%d (%s): "
             "build "
             "csrc on this machine",
             kernel_architectures(), device.sm(), d.version / 1000, d.version % 1000 / 10, d.describe(result).c_str());
      device.check(result, "load CUDA kernels");
    }
    try {
      find(&upload, "toklip_upload");
      find(&first_pass, "toklip_first_pass");
      find(&second_pass, "toklip_second_pass");
      find(&search[0], "toklip_search_4");
      find(&search[1], "toklip_search_8");
      find(&search[2], "toklip_search_16");
      find(&search[3], "toklip_search_32");
      find(&search_join, "toklip_search_join");
      find(&compare, "toklip_compare");
      find(&gather, "toklip_gather");
      find(&normalise, "toklip_normalise");
    } catch (...) {
      static_cast<void>(d.module_unload(module_));
      throw;
    }
  }
  ~Module() { static_cast<void>(device_.driver().module_unload(module_)); }
  Module(const Module &) = delete;
  Module &operator=(const Module &) = delete;

  // Enqueues a kernel. Arguments must be of the very types of its parameters; the driver copies them.
  template <typename... Arguments>
  void launch(Stream &stream, CUfunction function, unsigned grid_x, unsigned grid_y, int32_t threads,
              Arguments... arguments) const {
    device_.check_alive();
    void *parameters[] = {&arguments...};
    device_.check(device_.driver().launch(function, grid_x, grid_y, 1, static_cast<unsigned>(threads), 1, 1, 0,
                                          static_cast<CUstream>(stream.native()), parameters, nullptr),
                  "launch a CUDA kernel");
  }

  CudaDevice &device() const { return device_; }

  CUfunction upload = nullptr, first_pass = nullptr, second_pass = nullptr, search[4] = {}, search_join = nullptr,
             compare = nullptr, gather = nullptr, normalise = nullptr;

 private:
  void find(CUfunction *function, const char *name) {
    device_.check(device_.driver().module_function(function, module_, name), name);
  }

  CudaDevice &device_;
  CUmodule module_ = nullptr;
};

class CudaPreprocessor final : public FramePreprocessor {
 public:
  CudaPreprocessor(const Module &module, const PreprocessorOptions &options)
      : FramePreprocessor(module.device(), options, module.device().integrated() ? Reach::kInPlace : Reach::kCopied),
        module_(module) {}

  void upload(Stream &stream, int32_t n) override {
    if (!uploads()) return;
    module_.launch(stream, module_.upload, blocks_of(2 * module_.device().multiprocessors(), n),
                   static_cast<unsigned>(n), kCopyThreads, static_cast<const CopyWork *>(copies_.device()));
  }

  void enqueue(Stream &stream, int32_t n, void *image) override {
    const auto *works = static_cast<const FrameWork *>(works_.device());
    const auto frames = static_cast<unsigned>(n);
    // Frames of any size go through the same blocks, which loop.
    module_.launch(stream, module_.first_pass, blocks_of(6 * module_.device().multiprocessors(), n), frames,
                   kPassThreads, works);
    const int64_t pixels = int64_t{options_.size} * options_.size;
    module_.launch(stream, module_.second_pass, blocks_of(pixels, kPassThreads), frames, kPassThreads, works, image);
  }

 protected:
  void write(Buffer &to, const void *from, size_t size) override { module_.device().write(to.device(), from, size); }

 private:
  const Module &module_;
};

class CudaSearch final : public Search {
 public:
  CudaSearch(const Module &module, const SearchOptions &options) : module_(module), options_(options) {
    const std::vector<float> codes = unit_codes(options);
    padded_ = padded_dim(options.dim);
    CudaDevice &device = module.device();
    codes_ = device.allocate(Memory::kDevice, codes.size() * sizeof codes[0]);
    device.write(codes_.device(), codes.data(), codes_.size());
    size_t most = 0;
    for (int32_t n = 1; n <= options.batch_max; n++) {
      const SearchWork w = work(n);
      most = std::max(most, static_cast<size_t>(w.slices) * static_cast<size_t>(n) * static_cast<size_t>(w.tokens));
    }
    partial_ = device.allocate(Memory::kDevice, most * sizeof(Best));
  }

  void enqueue(Stream &stream, int32_t n, const float *latents, int32_t *ids) override {
    SearchWork w = work(n);
    w.latents = latents;
    w.ids = ids;
    w.codebook = static_cast<const float *>(codes_.device());
    w.partial = static_cast<Best *>(partial_.device());
    const int64_t all = int64_t{n} * w.tokens;
    const CUfunction kernel = module_.search[padded_ == 4 ? 0 : (padded_ == 8 ? 1 : (padded_ == 16 ? 2 : 3))];
    module_.launch(stream, kernel, blocks_of(all, search_tile(padded_)), static_cast<unsigned>(w.slices),
                   32 * kSearchWarps, w);
    module_.launch(stream, module_.search_join, blocks_of(all, 32), 1, 32 * kSearchWarps, w);
  }

 private:
  // How the work for n frames is cut: into enough slices of the codebook for two blocks on every multiprocessor, of
  // 64 codes at least.
  SearchWork work(int32_t n) const {
    SearchWork w = {};
    w.images = n;
    w.tokens = options_.tokens;
    w.dim = options_.dim;
    w.codes = options_.size;
    const auto tiles = static_cast<int32_t>(blocks_of(int64_t{n} * w.tokens, search_tile(padded_)));
    const int32_t wanted = std::max(1, 2 * module_.device().multiprocessors() / tiles);
    w.slice = std::max(64, (w.codes + wanted - 1) / wanted);
    w.slices = (w.codes + w.slice - 1) / w.slice;
    return w;
  }

  const Module &module_;
  const SearchOptions options_;
  int32_t padded_ = 0;
  Buffer codes_;
  Buffer partial_;
};

class CudaKernels final : public Kernels {
 public:
  CudaKernels(CudaDevice &device, const void *image) : module_(device, image) {}

  Space space() const override { return Space::kDevice; }

  std::unique_ptr<Preprocessor> new_preprocessor(const PreprocessorOptions &options) override {
    return std::make_unique<CudaPreprocessor>(module_, options);
  }

  std::unique_ptr<Search> new_search(const SearchOptions &options) override {
    return std::make_unique<CudaSearch>(module_, options);
  }

  void compare(Stream &stream, int32_t n, const Compare &arguments) override {
    module_.launch(stream, module_.compare, static_cast<unsigned>(n), 1, kTokenThreads, arguments);
  }

  void gather(Stream &stream, int32_t n, const int32_t *in, const int32_t *rows, int32_t width, int32_t *out) override {
    module_.launch(stream, module_.gather, blocks_of(width, kTokenThreads), static_cast<unsigned>(n), kTokenThreads,
                   GatherWork{in, rows, out, width, 0});
  }

  void normalise(Stream &stream, int32_t n, const float *in, int32_t width, float *out) override {
    module_.launch(stream, module_.normalise, static_cast<unsigned>(n), 1, kUnitLanes,
                   NormaliseWork{in, out, width, 0});
  }

 private:
  const Module module_;
};

}  // namespace

std::unique_ptr<Kernels> new_cuda_kernels(CudaDevice &device) {
  if (kernel_image_size() == 0)
    fail(TOKLIP_TRT_UNSUPPORTED,
         "no CUDA kernels were compiled into this library: build csrc where nvcc is (on a Jetson: "
         "/usr/local/cuda/bin/nvcc)");
  return new_cuda_kernels(device, kernel_image());
}

std::unique_ptr<Kernels> new_cuda_kernels(CudaDevice &device, const void *image) {
  return std::make_unique<CudaKernels>(device, image);
}

}  // namespace toklip
