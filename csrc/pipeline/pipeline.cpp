#include "pipeline/pipeline.h"

#include <algorithm>

#include "core/leak.h"

namespace toklip {
namespace {

constexpr float kExpectedPart = 0.8f;  // of the expected time that wait sleeps

std::chrono::milliseconds milliseconds(uint32_t n) { return std::chrono::milliseconds(n); }

// What to expect after these times: less at once, more by and by, so that one slow batch makes none sleep too long.
void learn(float &expected, float value) {
  expected = expected == 0 || value < expected ? value : expected + (value - expected) / 8;
}

}  // namespace

Pipeline::Pipeline(std::shared_ptr<Device> device, std::unique_ptr<Kernels> kernels, std::shared_ptr<Engine> tokenizer,
                   std::shared_ptr<Engine> encoder, const toklip_trt_pipeline_options &options, Log &log)
    : device_(std::move(device)),
      tokenizer_(std::move(tokenizer)),
      encoder_(std::move(encoder)),
      kernels_(std::move(kernels)),
      parts_(),
      graphs_(options.cuda_graph, log),
      streams_(std::max(options.streams_max, 1)) {
  const Shape &shape = parts_.shape = make_shape(options, *tokenizer_, encoder_.get());
  parts_.place = Placement{device_.get(), device_->info().integrated, kernels_->space()};
  parts_.kernels = kernels_.get();
  parts_.tokenizer = tokenizer_.get();
  parts_.encoder = encoder_.get();
  std::copy(options.mean, options.mean + 3, parts_.mean);
  std::copy(options.std, options.std + 3, parts_.std);
  if (shape.latents) {
    search_ = kernels_->new_search(
        SearchOptions{options.codebook, shape.codebook_size, shape.codebook_dim, shape.tokens, shape.batch_max});
    parts_.search = search_.get();
  }
  const auto streams = static_cast<size_t>(shape.streams_max);
  last_ = device_->allocate(parts_.place.kernels == Space::kHost ? Memory::kPinned : Memory::kDevice,
                            streams * shape.id_bytes());
  parts_.last = static_cast<int32_t *>(at(last_, parts_.place.kernels));

  // Contexts whose work is on one stream share the memory they work in.
  const size_t front_size = tokenizer_->scratch_size();
  const size_t back_size = encoder_ != nullptr ? encoder_->scratch_size() : 0;
  front_ = device_->new_stream();
  if (shape.in_flight == 1) {
    front_scratch_ = device_->allocate(Memory::kDevice, std::max(front_size, back_size));
    parts_.front_scratch = parts_.back_scratch = front_scratch_.device();
    back_ = front_.get();
  } else {
    front_scratch_ = device_->allocate(Memory::kDevice, front_size);
    back_scratch_ = device_->allocate(Memory::kDevice, back_size);
    parts_.front_scratch = front_scratch_.device();
    parts_.back_scratch = back_scratch_.device();
    own_back_ = device_->new_stream();
    back_ = own_back_.get();
  }

  const auto batch_max = static_cast<size_t>(shape.batch_max);
  batches_.resize(static_cast<size_t>(shape.in_flight) + 1);
  for (Batch &b : batches_) b.frames.resize(batch_max);
  under_way_.reserve(batches_.size());
  front_times_.resize(batch_max + 1);
  back_times_.resize(batch_max + 1);
  seen_.resize(streams);
  // Made now, so that lack of memory is told here and not by the first frame.
  batches_.front().slot = std::make_unique<Slot>(parts_);
}

void Pipeline::check_alive() const {
  if (dead_) throw *dead_;
}

void Pipeline::remember(const Error &error) {
  if (error.fatal() && !dead_) dead_ = error;
}

void Pipeline::release_held() {
  for (Batch &b : batches_) {
    if (b.state == Batch::kHeld) b.state = Batch::kFree;
  }
}

// ---- submit ---------------------------------------------------------------------------------------------------------

void Pipeline::submit(const toklip_trt_frame *frames, size_t count) {
  Batch *batch = nullptr;
  try {
    batch = &claim(count);
    check_frames(*batch->slot, frames, count);
    batch->slot->load(frames, batch->n);
    begin(*batch, frames);
  } catch (const Error &e) {
    give_up(batch, &e);
    throw;
  } catch (...) {
    give_up(batch, nullptr);
    throw;
  }
}

// After a failure in submit. What a dead device still does with a batch nobody knows, so it is not used again.
void Pipeline::give_up(Batch *batch, const Error *why) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (why != nullptr) remember(*why);
  if (batch != nullptr && !dead_) batch->state = Batch::kFree;
}

