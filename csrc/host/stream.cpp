#include "host/stream.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace toklip {

bool HostEvent::done() {
  device_.before(HostCall::kQuery, nullptr);
  std::lock_guard<std::mutex> lock(device_.mutex_);
  return !device_.frozen_ && completed_ == recorded_;
}

float HostEvent::microseconds_since(const Event &earlier) {
  device_.before(HostCall::kQuery, nullptr);
  const auto &other = static_cast<const HostEvent &>(earlier);
  std::lock_guard<std::mutex> lock(device_.mutex_);
  if (completed_ == 0 || other.completed_ == 0) return 0;
  return std::chrono::duration<float, std::micro>(at_ - other.at_).count();
}

void HostEvent::complete() {
  std::lock_guard<std::mutex> lock(device_.mutex_);
  completed_++;
  at_ = std::chrono::steady_clock::now();
  device_.changed_.notify_all();
}

void HostEvent::await(uint64_t target) const {
  std::unique_lock<std::mutex> lock(device_.mutex_);
  device_.changed_.wait(lock, [&] { return device_.lost_ || completed_ >= target; });
}

namespace {

constexpr size_t kUsual = 1024;  // pieces of work that wait; more are possible, but are allocated then

}  // namespace

HostStream::HostStream(HostDevice &device) : device_(device) {
  pending_.reserve(kUsual);
  thread_ = std::thread(&HostStream::run, this);
}

HostStream::~HostStream() {
  stop();
  std::lock_guard<std::mutex> lock(device_.mutex_);
  auto &all = device_.streams_;
  all.erase(std::remove(all.begin(), all.end(), this), all.end());
}

void HostStream::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    added_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void HostStream::copy(void *to, const void *from, size_t size) {
  device_.before(HostCall::kCopy, this);
  HostWork w{HostWork::kCopy};
  w.to = to;
  w.from = from;
  w.size = size;
  add(w);
}

void HostStream::fill(void *to, uint8_t value, size_t size) {
  device_.before(HostCall::kFill, this);
  HostWork w{HostWork::kFill};
  w.to = to;
  w.value = value;
  w.size = size;
  add(w);
}

void HostStream::call(HostFunction function, void *argument) {
  device_.before(HostCall::kCall, this);
  HostWork w{HostWork::kCall};
  w.function = function;
  w.to = argument;
  add(w);
}

void HostStream::record(Event &event) {
  device_.before(HostCall::kRecord, this);
  HostWork w{HostWork::kRecord};
  w.event = static_cast<HostEvent *>(&event);
  add(w);
}

void HostStream::wait(const Event &event) {
  device_.before(HostCall::kWait, this);
  if (capturing_ != nullptr) fail(TOKLIP_TRT_INTERNAL, "a stream waited for an event in a capture");
  HostWork w{HostWork::kWait};
  w.event = const_cast<HostEvent *>(static_cast<const HostEvent *>(&event));
  {
    std::lock_guard<std::mutex> lock(device_.mutex_);
    w.size = w.event->recorded_;
  }
  add(w);
}

void HostStream::launch(Graph &graph) {
  device_.before(HostCall::kLaunch, this);
  if (capturing_ != nullptr) fail(TOKLIP_TRT_INTERNAL, "a graph was launched in a capture");
  HostWork w{HostWork::kLaunch};
  w.graph = static_cast<HostGraph *>(&graph);
  add(w);
}

std::unique_ptr<Graph> HostStream::capture(const std::function<void()> &work) {
  device_.before(HostCall::kCapture, this);
  auto graph = std::make_unique<HostGraph>();
  capturing_ = graph.get();
  try {
    work();
  } catch (...) {
    capturing_ = nullptr;
    throw;
  }
  capturing_ = nullptr;
  return graph;
}

void HostStream::hang() { enqueue(HostWork{HostWork::kHang}); }

void HostStream::sleep(uint32_t milliseconds) {
  HostWork w{HostWork::kSleep};
  w.size = milliseconds;
  enqueue(w);
}

void HostStream::add(const HostWork &work) {
  if (capturing_ != nullptr) {
    capturing_->works.push_back(work);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(device_.mutex_);
    if (work.kind == HostWork::kRecord) work.event->recorded_++;
    if (work.kind == HostWork::kLaunch) {
      for (const HostWork &w : work.graph->works) {
        if (w.kind == HostWork::kRecord) w.event->recorded_++;
      }
    }
  }
  enqueue(work);
}

void HostStream::enqueue(const HostWork &work) {
  std::lock_guard<std::mutex> lock(mutex_);
  pending_.push_back(work);
  added_.notify_one();
}

// Takes over all that is pending at once: two vectors take turns, and nothing is allocated once they are large enough.
void HostStream::run() {
  std::vector<HostWork> works;
  works.reserve(kUsual);
  for (;;) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      added_.wait(lock, [&] { return stopping_ || !pending_.empty(); });
      if (pending_.empty()) return;
      works.swap(pending_);
    }
    for (const HostWork &w : works) {
      if (begin()) {
        perform(w);
        end();
      }
    }
    works.clear();
  }
}

// Whether work may be done: not on a lost device.
bool HostStream::begin() {
  std::lock_guard<std::mutex> lock(device_.mutex_);
  if (!device_.lost_) device_.busy_++;
  return !device_.lost_;
}

void HostStream::end() {
  std::lock_guard<std::mutex> lock(device_.mutex_);
  if (--device_.busy_ == 0 && device_.lost_) device_.changed_.notify_all();
}

void HostStream::perform(const HostWork &w) {
  switch (w.kind) {
    case HostWork::kCopy:
      std::memcpy(w.to, w.from, w.size);
      return;
    case HostWork::kFill:
      std::memset(w.to, w.value, w.size);
      return;
    case HostWork::kCall:
      w.function(w.to);
      return;
    case HostWork::kRecord:
      w.event->complete();
      return;
    case HostWork::kWait:
      w.event->await(w.size);
      return;
    case HostWork::kLaunch:
      for (const HostWork &each : w.graph->works) {
        if (!begin()) return;
        perform(each);
        end();
      }
      return;
    case HostWork::kHang:
    case HostWork::kSleep: {
      std::unique_lock<std::mutex> lock(device_.mutex_);
      const auto lost = [&] { return device_.lost_; };
      if (w.kind == HostWork::kHang) {
        device_.changed_.wait(lock, lost);
      } else {
        device_.changed_.wait_for(lock, std::chrono::milliseconds(w.size), lost);
      }
      return;
    }
  }
}

}  // namespace toklip
