#include "tensorrt/build.h"

#include <cstdio>
#include <optional>

#include "core/error.h"
#include "core/json.h"
#include "tensorrt/engine.h"
#include "tensorrt/failure.h"
#include "tensorrt/files.h"
#include "tensorrt/profiles.h"
#include "tensorrt/types.h"
#include "tensorrt/weak.h"

namespace toklip {
namespace tensorrt {
namespace {

void need(bool has, const char *option, const char *since, const Loaded &loaded) {
  if (has) return;
  fail(TOKLIP_TRT_UNSUPPORTED, "%s needs TensorRT %s or later; this is %s.", option, since,
       loaded.version().text().c_str());
}

#if TOKLIP_HEADERS_AT_LEAST(10, 0)
// Hands what TensorRT reports to the tracker. Called from TensorRT's threads.
class Monitor : public nvinfer1::IProgressMonitor {
 public:
  explicit Monitor(ProgressTracker &tracker) : tracker_(tracker) {}

  void phaseStart(const char *phase, const char *parent, int32_t steps) noexcept override {
    try {
      tracker_.start(phase, parent ? parent : "", steps);
    } catch (...) {  // out of memory: the progress stands still
    }
  }
  bool stepComplete(const char *phase, int32_t step) noexcept override {
    try {
      tracker_.step(phase, step);
    } catch (...) {
    }
    return !tracker_.cancelled();
  }
  void phaseFinish(const char *phase) noexcept override {
    try {
      tracker_.finish(phase);
    } catch (...) {
    }
  }

