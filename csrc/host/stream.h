// Streams, events and graphs of HostDevice.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "host/device.h"

namespace toklip {

class HostEvent final : public Event {
 public:
  explicit HostEvent(HostDevice &device) : device_(device) {}
  bool done() override;
  float microseconds_since(const Event &earlier) override;

 private:
  friend class HostStream;
  void complete();
  void await(uint64_t target) const;  // or until the device is lost

  HostDevice &device_;
  // Guarded by the device's lock. Records are counted, so that a wait is for the record before it and no later one.
  uint64_t recorded_ = 0, completed_ = 0;
  std::chrono::steady_clock::time_point at_{};
};

// One piece of work.
struct HostWork {
  enum Kind { kCopy, kFill, kCall, kRecord, kWait, kLaunch, kHang, kSleep } kind;
  void *to = nullptr;
  const void *from = nullptr;
  size_t size = 0;  // bytes; of kWait the record waited for, of kSleep milliseconds
  uint8_t value = 0;
  HostFunction function = nullptr;
  HostEvent *event = nullptr;
  const class HostGraph *graph = nullptr;
};

class HostGraph final : public Graph {
 public:
  std::vector<HostWork> works;
};

class HostStream final : public Stream {
 public:
  explicit HostStream(HostDevice &device);
  ~HostStream() override;

  void copy(void *to, const void *from, size_t size) override;
  void fill(void *to, uint8_t value, size_t size) override;
  void call(HostFunction function, void *argument) override;
  void record(Event &event) override;
  void wait(const Event &event) override;
  void launch(Graph &graph) override;
  std::unique_ptr<Graph> capture(const std::function<void()> &work) override;
  void *native() override { return nullptr; }

  // Work that never ends, until the device is lost or stopped.
  void hang();
  // Work that takes that long.
  void sleep(uint32_t milliseconds);

 private:
  friend class HostDevice;
  void add(const HostWork &work);  // to the capture, or to the queue
  void enqueue(const HostWork &work);
  void run();
  bool begin();
  void end();
  void perform(const HostWork &work);
  void stop();  // drops what waits and ends the thread

  HostDevice &device_;
  HostGraph *capturing_ = nullptr;  // of the thread that uses the stream

  std::mutex mutex_;  // guards what follows; never held while the device's is taken
  std::condition_variable added_;
  std::vector<HostWork> pending_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace toklip
