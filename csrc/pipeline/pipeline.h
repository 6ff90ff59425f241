// Pipeline: frames in, ids, features and embeddings out, as toklip_trt_pipeline_* promise.
//
// A batch is enqueued in two halves, see Slot. Whether the back follows at once is decided in submit: if the ids of every
// stream in the batch changed last time, they are expected to change again, and the back of all frames is enqueued
// behind the front, with no look of the CPU in between. Else wait looks at the counts when the front has ended, and
// enqueues the back for just the frames that changed, or not at all.
//
// With two batches in flight, fronts run on one stream and backs on another, so that the tokenizer of the next batch works
// beside the encoder of this one. With one, both halves share a stream and are one graph.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/device.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/kernels.h"
#include "core/log.h"
#include "pipeline/patience.h"
#include "pipeline/replay.h"
#include "pipeline/shape.h"
#include "pipeline/slot.h"
#include "pipeline/streams.h"

namespace toklip {

// The device is current in every call.
class Pipeline {
 public:
  // encoder is NULL without one. log outlives the pipeline.
  Pipeline(std::shared_ptr<Device> device, std::unique_ptr<Kernels> kernels, std::shared_ptr<Engine> tokenizer,
           std::shared_ptr<Engine> encoder, const toklip_trt_pipeline_options &options, Log &log);
  Pipeline(const Pipeline &) = delete;
  Pipeline &operator=(const Pipeline &) = delete;

  void submit(const toklip_trt_frame *frames, size_t count);
  void wait(toklip_trt_result *results, size_t capacity, toklip_trt_times *times);
  void process(const toklip_trt_frame *frames, size_t count, toklip_trt_result *results, toklip_trt_times *times);

  // Waits for what is under way, up to timeout_ms for each batch, and frees the pipeline. If the device does not finish,
  // the pipeline is leaked: nothing of it can be freed before the device was reset.
  static void close(std::unique_ptr<Pipeline> pipeline) noexcept;

 private:
  struct Batch {
    enum State { kFree, kFilling, kUnderWay, kHeld } state = kFree;
    std::unique_ptr<Slot> slot;  // made when first needed
    int32_t n = 0;               // frames
    int32_t rows = 0;            // of the back
    bool undecided = false;      // the back has not been enqueued
    bool graph = false;          // all of it ran as graphs
    Clock::time_point begun;
    struct Frame {
      int32_t stream;
      bool all;     // everything is to count as changed: the frame that it was compared with was lost
      int32_t row;  // of the back, -1 if not in it
    };
    std::vector<Frame> frames;  // batch_max of them
  };

  void check_alive() const;
  void check_frames(const Slot &slot, const toklip_trt_frame *frames, size_t count);
  Batch &claim(size_t count);
  void give_up(Batch *batch, const Error *why);
  void begin(Batch &batch, const toklip_trt_frame *frames);
  void enqueue(Batch &batch);
  void settle(Batch &batch);
  void decide(Batch &batch, Clock::time_point deadline);
  void finish(Batch &batch, toklip_trt_result *results, toklip_trt_times *times);
  void lose(Batch &batch);
  void release_held();
  void remember(const Error &error);
  bool ended() noexcept;
  Clock::time_point expected(Clock::time_point from, const std::vector<float> &times, int32_t n) const;

  // In the order in which they may be destroyed, last first.
  const std::shared_ptr<Device> device_;
  const std::shared_ptr<Engine> tokenizer_, encoder_;
  const std::unique_ptr<Kernels> kernels_;
  Parts parts_;
  std::unique_ptr<Search> search_;
  Buffer last_, front_scratch_, back_scratch_;
  std::unique_ptr<Stream> front_, own_back_;
  Stream *back_;  // front_ with one batch in flight

  // Guards what follows, and enqueueing. Not held while waiting for the device nor while pixels are read.
  std::mutex mutex_;
  std::optional<Error> dead_;  // what every call fails with from now on
  bool unsettled_ = false;     // whether work is under way cannot be found out
  GraphPolicy graphs_;
  Streams streams_;
  std::vector<Batch> batches_;                   // one more than in flight, because results are held
  std::vector<Batch *> under_way_;               // oldest first
  std::vector<float> front_times_, back_times_;  // expected, in microseconds, by batch size
  Clock::time_point last_end_;

  // Of submit alone.
  std::vector<uint64_t> seen_;  // by stream, number of the batch that last had it
  uint64_t number_ = 0;
};

}  // namespace toklip