// Takes a free batch for count frames.
Pipeline::Batch &Pipeline::claim(size_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  check_alive();
  const Shape &shape = parts_.shape;
  if (count < 1 || count > static_cast<size_t>(shape.batch_max)) {
    fail(TOKLIP_TRT_INVALID, "a batch of %zu frames, must be 1 to %d", count, shape.batch_max);
  }
  if (under_way_.size() >= static_cast<size_t>(shape.in_flight)) {
    fail(TOKLIP_TRT_BUSY, "%d of %d batches are under way: wait for the oldest first", shape.in_flight,
         shape.in_flight);
  }
  for (Batch &b : batches_) {
    if (b.state != Batch::kFree) continue;
    if (b.slot == nullptr) b.slot = std::make_unique<Slot>(parts_);
    b.slot->prepare_front(static_cast<int32_t>(count));
    b.state = Batch::kFilling;
    b.n = static_cast<int32_t>(count);
    return b;
  }
  fail(TOKLIP_TRT_BUSY, "another thread is submitting a batch");
}

void Pipeline::check_frames(const Slot &slot, const toklip_trt_frame *frames, size_t count) {
  number_++;
  for (size_t i = 0; i < count; i++) {
    const toklip_trt_frame &f = frames[i];
    try {
      slot.check(f);
    } catch (const Error &e) {
      throw Error(e.code(), text("frame %zu: %s", i, e.what()));
    }
    if (f.stream < 0 || f.stream >= parts_.shape.streams_max) {
      fail(TOKLIP_TRT_INVALID, "frame %zu: stream is %d, must be 0 to %d", i, f.stream, parts_.shape.streams_max - 1);
    }
    uint64_t &seen = seen_[static_cast<size_t>(f.stream)];
    if (seen == number_) fail(TOKLIP_TRT_INVALID, "frame %zu: stream %d is in the batch twice", i, f.stream);
    seen = number_;
  }
}

// Decides how the batch runs, and enqueues it. If that fails half way, what was enqueued has ended on return.
void Pipeline::begin(Batch &batch, const toklip_trt_frame *frames) {
  std::lock_guard<std::mutex> lock(mutex_);
  check_alive();
  // While an older batch waits for its back, this one must not overtake it.
  batch.undecided = parts_.shape.encoder && !under_way_.empty() && under_way_.back()->undecided;
  for (int32_t i = 0; i < batch.n; i++) {
    const int32_t stream = frames[i].stream;
    const bool fresh = frames[i].fresh || !streams_.known(stream);
    if (parts_.shape.encoder && !fresh && !streams_.moving(stream)) batch.undecided = true;
    batch.frames[static_cast<size_t>(i)] = Batch::Frame{stream, false, -1};
    batch.slot->states()[i] = FrameState{stream, fresh ? 1 : 0};
  }
  batch.rows = 0;
  if (parts_.shape.encoder && !batch.undecided) {
    batch.slot->prepare_back(batch.n);
    batch.rows = batch.n;
    for (int32_t i = 0; i < batch.n; i++) {
      batch.frames[static_cast<size_t>(i)].row = batch.slot->rows()[i] = i;
    }
  }
  batch.begun = Clock::now();
  try {
    enqueue(batch);
  } catch (...) {
    // The ids of these frames may be on the device already, but nobody will be told of them.
    for (int32_t i = 0; i < batch.n; i++) streams_.forget(frames[i].stream);
    settle(batch);
    throw;
  }
  for (int32_t i = 0; i < batch.n; i++) streams_.enqueued(frames[i].stream);
  batch.state = Batch::kUnderWay;
  under_way_.push_back(&batch);
}

