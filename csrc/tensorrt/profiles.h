// Which optimization profile a context uses. From TensorRT 10 on all contexts of an engine share one; in 8.x each needs
// its own, unless the engine was built by 8.6 with sharing allowed, or has no open dimension.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/device.h"
#include "tensorrt/headers.h"

#if TOKLIP_TRT8

namespace toklip {
namespace tensorrt {

// How many profiles an engine gets that is for batches up to this: a context for each size, twice where two batches can be
// under way, and one more. Each takes time to build, so there are no more than nine.
int32_t profiles_for(int32_t batch_max);

// Hands profiles out to contexts and takes them back. Any thread.
class Profiles {
 public:
  explicit Profiles(const nvinfer1::ICudaEngine &engine);

  // The lowest that no context has, or 0 for all where one is shared. Throws TOKLIP_TRT_UNSUPPORTED if none is left.
  int32_t take();
  void give_back(int32_t index);
  // Whether contexts must select theirs. Without an open dimension they need none, and one of several contexts may be
  // refused the only one there is.
  bool matter() const { return open_; }

 private:
  bool open_ = false;
  std::mutex mutex_;
  std::vector<bool> taken_;  // empty: they are shared
};

// Selects the profile and waits until that is done. The device is current.
void select_profile(nvinfer1::IExecutionContext &context, int32_t index, Device &device);

}  // namespace tensorrt
}  // namespace toklip

#endif
