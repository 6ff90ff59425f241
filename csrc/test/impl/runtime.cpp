#include "test/impl/runtime.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <thread>

#include "core/error.h"
#include "host/stream.h"
#include "kernels/kernels.h"
#include "test/impl/build.h"
#include "test/impl/engine.h"
#include "test/impl/onnx_file.h"
#include "test/impl/plan.h"

namespace toklip {
namespace {

// The fault that the call under way in this thread is still to meet with, at the first thing it asks of the device.
Fault &pending() {
  thread_local Fault fault;
  return fault;
}

[[noreturn]] void fail_as_ordered(const Fault &fault) { fail(fault.code, "ordered by the test"); }

// Calls that do their work on the device: there faults strike, not at the entry.
bool on_device(const std::string &call) {
  return call == "submit" || call == "wait" || call == "process" || call == "run" || call == "pipeline";
}

}  // namespace

class TestRuntime::Faults {
 public:
  void use(HostDevice *device) { device_ = device; }

  void strike(HostStream *stream) {
    const Fault fault = pending();
    if (fault.kind == Fault::kNone || (stream == nullptr && waits_for_stream(fault))) return;
    pending() = Fault{};
    switch (fault.kind) {
      case Fault::kNone:
        return;
      case Fault::kError:
        if (fault.code == TOKLIP_TRT_DEVICE_LOST) device_->lose("the device was lost, as ordered by the test");
        fail_as_ordered(fault);
      case Fault::kHang:
        if (stream != nullptr) {
          stream->hang();
        } else {
          device_->freeze();
        }
        return;
      case Fault::kSlow:
        if (stream != nullptr) {
          stream->sleep(fault.milliseconds);
        } else {
          std::this_thread::sleep_for(std::chrono::milliseconds(fault.milliseconds));
        }
        return;
      case Fault::kCrash:
        std::raise(SIGKILL);
        return;
    }
  }

  // Where a call will use a stream, hanging and slowness are for that.
  void entering(const std::string &call) { streams_ = call != "wait" && call != "pipeline"; }

 private:
  static bool waits_for_stream(const Fault &fault) {
    return streams_ && (fault.kind == Fault::kHang || fault.kind == Fault::kSlow);
  }

  static thread_local bool streams_;
  HostDevice *device_ = nullptr;
};

thread_local bool TestRuntime::Faults::streams_ = false;

TestRuntime::TestRuntime(const toklip_trt_open_options &options)
    : orders_(std::make_shared<Orders>()), faults_(std::make_shared<Faults>()) {
  entering("open");
  ort_ = std::make_shared<Ort>(options.nvinfer);
  log_.add(TOKLIP_TRT_LOG_INFO, "implementation for tests, on ONNX Runtime " + ort_->version());
}

TestRuntime::~TestRuntime() {
  // Ends what hangs: nothing may run in this object's code once the library is closed.
  if (device_ != nullptr) device_->stop();
}

void TestRuntime::entering(const char *call) {
  pending() = Fault{};
  if (std::strcmp(call, "build") == 0) return;  // see build.cpp
  const Fault fault = orders_->take(call);
  if (on_device(call)) {
    faults_->entering(call);
    pending() = fault;
    return;
  }
  switch (fault.kind) {
    case Fault::kNone:
      return;
    case Fault::kError:
      if (fault.code == TOKLIP_TRT_DEVICE_LOST && device_ != nullptr)
        device_->lose("the device was lost, as ordered by the test");
      fail_as_ordered(fault);
    case Fault::kHang:
      fail(TOKLIP_TRT_INVALID, "hang was ordered for %s, which cannot", call);
    case Fault::kSlow:
      std::this_thread::sleep_for(std::chrono::milliseconds(fault.milliseconds));
      return;
    case Fault::kCrash:
      std::raise(SIGKILL);
      return;
  }
}

void TestRuntime::describe(toklip_trt_library_info *out) const {
  std::strncpy(out->family, "test", sizeof out->family - 1);
  std::strncpy(out->path, ort_->path().c_str(), sizeof out->path - 1);
  std::sscanf(ort_->version().c_str(), "%d.%d.%d", &out->major, &out->minor, &out->patch);
  out->headers_major = 1;
  out->headers_minor = ORT_API_VERSION;
}

std::shared_ptr<Device> TestRuntime::device() {
  if (device_ == nullptr) {
    HostDeviceOptions o;
    o.name = "CPU (implementation for tests)";
    o.before = [faults = faults_](HostCall, HostStream *stream) { faults->strike(stream); };
    device_ = std::make_shared<HostDevice>(std::move(o));
    faults_->use(device_.get());
  }
  return device_;
}

toklip_trt_device_info TestRuntime::describe_device() { return device()->info(); }

void TestRuntime::reset_device() {
  if (device_ == nullptr) return;
  device_->stop();
  device_.reset();
}

std::unique_ptr<Build> TestRuntime::new_build(const toklip_trt_build_options &options) {
  return new_test_build(ort_, orders_, log_, options);
}

std::string TestRuntime::describe_network(const std::string &onnx_path) {
  const size_t layers = node_operators(read_file(onnx_path)).size();
  return describe_json(OrtNetwork(ort_, onnx_path), layers);
}

std::unique_ptr<Engine> TestRuntime::load_engine(const void *data, size_t size, int32_t dla_core) {
  if (dla_core >= 0) fail(TOKLIP_TRT_UNSUPPORTED, "dla_core is %d, but there is no DLA", dla_core);
  const Plan plan = parse_plan(std::string(static_cast<const char *>(data), size));
  if (plan.library != ort_->version()) {
    fail(TOKLIP_TRT_BAD_PLAN, "the plan was made by ONNX Runtime %s, this is %s", plan.library.c_str(),
         ort_->version().c_str());
  }
  const std::string onnx = read_file(plan.onnx_path);
  if (hash_of(onnx) != plan.onnx_hash) {
    fail(TOKLIP_TRT_BAD_PLAN, "%s has changed since the plan was made", plan.onnx_path.c_str());
  }
  device();
  return new_ort_engine(device_, std::make_unique<OrtNetwork>(ort_, plan.onnx_path), plan, node_operators(onnx));
}

std::unique_ptr<Kernels> TestRuntime::new_kernels(bool) { return new_cpu_kernels(*device()); }

std::unique_ptr<Runtime> open_runtime(const toklip_trt_open_options &options) {
  return std::make_unique<TestRuntime>(options);
}

}  // namespace toklip