void Pipeline::enqueue(Batch &batch) {
  Slot &slot = *batch.slot;
  const bool at_once = batch.rows > 0;
  if (at_once && back_ == front_.get()) {
    batch.graph = slot.enqueue_both(*front_, graphs_, batch.n);
    front_->record(slot.back_done());
    return;
  }
  batch.graph = slot.enqueue_front(*front_, graphs_, batch.n);
  front_->record(slot.front_done());
  if (!at_once) return;
  back_->wait(slot.front_done());
  batch.graph = slot.enqueue_back(*back_, graphs_, batch.rows) && batch.graph;
  back_->record(slot.back_done());
}

// Waits until nothing of the batch is under way any more, after enqueueing failed somewhere in it. A device that does
// not get there is dead; the first error is the one that the caller is told.
void Pipeline::settle(Batch &batch) {
  try {
    const Clock::time_point deadline = Clock::now() + milliseconds(parts_.shape.timeout_ms);
    front_->record(batch.slot->front_done());
    back_->record(batch.slot->back_done());
    require_done(batch.slot->front_done(), Clock::now(), deadline, parts_.shape.timeout_ms);
    require_done(batch.slot->back_done(), Clock::now(), deadline, parts_.shape.timeout_ms);
  } catch (const Error &e) {
    remember(e);
    if (!dead_) {
      unsettled_ = true;
      dead_ = Error(TOKLIP_TRT_DEVICE_LOST, text("work on the device cannot be waited for: %s", e.what()));
    }
  }
}

// ---- wait -----------------------------------------------------------------------------------------------------------

void Pipeline::wait(toklip_trt_result *results, size_t capacity, toklip_trt_times *times) {
  Batch *batch = nullptr;
  Clock::time_point when;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    check_alive();
    if (under_way_.empty()) fail(TOKLIP_TRT_INVALID, "no batch is under way: submit one first");
    batch = under_way_.front();
    if (capacity < static_cast<size_t>(batch->n)) {
      fail(TOKLIP_TRT_INVALID, "there is room for %zu results, the batch has %d frames", capacity, batch->n);
    }
    release_held();
    when = expected(std::max(batch->begun, last_end_), front_times_, batch->n);
    if (batch->rows > 0) when = expected(when, back_times_, batch->rows);
  }
  try {
    const uint32_t timeout = parts_.shape.timeout_ms;
    const Clock::time_point deadline = Clock::now() + milliseconds(timeout);
    if (batch->rows > 0) {
      require_done(batch->slot->back_done(), when, deadline, timeout);
    } else {
      require_done(batch->slot->front_done(), when, deadline, timeout);
      if (batch->undecided) decide(*batch, deadline);
    }
    finish(*batch, results, times);
  } catch (const Error &e) {
    std::lock_guard<std::mutex> lock(mutex_);
    remember(e);
    lose(*batch);
    throw;
  } catch (...) {
    std::lock_guard<std::mutex> lock(mutex_);
    lose(*batch);
    throw;
  }
}

// The front has ended: runs the back for the frames that changed.
void Pipeline::decide(Batch &batch, Clock::time_point deadline) {
  Slot &slot = *batch.slot;
  Clock::time_point when;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    int32_t rows = 0;
    for (int32_t i = 0; i < batch.n; i++) {
      Batch::Frame &f = batch.frames[static_cast<size_t>(i)];
      if (!f.all && slot.changed_count(i) == 0) continue;
      slot.rows()[rows] = i;
      f.row = rows++;
    }
    if (rows > 0) {
      slot.prepare_back(rows);
      const Clock::time_point now = Clock::now();
      batch.graph = slot.enqueue_back(*back_, graphs_, rows) && batch.graph;
      back_->record(slot.back_done());
      when = expected(now, back_times_, rows);
    }
    batch.rows = rows;
    batch.undecided = false;
  }
  if (batch.rows > 0) require_done(slot.back_done(), when, deadline, parts_.shape.timeout_ms);
}

