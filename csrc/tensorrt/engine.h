// A plan on the GPU.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/log.h"
#include "tensorrt/loaded.h"
#include "tensorrt/profiles.h"

namespace toklip {
namespace tensorrt {

// What the first bytes of a plan say. TensorRT writes them since 8.6.
struct PlanHeader {
  enum class Kind { kNone, kTensorRT, kRTX };
  Kind kind = Kind::kNone;
  Version version;  // of the builder; zeros for kNone

  static PlanHeader read(const void *plan, size_t size);
};

// Throws TOKLIP_TRT_BAD_PLAN for a plan that this TensorRT cannot read whatever the GPU: too short, of another kind or
// another version. Needs no GPU.
void check_plan(const Loaded &loaded, const void *plan, size_t size);

class TensorRTEngine : public Engine {
 public:
  // The device is current and the plan was checked. Throws TOKLIP_TRT_BAD_PLAN with the first reason that TensorRT logs.
  TensorRTEngine(Loaded &loaded, Log &log, std::shared_ptr<Device> device, const void *plan, size_t size,
                 int32_t dla_core);
  ~TensorRTEngine() override;

  const std::vector<TensorInfo> &tensors() const override { return tensors_; }
  int32_t batch_min() const override { return batch_min_; }
  int32_t batch_max() const override { return batch_max_; }
  size_t scratch_size() const override { return scratch_size_; }
  std::unique_ptr<Context> new_context(void *scratch) override;
  std::string layers() override;

 private:
  void read_tensors();

  Loaded &loaded_;
  Log &log_;
  std::shared_ptr<Device> device_;
  // A runtime of its own: its DLA core is state. Freed after the engine.
  std::unique_ptr<nvinfer1::IRuntime, Deleter<nvinfer1::IRuntime>> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine, Deleter<nvinfer1::ICudaEngine>> engine_;
#if TOKLIP_TRT8
  std::shared_ptr<Profiles> profiles_;
#endif
  std::vector<TensorInfo> tensors_;
  int32_t batch_min_ = 1, batch_max_ = 1;
  size_t scratch_size_ = 0;
};

}  // namespace tensorrt
}  // namespace toklip
