// Slot: the memory, events, contexts and graphs that one batch under way occupies.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/device.h"
#include "core/engine.h"
#include "core/kernels.h"
#include "pipeline/replay.h"
#include "pipeline/shape.h"
#include "pipeline/shared.h"

namespace toklip {

// What all slots of a pipeline share. It outlives them.
struct Parts {
  Shape shape;
  Placement place;
  Kernels *kernels;
  Engine *tokenizer;
  Engine *encoder;                     // NULL without one
  Search *search;                      // NULL where the tokenizer gives ids
  int32_t *last;                       // [streams_max,tokens], for kernels
  void *front_scratch, *back_scratch;  // what contexts work in, one for each stream
  float mean[3], std[3];
};

// The work of a batch comes in two halves. The front makes ids of frames and compares them, the back makes features and
// embeddings of those rows of ids that rows() names. Each half records events behind its stages; front_done and
// back_done are for the pipeline to record behind a half, outside of graphs.
class Slot {
 public:
  explicit Slot(const Parts &parts);

  // Throws what Preprocessor::check does.
  void check(const toklip_trt_frame &frame) const { preprocessor_->check(frame); }
  // Make ready what a front of n frames and a back of m rows need. They may lack memory, and then nothing has changed. Not
  // while another thread captures: TensorRT may wait for the whole device when it makes a context, which then fails, and
  // spoils the capture.
  void prepare_front(int32_t n);
  void prepare_back(int32_t m);
  // Reads the pixels of n frames. It may lack memory, too. The slot has no work under way.
  void load(const toklip_trt_frame *frames, int32_t n);

  // Enqueue a half, or both at once; what is needed was made ready. They return whether it was a graph.
  bool enqueue_front(Stream &stream, GraphPolicy &graphs, int32_t n);
  bool enqueue_back(Stream &stream, GraphPolicy &graphs, int32_t m);
  bool enqueue_both(Stream &stream, GraphPolicy &graphs, int32_t n);

  // All work has ended well: n frames and m rows ran, so that from now on they may be captured. Returns whether both
  // had run before.
  bool ended(int32_t n, int32_t m);

  // For the front, written before it is enqueued: batch_max of them.
  FrameState *states() { return static_cast<FrameState *>(states_.host()); }
  // For the back, written before it is enqueued: batch_max of them.
  int32_t *rows() { return static_cast<int32_t *>(rows_.host()); }
  // Of the front, to be read when it has ended.
  int32_t changed_count(int32_t frame) const { return static_cast<const int32_t *>(counts_.host())[frame]; }

  // What came of a frame, all work having ended; row is that of the back, negative if it was not in it. all: everything
  // is to count as changed, whatever the front found.
  toklip_trt_result result(int32_t frame, int32_t row, bool all);
  // Times of the batch, graph excepted, all work having ended.
  toklip_trt_times times(bool back);
  // Time of a half on the device, in microseconds.
  float front_time() { return searched_->microseconds_since(*begun_); }
  float back_time() { return downloaded_->microseconds_since(*back_begun_); }

  Event &front_done() { return *front_done_; }
  Event &back_done() { return *back_done_; }

 private:
  // An engine made ready for one batch size. Each has its own context: a graph holds what a context was when captured.
  struct Run {
    std::unique_ptr<Context> context;
    bool warm = false;
  };

  void prepare(Run &run, Engine &engine, void *scratch, int32_t n);
  void *address_of(const TensorInfo &tensor, bool encoder) const;
  void allocate_rest(const Engine &engine, bool encoder);
  void front(Stream &stream, int32_t n);
  void back(Stream &stream, int32_t m);

  const Parts &parts_;
  const Shape &shape_;
  const Space space_;

  std::unique_ptr<Preprocessor> preprocessor_;
  Shared image_, latents_, ids_, gathered_, features_, embedding_;
  Buffer states_, rows_, changed_, counts_, packed_, copy_, unit_;  // pinned
  struct Rest {
    const TensorInfo *tensor;
    Buffer memory;
  };
  std::vector<Rest> rest_;  // of outputs that nobody wants

  std::vector<Run> tokenizers_, encoders_;     // by batch size
  std::vector<Replay> fronts_, backs_, both_;  // by batch size

  std::unique_ptr<Event> begun_, uploaded_, preprocessed_, tokenized_, searched_;
  std::unique_ptr<Event> back_begun_, encoded_, downloaded_;
  std::unique_ptr<Event> front_done_, back_done_;
};

}  // namespace toklip
