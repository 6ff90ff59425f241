// Runtime of libtoklip_trt_test.so: graphs run on the CPU through ONNX Runtime, and faults can be ordered.
#pragma once

#include <memory>

#include "core/runtime.h"
#include "host/device.h"
#include "test/impl/ort.h"
#include "test/orders.h"

namespace toklip {

class TestRuntime final : public Runtime {
 public:
  // options.nvinfer is the path of ONNX Runtime, see Ort.
  explicit TestRuntime(const toklip_trt_open_options &options);
  ~TestRuntime() override;

  void entering(const char *call) override;
  Log &log() override { return log_; }
  void describe(toklip_trt_library_info *out) const override;
  std::shared_ptr<Device> device() override;
  toklip_trt_device_info describe_device() override;
  void reset_device() override;
  std::unique_ptr<Build> new_build(const toklip_trt_build_options &options) override;
  std::string describe_network(const std::string &onnx_path) override;
  std::unique_ptr<Engine> load_engine(const void *plan, size_t size, int32_t dla_core) override;
  std::unique_ptr<Kernels> new_kernels(bool on_device) override;

 private:
  // Used by host devices too, which pipelines that hang keep beyond this object.
  class Faults;

  const std::shared_ptr<Orders> orders_;
  const std::shared_ptr<Faults> faults_;
  Log log_;
  std::shared_ptr<Ort> ort_;
  std::shared_ptr<HostDevice> device_;
};

}  // namespace toklip
