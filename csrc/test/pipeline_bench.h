// What tests of the pipeline share: a pipeline on the CPU, pictures of known tokens, and a model of what has to come out.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "core/log.h"
#include "host/device.h"
#include "kernels/kernels.h"
#include "pipeline/pipeline.h"
#include "test/expect.h"
#include "test/function_engine.h"

namespace toklip {

using Ids = std::array<int32_t, kTokens>;

// How a pipeline is made.
struct Setup {
  int32_t in_flight = 1;
  bool graphs = true, integrated = false, kernels_on_device = false, latents = true, encoder = true;
  int32_t batch_max = 3, streams_max = 5;
  uint32_t timeout_ms = 20000;
  std::function<void(HostCall, HostStream *)> before = {};  // hook of the device
};

// All ways that matter.
std::vector<Setup> all_setups();
std::string name_of(const Setup &setup);

// Kernels that ran on the device: those of the CPU, as a HostDevice's memory is the CPU's.
std::unique_ptr<Kernels> new_kernels(Device &device, bool on_device);

// A picture, grey, of any size; the four quarters have the levels of their tokens.
class Picture {
 public:
  explicit Picture(const Ids &ids, int32_t edge = kSize);
  toklip_trt_frame frame(int32_t stream, bool fresh = false) const;

 private:
  int32_t edge_;
  std::vector<uint8_t> pixels_;
};

class Bench {
 public:
  explicit Bench(const Setup &setup);
  ~Bench() { close(); }

  void close() { Pipeline::close(std::move(pipeline)); }

  // Puts one frame of a stream through and checks the result against what it must be; whether it was encoded.
  bool process(int32_t stream, const Ids &ids, bool fresh = false);

  const Setup setup;
  std::shared_ptr<HostDevice> device;
  std::shared_ptr<FunctionEngine> tokenizer, encoder;
  std::vector<float> codebook;
  Log log;
  std::unique_ptr<Pipeline> pipeline;
  toklip_trt_times times = {};  // of the last process
  std::map<int32_t, Ids> last;  // by stream; what process compares with
};

// Options for engines of the bench.
toklip_trt_pipeline_options options_of(const Setup &setup, const std::vector<float> &codebook);

// Checks ids, packed ids, features and embeddings of a result; and changes against last, NULL if it must be fresh.
void expect_result(const toklip_trt_result &result, const Ids &ids, const Ids *last, bool encoder);

}  // namespace toklip
