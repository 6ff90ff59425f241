#include "test/impl/build.h"

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <mutex>

#include "core/error.h"
#include "test/impl/engine.h"
#include "test/impl/onnx_file.h"
#include "test/impl/plan.h"

namespace toklip {
namespace {

class TestBuild final : public Build {
 public:
  TestBuild(std::shared_ptr<Ort> ort, std::shared_ptr<Orders> orders, Log &log, const toklip_trt_build_options &o)
      : ort_(std::move(ort)),
        orders_(std::move(orders)),
        log_(log),
        onnx_(o.onnx_path),
        plan_(o.plan_path),
        timing_cache_(o.timing_cache_path),
        layers_(o.layers_path) {
    made_.library = ort_->version();
    made_.batch_min = o.batch_min;
    made_.batch_opt = o.batch_opt;
    made_.batch_max = o.batch_max;
    made_.onnx_path = onnx_;
  }

  void run() override {
    enter("reading the network", 0);
    const std::string onnx = read_file(onnx_);
    made_.onnx_hash = hash_of(onnx);
    const std::vector<std::string> operators = node_operators(onnx);
    enter("checking the network", 0.1);
    {
      const OrtNetwork network(ort_, onnx_);
    }
    obey(orders_->take("build"));
    enter("writing the plan", 0.9);
    log_.add(TOKLIP_TRT_LOG_INFO, text("built a plan of %zu layers", operators.size()));
    if (!timing_cache_.empty()) write_file(timing_cache_, "toklip test timing cache\n");
    if (!layers_.empty()) write_file(layers_, layers_json(operators));
    write_file(plan_, text_of(made_));
    enter("done", 1);
  }

  void progress(toklip_trt_progress *out) const noexcept override {
    std::lock_guard<std::mutex> lock(mutex_);
    *out = now_;
  }

  void cancel() noexcept override {
    std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = true;
    changed_.notify_all();
  }

 private:
  // Begins a phase, unless the build was cancelled.
  void enter(const char *phase, double fraction) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (cancelled_) fail(TOKLIP_TRT_CANCELLED, "the build was cancelled");
    std::memset(now_.phase, 0, sizeof now_.phase);
    std::strncpy(now_.phase, phase, sizeof now_.phase - 1);
    now_.fraction = fraction;
  }

  void obey(const Fault &fault) {
    switch (fault.kind) {
      case Fault::kNone:
        return;
      case Fault::kError:
        fail(fault.code, "ordered by the test");
      case Fault::kCrash:
        std::raise(SIGKILL);
        return;
      case Fault::kSlow:
        // Progress is made all the while.
        for (uint32_t i = 0; i < 100; i++) {
          enter("choosing kernels", 0.1 + 0.008 * i);
          pause(std::chrono::microseconds(int64_t{10} * fault.milliseconds));
        }
        return;
      case Fault::kHang:
        for (;;) {
          enter("choosing kernels", 0.5);
          pause(std::chrono::hours(1));
        }
    }
  }

  // Waits, or until the build is cancelled.
  void pause(std::chrono::microseconds time) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, time, [&] { return cancelled_; });
  }

  const std::shared_ptr<Ort> ort_;
  const std::shared_ptr<Orders> orders_;
  Log &log_;
  const std::string onnx_, plan_, timing_cache_, layers_;
  Plan made_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool cancelled_ = false;
  toklip_trt_progress now_ = {};
};

}  // namespace

std::unique_ptr<Build> new_test_build(std::shared_ptr<Ort> ort, std::shared_ptr<Orders> orders, Log &log,
                                      const toklip_trt_build_options &o) {
  if (o.dla_core >= 0) fail(TOKLIP_TRT_UNSUPPORTED, "dla_core is %d, but there is no DLA", o.dla_core);
  if (o.compute_capability_count > 0) {
    fail(TOKLIP_TRT_UNSUPPORTED, "compute_capabilities are for TensorRT for RTX, this is the implementation for tests");
  }
  return std::make_unique<TestBuild>(std::move(ort), std::move(orders), log, o);
}

}  // namespace toklip
