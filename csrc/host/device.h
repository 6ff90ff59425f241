// A Device on the CPU: a stream is a thread with a queue, memory is memory. It exists so that everything above Device is
// tested without a GPU, and it can be made to fail as GPUs do.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "core/device.h"

namespace toklip {

class HostStream;

// What is being done to a device, for the hook that orders faults.
enum class HostCall {
  kAllocate,
  kNewStream,
  kNewEvent,
  kCopy,
  kFill,
  kCall,
  kRecord,
  kWait,
  kLaunch,
  kCapture,
  kQuery
};

struct HostDeviceOptions {
  std::string name = "CPU";
  bool integrated = false;              // tells so in info(); pinned memory is then read in place
  uint64_t memory = uint64_t{8} << 30;  // bytes that can be allocated in all
  // Called first by every method, on the caller's thread; what it throws is thrown on. stream is NULL where none is
  // involved. Any thread.
  std::function<void(HostCall, HostStream *)> before;
};

class HostDevice final : public Device {
 public:
  explicit HostDevice(HostDeviceOptions options = {});
  ~HostDevice() override;

  void enter() override;
  void leave() noexcept override {}
  toklip_trt_device_info info() override;
  Buffer allocate(Memory memory, size_t size) override;
  std::unique_ptr<Stream> new_stream() override;
  std::unique_ptr<Event> new_event() override;

  // From now on everything throws TOKLIP_TRT_DEVICE_LOST; work not yet done is dropped. Any thread, host functions too.
  void lose(const std::string &why);
  // From now on no event is done any more: the device hangs, for all that one can see. Any thread.
  void freeze();
  // Loses the device and ends the threads of all streams, leaked ones too.
  void stop();
  // Throws if the device was lost, once nothing runs on it any more. Not for host functions.
  void check();
  void before(HostCall call, HostStream *stream);

  uint64_t allocated() const { return allocated_; }      // bytes now
  uint64_t allocations() const { return allocations_; }  // count since the beginning

 private:
  friend class HostStream;
  friend class HostEvent;
  void release(Memory memory, void *host, void *device, size_t size) noexcept override;

  const HostDeviceOptions options_;
  std::atomic<uint64_t> allocated_{0}, allocations_{0};

  // Guards events and what follows. One lock for all keeps waiting simple.
  std::mutex mutex_;
  std::condition_variable changed_;
  bool lost_ = false, frozen_ = false;
  int busy_ = 0;  // streams that are at work
  std::string why_;
  std::vector<HostStream *> streams_;
};

}  // namespace toklip