void Pipeline::finish(Batch &batch, toklip_trt_result *results, toklip_trt_times *times) {
  std::lock_guard<std::mutex> lock(mutex_);
  Slot &slot = *batch.slot;
  const bool back = batch.rows > 0;
  toklip_trt_times t = slot.times(back);
  t.graph = batch.graph;
  // First runs load and compile code, and tell nothing of those to come.
  if (slot.ended(batch.n, batch.rows)) {
    learn(front_times_[static_cast<size_t>(batch.n)], slot.front_time());
    if (back) learn(back_times_[static_cast<size_t>(batch.rows)], slot.back_time());
  }
  last_end_ = Clock::now();

  for (int32_t i = 0; i < batch.n; i++) {
    const Batch::Frame &f = batch.frames[static_cast<size_t>(i)];
    results[i] = slot.result(i, f.row, f.all);
    streams_.ended(f.stream, results[i].changed_count > 0);
  }
  if (times != nullptr) *times = t;
  batch.state = Batch::kHeld;
  under_way_.erase(under_way_.begin());
}

// Gives up the oldest batch. Frames of its streams that are under way behind it were compared with frames that the user
// was never told of: they count as changed in everything.
void Pipeline::lose(Batch &batch) {
  under_way_.erase(under_way_.begin());
  for (int32_t i = 0; i < batch.n; i++) {
    const int32_t stream = batch.frames[static_cast<size_t>(i)].stream;
    Batch::Frame *next = nullptr;
    for (Batch *later : under_way_) {
      for (int32_t j = 0; j < later->n && next == nullptr; j++) {
        Batch::Frame &f = later->frames[static_cast<size_t>(j)];
        if (f.stream == stream) next = &f;
      }
    }
    if (next != nullptr) {
      next->all = true;
    } else {
      streams_.forget(stream);
    }
  }
  if (dead_) return;
  settle(batch);
  if (!dead_) batch.state = Batch::kFree;
}

Clock::time_point Pipeline::expected(Clock::time_point from, const std::vector<float> &times, int32_t n) const {
  const float part = kExpectedPart * times[static_cast<size_t>(n)];
  return from + std::chrono::microseconds(static_cast<int64_t>(part));
}

// ---- process and close ----------------------------------------------------------------------------------------------

void Pipeline::process(const toklip_trt_frame *frames, size_t count, toklip_trt_result *results,
                       toklip_trt_times *times) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    check_alive();
    if (!under_way_.empty()) fail(TOKLIP_TRT_BUSY, "a batch is under way: wait for it first");
    // Given back before the next is taken, so that whoever only calls process uses one slot.
    release_held();
  }
  submit(frames, count);
  wait(results, count, times);
}

// Whether nothing is under way any more. Waits for it, unless the device was found not to finish.
bool Pipeline::ended() noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  if (unsettled_) return false;
  try {
    for (Batch &b : batches_) {
      if (b.state != Batch::kUnderWay && b.state != Batch::kFilling) continue;
      const Clock::time_point now = Clock::now();
      const Clock::time_point deadline = dead_ ? now : now + milliseconds(parts_.shape.timeout_ms);
      if (!wait_for(b.slot->front_done(), now, deadline) || !wait_for(b.slot->back_done(), now, deadline)) return false;
    }
  } catch (const Error &e) {
    return e.code() == TOKLIP_TRT_DEVICE_LOST;  // a lost device does nothing any more
  }
  return true;
}

void Pipeline::close(std::unique_ptr<Pipeline> pipeline) noexcept {
  if (pipeline == nullptr || pipeline->ended()) return;
  leak(std::move(pipeline));
}

}  // namespace toklip
