#include "tensorrt/profiles.h"

#if TOKLIP_TRT8

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/error.h"

namespace toklip {
namespace tensorrt {
namespace {

// Longest wait for the copies of a selection, which take microseconds.
constexpr auto kPatience = std::chrono::seconds(10);

}  // namespace

int32_t profiles_for(int32_t batch_max) { return std::min(2 * batch_max + 1, 9); }

Profiles::Profiles(const nvinfer1::ICudaEngine &engine) {
  for (int32_t i = 0; i < engine.getNbIOTensors(); ++i) {
    nvinfer1::Dims shape = engine.getTensorShape(engine.getIOTensorName(i));
    for (int32_t axis = 0; axis < shape.nbDims; ++axis) open_ = open_ || shape.d[axis] < 0;
  }
  int32_t count = engine.getNbOptimizationProfiles();
  if (open_ && count > 1) taken_.resize(static_cast<size_t>(count));
}

int32_t Profiles::take() {
  if (taken_.empty()) return 0;
  std::lock_guard<std::mutex> lock(mutex_);
  auto free = std::find(taken_.begin(), taken_.end(), false);
  if (free == taken_.end()) {
    fail(TOKLIP_TRT_UNSUPPORTED,
         "TensorRT 8.5 runs this engine for no more than %zu combinations of batch size and batch under way. Use "
         "smaller "
         "batches, or one batch at a time.",
         taken_.size());
  }
  *free = true;
  return static_cast<int32_t>(free - taken_.begin());
}

void Profiles::give_back(int32_t index) {
  if (taken_.empty()) return;
  std::lock_guard<std::mutex> lock(mutex_);
  taken_[static_cast<size_t>(index)] = false;
}

void select_profile(nvinfer1::IExecutionContext &context, int32_t index, Device &device) {
  if (context.getOptimizationProfile() == index) return;
  std::unique_ptr<Stream> stream = device.new_stream();
  std::unique_ptr<Event> event = device.new_event();
  if (!context.setOptimizationProfileAsync(index, static_cast<cudaStream_t>(stream->native()))) {
    fail(TOKLIP_TRT_INTERNAL, "TensorRT cannot select optimization profile %d.", index);
  }
  stream->record(*event);
  auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!event->done()) {
    if (std::chrono::steady_clock::now() > deadline) fail(TOKLIP_TRT_TIMEOUT, "The GPU does not answer.");
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

}  // namespace tensorrt
}  // namespace toklip

#endif
