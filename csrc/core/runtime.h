// Runtime: what stands behind a toklip_trt_library. csrc/tensorrt implements it over TensorRT, csrc/test over ONNX
// Runtime; each shared object has one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/device.h"
#include "core/engine.h"
#include "core/kernels.h"
#include "core/log.h"
#include "toklip_trt.h"

namespace toklip {

// A build that was prepared. run is called at most once; progress and cancel by any thread meanwhile.
class Build {
 public:
  virtual ~Build() = default;
  virtual void run() = 0;
  virtual void progress(toklip_trt_progress *out) const noexcept = 0;
  virtual void cancel() noexcept = 0;
};

// Its methods are called by one thread at a time, except log(). Builds, engines and pipelines made from it work on other
// threads meanwhile. It outlives them.
class Runtime {
 public:
  virtual ~Runtime() = default;

  // For the entry points of the ABI: called first by each that may fail and has to do with a library, with one of "device",
  // "reset", "build", "network", "load", "layers", "run", "pipeline", "submit", "wait" and "process". May throw. For the
  // implementation that tests use, where faults can be ordered. Any thread.
  virtual void entering(const char *call) { (void)call; }

  virtual Log &log() = 0;  // any thread
  virtual void describe(toklip_trt_library_info *out) const = 0;

  // The device, opened when it is first asked for; the same one until reset_device. TOKLIP_TRT_NO_DEVICE without one.
  virtual std::shared_ptr<Device> device() = 0;
  // device()->info() and what the runtime knows. The device is current.
  virtual toklip_trt_device_info describe_device() = 0;
  // Throws the device's context away with all that is in it, leaked objects too; device() then opens it anew. No engine
  // and no pipeline is left, though references to the old Device may be; they are not used any more.
  virtual void reset_device() = 0;

  // options were checked as far as they can be without knowing TensorRT, and NULL texts are empty; texts and arrays are
  // copied if kept.
  virtual std::unique_ptr<Build> new_build(const toklip_trt_build_options &options) = 0;
  virtual std::string describe_network(const std::string &onnx_path) = 0;  // JSON, see the ABI

  // Throws TOKLIP_TRT_BAD_PLAN for what cannot be a plan of this runtime, whatever the device. Needs none.
  virtual void check_plan(const void *plan, size_t size) {
    (void)plan;
    (void)size;
  }
  // plan is read during the call only and was checked. The device is current.
  virtual std::unique_ptr<Engine> load_engine(const void *plan, size_t size, int32_t dla_core) = 0;

  // Kernels for one pipeline on device(): the GPU's if `on_device` and some fit, else the CPU's, of which the log tells.
  virtual std::unique_ptr<Kernels> new_kernels(bool on_device) = 0;
};

// Opens the runtime of this shared object. options are the defaults where the caller gave none; NULL texts are empty.
std::unique_ptr<Runtime> open_runtime(const toklip_trt_open_options &options);

}  // namespace toklip