 private:
  ProgressTracker &tracker_;
};
#endif

}  // namespace

void check_build_options(const toklip_trt_build_options &options, const Loaded &loaded, Device *device) {
  if (options.optimization_level >= 0) need(loaded.has(8, 6), "optimization_level", "8.6", loaded);
  if (TOKLIP_RTX) {
    if (options.dla_core >= 0)
      fail(TOKLIP_TRT_UNSUPPORTED, "dla_core %d: TensorRT for RTX knows no DLA.", options.dla_core);
    if (options.version_compatible) {
      fail(TOKLIP_TRT_UNSUPPORTED,
           "version_compatible: TensorRT for RTX has no lean runtime, so its plans need the version that built them.");
    }
    if (options.compatibility != TOKLIP_TRT_THIS_DEVICE) {
      fail(TOKLIP_TRT_UNSUPPORTED, "compatibility %d: with TensorRT for RTX, say compute_capabilities instead.",
           static_cast<int>(options.compatibility));
    }
    return;
  }
  if (options.compute_capability_count > 0) {
    fail(
        TOKLIP_TRT_UNSUPPORTED,
        "compute_capabilities: only TensorRT for RTX builds for other GPUs; TensorRT %s builds for the one it runs on.",
        loaded.version().text().c_str());
  }
  if (options.version_compatible)
    need(TOKLIP_HEADERS_AT_LEAST(8, 6) && loaded.has(8, 6), "version_compatible", "8.6", loaded);
  if (options.compatibility == TOKLIP_TRT_SAME_CAPABILITY) {
    need(TOKLIP_HEADERS_AT_LEAST(10, 9) && loaded.has(10, 9), "compatibility with the same compute capability", "10.9",
         loaded);
  }
  if (options.compatibility == TOKLIP_TRT_AMPERE_PLUS) {
    need(TOKLIP_HEADERS_AT_LEAST(8, 6) && loaded.has(8, 6), "compatibility with Ampere and newer", "8.6", loaded);
    if (device && device->info().integrated) {
      fail(TOKLIP_TRT_UNSUPPORTED,
           "compatibility with Ampere and newer is not to be had on Jetson: its GPU shares no plans with others.");
    }
  }
}

TensorRTBuild::TensorRTBuild(const toklip_trt_build_options &options, Loaded &loaded, Log &log,
                             std::shared_ptr<Device> device)
    : onnx_path_(options.onnx_path),
      plan_path_(options.plan_path),
      timing_cache_path_(options.timing_cache_path),
      layers_path_(options.layers_path),
      options_(options),
      loaded_(loaded),
      log_(log),
      device_(std::move(device)) {
  if (options.compute_capabilities) {
    compute_capabilities_.assign(options.compute_capabilities,
                                 options.compute_capabilities + options.compute_capability_count);
  }
  options_.onnx_path = onnx_path_.c_str();
  options_.plan_path = plan_path_.c_str();
  options_.timing_cache_path = timing_cache_path_.c_str();
  options_.layers_path = layers_path_.c_str();
  options_.compute_capabilities = compute_capabilities_.data();
}

void TensorRTBuild::cancel() noexcept { tracker_.cancel(); }

void TensorRTBuild::progress(toklip_trt_progress *out) const noexcept {
  *out = {};
  try {
    std::string phase;
    tracker_.now(&phase, &out->fraction);
    std::snprintf(out->phase, sizeof out->phase, "%s", phase.c_str());
  } catch (...) {
  }
  if (TOKLIP_TRT8) out->fraction = -1;
}

void TensorRTBuild::stop_if_cancelled() const {
  if (tracker_.cancelled()) throw Error(TOKLIP_TRT_CANCELLED, "The build of " + onnx_path_ + " was cancelled.");
}

// TensorRT 10 has no strongly typed networks on DLA; 11 has no others.
Typing TensorRTBuild::typing() const {
  return TOKLIP_TRT8 || (TOKLIP_TRT10 && options_.dla_core >= 0) ? Typing::kWeak : Typing::kStrong;
}

void TensorRTBuild::run() {
  std::optional<Current> current;
  if (device_) current.emplace(*device_);
  LogScope scope(log_);
  stop_if_cancelled();
  tracker_.at("Reading the model", 0);

  Network network(loaded_, scope, device_.get(), onnx_path_, typing());
  stop_if_cancelled();
  tracker_.at("Preparing the build", ProgressTracker::kParsed);

  nvinfer1::IBuilder &builder = network.builder();
  if (options_.threads > 0 && !builder.setMaxThreads(options_.threads)) {
    fail(TOKLIP_TRT_INVALID, "threads %d: TensorRT refuses that number.", options_.threads);
  }
  Config config(builder.createBuilderConfig());
  if (!config) fail_from(scope, TOKLIP_TRT_INTERNAL, "TensorRT cannot make a build configuration", device_.get());
  // On by default, and then fp32 has the ten bits of fp16: graphs are in fp32 just where those are too few.
  config->clearFlag(nvinfer1::BuilderFlag::kTF32);
  if (options_.workspace_bytes > 0) {
    config->setMemoryPoolLimit(nvinfer1::MemoryPoolType::kWORKSPACE, static_cast<size_t>(options_.workspace_bytes));
  }
#if TOKLIP_HEADERS_AT_LEAST(8, 6)
  if (loaded_.has(8, 6)) {
    if (options_.optimization_level >= 0) config->setBuilderOptimizationLevel(options_.optimization_level);
    // Streams of TensorRT's own help no GPU this small, and one more of them is in the way of every capture.
    config->setMaxAuxStreams(0);
  }
#endif
  if (!layers_path_.empty()) config->setProfilingVerbosity(nvinfer1::ProfilingVerbosity::kDETAILED);
#if TOKLIP_WEAK_TYPING
  if (typing() == Typing::kWeak) {
    set_weak_types(network.definition(), *config, options_.fp16 || options_.dla_core >= 0, log_);
  }
#endif
  set_compatibility(*config, scope);
  set_dla(network, *config);
  add_profiles(network, *config, scope);
  Cache cache = load_timing_cache(*config);
#if TOKLIP_HEADERS_AT_LEAST(10, 0)
  Monitor monitor(tracker_);
  config->setProgressMonitor(&monitor);
#endif

  Plan plan(builder.buildSerializedNetwork(network.definition(), *config));
  stop_if_cancelled();
  if (!plan || plan->size() == 0) {
    fail_from(scope, TOKLIP_TRT_BAD_MODEL, "TensorRT " + loaded_.version().text() + " cannot build " + onnx_path_,
              device_.get());
  }
  tracker_.at("Writing the plan", ProgressTracker::kBuilt);
  if (cache) save_timing_cache(*config);
  if (!layers_path_.empty()) save_layers(*plan);
  stop_if_cancelled();
  write_file(plan_path_, plan->data(), plan->size());
  tracker_.at("Done", 1);
}

void TensorRTBuild::set_compatibility(nvinfer1::IBuilderConfig &config, const LogScope &scope) {
#if TOKLIP_RTX
  // Contexts run in memory of ours, so every engine can be captured into a graph; the flag makes TensorRT promise it.
  config.setFlag(nvinfer1::BuilderFlag::kREQUIRE_USER_ALLOCATION);
  auto count = static_cast<int32_t>(compute_capabilities_.size());
  if (count == 0) return;
  if (!config.setNbComputeCapabilities(count)) {
    fail_from(scope, TOKLIP_TRT_INVALID, "TensorRT cannot build for " + std::to_string(count) + " compute capabilities",
              nullptr);
  }
  for (int32_t i = 0; i < count; ++i) {
    int32_t sm = compute_capabilities_[static_cast<size_t>(i)];
    if (!config.setComputeCapability(static_cast<nvinfer1::ComputeCapability>(sm), i)) {
      fail_from(scope, TOKLIP_TRT_UNSUPPORTED,
                "TensorRT for RTX cannot build for compute capability " + std::to_string(sm), nullptr);
    }
  }
#else
  (void)config;
  (void)scope;
#if TOKLIP_HEADERS_AT_LEAST(8, 6)
  if (options_.version_compatible) config.setFlag(nvinfer1::BuilderFlag::kVERSION_COMPATIBLE);
  if (options_.compatibility == TOKLIP_TRT_AMPERE_PLUS) {
    config.setHardwareCompatibilityLevel(nvinfer1::HardwareCompatibilityLevel::kAMPERE_PLUS);
  }
#endif
#if TOKLIP_HEADERS_AT_LEAST(10, 9)
  if (options_.compatibility == TOKLIP_TRT_SAME_CAPABILITY) {
    config.setHardwareCompatibilityLevel(nvinfer1::HardwareCompatibilityLevel::kSAME_COMPUTE_CAPABILITY);
  }
#endif
#endif
}

void TensorRTBuild::set_dla(Network &network, nvinfer1::IBuilderConfig &config) {
  if (options_.dla_core < 0) return;
  int32_t cores = network.builder().getNbDLACores();
  if (options_.dla_core >= cores) {
    fail(TOKLIP_TRT_UNSUPPORTED, "dla_core %d: TensorRT %s sees %d DLA cores here.", options_.dla_core,
         loaded_.version().text().c_str(), cores);
  }
  config.setDefaultDeviceType(nvinfer1::DeviceType::kDLA);
  config.setDLACore(options_.dla_core);
  config.setFlag(nvinfer1::BuilderFlag::kGPU_FALLBACK);
}

// The batch, the first dimension of every input, is open within bounds; nothing else may be.
void TensorRTBuild::add_profiles(Network &network, nvinfer1::IBuilderConfig &config, const LogScope &scope) {
  std::vector<nvinfer1::ITensor *> open;
  for (int32_t i = 0; i < network.definition().getNbInputs(); ++i) {
    nvinfer1::ITensor &input = *network.definition().getInput(i);
    std::vector<int64_t> shape = shape_of(input.getDimensions());
    for (size_t axis = 1; axis < shape.size(); ++axis) {
      if (shape[axis] < 0) {
        throw Error(TOKLIP_TRT_BAD_MODEL, "Input " + std::string(input.getName()) + " of " + onnx_path_ +
                                              " has shape " + json_shape(shape) +
                                              ": only the first dimension may be open.");
      }
    }
    if (!shape.empty() && shape[0] < 0) open.push_back(&input);
  }
  if (open.empty()) return;
  int32_t profiles = 1;
#if TOKLIP_TRT8
  // See profiles.h: without open dimensions any number of contexts can be made.
  if (options_.batch_min == options_.batch_max) {
    for (nvinfer1::ITensor *input : open) {
      std::vector<int64_t> shape = shape_of(input->getDimensions());
      shape[0] = options_.batch_max;
      input->setDimensions(dims_of(shape));
    }
    return;
  }
#if TOKLIP_HEADERS_AT_LEAST(8, 6)
  if (loaded_.has(8, 6)) {
    config.setPreviewFeature(nvinfer1::PreviewFeature::kPROFILE_SHARING_0806, true);
  } else {
    profiles = profiles_for(options_.batch_max);
  }
#else
  profiles = profiles_for(options_.batch_max);
#endif
#endif
  for (int32_t i = 0; i < profiles; ++i) add_profile(network, config, scope, open);
}

void TensorRTBuild::add_profile(Network &network, nvinfer1::IBuilderConfig &config, const LogScope &scope,
                                const std::vector<nvinfer1::ITensor *> &open) {
  using nvinfer1::OptProfileSelector;
  const std::pair<OptProfileSelector, int32_t> bounds[] = {{OptProfileSelector::kMIN, options_.batch_min},
                                                           {OptProfileSelector::kOPT, options_.batch_opt},
                                                           {OptProfileSelector::kMAX, options_.batch_max}};
  nvinfer1::IOptimizationProfile *profile = network.builder().createOptimizationProfile();  // belongs to the builder
  if (!profile) fail_from(scope, TOKLIP_TRT_INTERNAL, "TensorRT cannot make an optimization profile", device_.get());
  for (nvinfer1::ITensor *input : open) {
    std::vector<int64_t> shape = shape_of(input->getDimensions());
    for (const auto &bound : bounds) {
      shape[0] = bound.second;
      if (!profile->setDimensions(input->getName(), bound.first, dims_of(shape))) {
        fail_from(scope, TOKLIP_TRT_INVALID,
                  "TensorRT refuses shape " + json_shape(shape) + " for input " + input->getName(), device_.get());
      }
    }
  }
  if (config.addOptimizationProfile(profile) < 0) {
    fail_from(scope, TOKLIP_TRT_INVALID, "TensorRT refuses the batch sizes", device_.get());
  }
}

// The cache belongs to the caller and must live as long as the configuration is used. A file that does not fit is no
// failure: the build takes longer, and the file is replaced. TensorRT for RTX measures nothing, so it has none.
TensorRTBuild::Cache TensorRTBuild::load_timing_cache(nvinfer1::IBuilderConfig &config) {
  if (TOKLIP_RTX || timing_cache_path_.empty()) return nullptr;
  std::vector<char> old;
  if (exists(timing_cache_path_)) {
    try {
      old = read_file(timing_cache_path_);
    } catch (const Error &error) {
      log_.add(TOKLIP_TRT_LOG_WARNING, std::string("the timing cache starts empty: ") + error.what());
    }
  }
  Cache cache(config.createTimingCache(old.data(), old.size()));
  if (cache && config.setTimingCache(*cache, false)) return cache;
  if (!old.empty()) {
    log_.add(TOKLIP_TRT_LOG_WARNING,
             "the timing cache starts empty: " + timing_cache_path_ + " is of another TensorRT or GPU, or damaged");
    cache.reset(config.createTimingCache(nullptr, 0));
    if (cache && config.setTimingCache(*cache, false)) return cache;
  }
  log_.add(TOKLIP_TRT_LOG_WARNING, "TensorRT builds without a timing cache");
  return nullptr;
}

void TensorRTBuild::save_timing_cache(const nvinfer1::IBuilderConfig &config) {
  const nvinfer1::ITimingCache *cache = config.getTimingCache();
  std::unique_ptr<nvinfer1::IHostMemory, Deleter<nvinfer1::IHostMemory>> bytes(cache ? cache->serialize() : nullptr);
  if (!bytes) return;
  try {
    write_file(timing_cache_path_, bytes->data(), bytes->size());
  } catch (const Error &error) {
    log_.add(TOKLIP_TRT_LOG_WARNING, std::string("the timing cache was not saved: ") + error.what());
  }
}

// A description nobody can do without is no reason to throw a plan away.
void TensorRTBuild::save_layers(const nvinfer1::IHostMemory &plan) {
  if (!device_) {
    log_.add(TOKLIP_TRT_LOG_INFO,
             "no layers were written to " + layers_path_ + ": TensorRT describes engines only where a GPU is");
    return;
  }
  try {
    std::string json = TensorRTEngine(loaded_, log_, device_, plan.data(), plan.size(), options_.dla_core).layers();
    write_file(layers_path_, json.data(), json.size());
  } catch (const Error &error) {
    if (error.fatal()) throw;
    log_.add(TOKLIP_TRT_LOG_WARNING, std::string("no layers were written: ") + error.what());
  }
}

}  // namespace tensorrt
}  // namespace toklip
