// ONNX file -> plan file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/runtime.h"
#include "tensorrt/loaded.h"
#include "tensorrt/logger.h"
#include "tensorrt/network.h"
#include "tensorrt/progress.h"

namespace toklip {
namespace tensorrt {

// Throws TOKLIP_TRT_UNSUPPORTED or TOKLIP_TRT_INVALID for options that this TensorRT cannot do. device is NULL without one.
void check_build_options(const toklip_trt_build_options &options, const Loaded &loaded, Device *device);

class TensorRTBuild : public Build {
 public:
  // device is NULL where TensorRT builds without. loaded and log outlive this.
  TensorRTBuild(const toklip_trt_build_options &options, Loaded &loaded, Log &log, std::shared_ptr<Device> device);

  void run() override;
  void progress(toklip_trt_progress *out) const noexcept override;
  void cancel() noexcept override;

 private:
  using Config = std::unique_ptr<nvinfer1::IBuilderConfig, Deleter<nvinfer1::IBuilderConfig>>;
  using Cache = std::unique_ptr<nvinfer1::ITimingCache, Deleter<nvinfer1::ITimingCache>>;
  using Plan = std::unique_ptr<nvinfer1::IHostMemory, Deleter<nvinfer1::IHostMemory>>;

  Typing typing() const;
  void stop_if_cancelled() const;
  void set_compatibility(nvinfer1::IBuilderConfig &config, const LogScope &scope);
  void set_dla(Network &network, nvinfer1::IBuilderConfig &config);
  void add_profiles(Network &network, nvinfer1::IBuilderConfig &config, const LogScope &scope);
  void add_profile(Network &network, nvinfer1::IBuilderConfig &config, const LogScope &scope,
                   const std::vector<nvinfer1::ITensor *> &open);
  Cache load_timing_cache(nvinfer1::IBuilderConfig &config);
  void save_timing_cache(const nvinfer1::IBuilderConfig &config);
  void save_layers(const nvinfer1::IHostMemory &plan);

  // Copies of what the options pointed to; the pointers in options_ are into them.
  std::string onnx_path_, plan_path_, timing_cache_path_, layers_path_;
  std::vector<int32_t> compute_capabilities_;
  toklip_trt_build_options options_;

  Loaded &loaded_;
  Log &log_;
  std::shared_ptr<Device> device_;
  ProgressTracker tracker_;
};

}  // namespace tensorrt
}  // namespace toklip
