// The Runtime of the shims: TensorRT, the CUDA driver and the kernels.
#include "core/runtime.h"

#include <cstdio>
#include <cstdlib>
#include <optional>

#include "core/error.h"
#include "cuda/device.h"
#include "kernels/kernels.h"
#include "tensorrt/build.h"
#include "tensorrt/engine.h"
#include "tensorrt/loaded.h"
#include "tensorrt/logger.h"
#include "tensorrt/network.h"

namespace toklip {
namespace tensorrt {
namespace {

// TensorRT for RTX builds on the CPU; the others measure on the GPU they build for.
constexpr bool kBuildsWithoutGPU = TOKLIP_RTX;

void copy_text(char *to, size_t size, const std::string &text) { std::snprintf(to, size, "%s", text.c_str()); }

// Read by TensorRT 10 when a builder is made.
void allow_parsing_without_gpu() { setenv("TRT_INTERNAL_OPTIONS", "--cpu_only=1", 1); }

class TensorRTRuntime : public Runtime {
 public:
  explicit TensorRTRuntime(const toklip_trt_open_options &options)
      : cuda_path_(options.cuda),
        ordinal_(options.device),
        cpu_only_(options.cpu_only),
        loaded_(options.nvinfer, options.parser) {
    if (cpu_only_ && !kBuildsWithoutGPU) {
      if (!TOKLIP_TRT10)
        fail(TOKLIP_TRT_UNSUPPORTED, "cpu_only: only TensorRT 10 parses without a GPU; this is %s.", family_name());
      allow_parsing_without_gpu();
    }
  }

  Log &log() override { return log_; }

  void describe(toklip_trt_library_info *out) const override {
    *out = {};
    copy_text(out->family, sizeof out->family, family());
    copy_text(out->path, sizeof out->path, loaded_.path());
    Version library = loaded_.version(), headers = Version::of_headers();
    out->major = library.major;
    out->minor = library.minor;
    out->patch = library.patch;
    out->build = library.build;
    out->headers_major = headers.major;
    out->headers_minor = headers.minor;
    out->headers_patch = headers.patch;
    copy_text(out->kernels, sizeof out->kernels, kernel_architectures());
  }

  std::shared_ptr<Device> device() override { return cuda_device(); }

  toklip_trt_device_info describe_device() override {
    std::shared_ptr<CudaDevice> device = cuda_device();
    toklip_trt_device_info info = device->info();
    info.dla_cores = dla_cores();
    info.kernels = has_kernels(*device);
    return info;
  }

  void reset_device() override {
    std::shared_ptr<CudaDevice> old = std::move(device_);
    device_.reset();
    if (old) old->reset();
  }

  std::unique_ptr<Build> new_build(const toklip_trt_build_options &options) override {
    if (cpu_only_ && !kBuildsWithoutGPU) {
      fail(TOKLIP_TRT_UNSUPPORTED, "TensorRT was opened with cpu_only, which can read models but not build engines.");
    }
    check_build_options(options, loaded_, nullptr);
    std::shared_ptr<CudaDevice> device = kBuildsWithoutGPU ? device_if_any() : cuda_device();
    check_build_options(options, loaded_, device.get());
    return std::make_unique<TensorRTBuild>(options, loaded_, log_, device);
  }

  std::string describe_network(const std::string &onnx_path) override {
    bool without = kBuildsWithoutGPU || cpu_only_;
    std::shared_ptr<CudaDevice> device = without ? nullptr : cuda_device();
    std::optional<Current> current;
    if (device) current.emplace(*device);
    LogScope scope(log_);
    return Network(loaded_, scope, device.get(), onnx_path, Typing::kStrong).json();
  }

  void check_plan(const void *plan, size_t size) override { tensorrt::check_plan(loaded_, plan, size); }

  std::unique_ptr<Engine> load_engine(const void *plan, size_t size, int32_t dla_core) override {
    return std::make_unique<TensorRTEngine>(loaded_, log_, cuda_device(), plan, size, dla_core);
  }

  std::unique_ptr<Kernels> new_kernels(bool on_device) override {
    std::shared_ptr<CudaDevice> device = cuda_device();
    if (on_device) {
      try {
        return new_cuda_kernels(*device);
      } catch (const Error &error) {
        if (error.code() != TOKLIP_TRT_UNSUPPORTED) throw;
        log_.add(TOKLIP_TRT_LOG_WARNING,
                 std::string("the CPU prepares frames and searches the codebook: ") + error.what());
      }
    }
    return new_cpu_kernels(*device);
  }

 private:
  std::shared_ptr<CudaDevice> cuda_device() {
    if (!device_) device_ = std::make_shared<CudaDevice>(std::make_shared<Driver>(cuda_path_), ordinal_);
    return device_;
  }

  std::shared_ptr<CudaDevice> device_if_any() {
    try {
      return cuda_device();
    } catch (const Error &error) {
      if (error.code() != TOKLIP_TRT_NO_DEVICE) throw;
      return nullptr;
    }
  }

  // The device is current.
  int32_t dla_cores() {
    if (TOKLIP_RTX) return 0;
    LogScope scope(log_);
    std::unique_ptr<nvinfer1::IRuntime, Deleter<nvinfer1::IRuntime>> runtime(
        loaded_.create_runtime(Logger::instance()));
    return runtime ? runtime->getNbDLACores() : 0;
  }

  bool has_kernels(CudaDevice &device) {
    try {
      new_cuda_kernels(device);
      return true;
    } catch (const Error &error) {
      if (error.code() != TOKLIP_TRT_UNSUPPORTED) throw;
      return false;
    }
  }

  std::string cuda_path_;
  int32_t ordinal_;
  bool cpu_only_;
  Log log_;
  Loaded loaded_;
  std::shared_ptr<CudaDevice> device_;
};

}  // namespace
}  // namespace tensorrt

std::unique_ptr<Runtime> open_runtime(const toklip_trt_open_options &options) {
  return std::make_unique<tensorrt::TensorRTRuntime>(options);
}

}  // namespace toklip
