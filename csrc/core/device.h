// Device: memory, streams, events and graphs, as CUDA has them. csrc/cuda implements it over the driver, csrc/host over
// threads of the CPU.
//
// Threads: a Device may be used by any threads at once. A Stream, Event, Graph or Buffer is used by one at a time; only
// Event::done and Event::microseconds_since may be called while another thread uses the stream it is recorded on.
// Ownership: everything a Device made is destroyed before the Device.
// Errors: what sticks throws Error(TOKLIP_TRT_DEVICE_LOST), and from then on everything does. Lack of memory throws
// TOKLIP_TRT_OUT_OF_MEMORY and changes nothing. Destructors never throw.
//
// Nothing here waits for the device, except destructors: a Buffer, Stream or Graph is destroyed when the work that uses
// it has ended. Where that cannot be waited for (the device hangs), they are leaked until Runtime::reset_device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <utility>

#include "toklip_trt.h"

namespace toklip {

enum class Memory {
  kDevice,  // the device's own; the CPU does not touch it
  kPinned   // of the CPU, page-locked and mapped: the device reads and writes it in place, at an address of its own
};

class Device;

// A piece of memory. Freed by its destructor. Movable, and empty after having been moved from.
class Buffer {
 public:
  Buffer() = default;
  // For implementations of Device.
  Buffer(Device *owner, Memory memory, void *host, void *device, size_t size)
      : owner_(owner), memory_(memory), host_(host), device_(device), size_(size) {}
  Buffer(Buffer &&other) noexcept { swap(other); }
  Buffer &operator=(Buffer &&other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  inline ~Buffer();

  explicit operator bool() const { return owner_ != nullptr; }
  size_t size() const { return size_; }     // bytes, as asked for
  void *host() const { return host_; }      // the CPU's address; NULL for kDevice
  void *device() const { return device_; }  // the address for kernels and engines

 private:
  void swap(Buffer &other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(memory_, other.memory_);
    std::swap(host_, other.host_);
    std::swap(device_, other.device_);
    std::swap(size_, other.size_);
  }

  Device *owner_ = nullptr;
  Memory memory_ = Memory::kDevice;
  void *host_ = nullptr;
  void *device_ = nullptr;
  size_t size_ = 0;
};

// A point in a stream's work.
class Event {
 public:
  virtual ~Event() = default;
  // Whether all work before the last record that was made outside of graphs has ended. True if there was none. Throws
  // when the device was lost. For events that graphs record it has no meaning.
  virtual bool done() = 0;
  // Time on the device from earlier's last record to this one's, by a graph or not. The work of both has ended, which
  // the caller knows from done() of an event recorded behind them. 0 if one was never recorded, or the device cannot tell.
  virtual float microseconds_since(const Event &earlier) = 0;
};

// Work captured once, to be launched often. It holds the addresses, sizes and arguments of the work as they were at
// capture, not what lies there.
class Graph {
 public:
  virtual ~Graph() = default;
};

// A function that runs in a stream's order on a thread of the driver. It must not throw, nor call anything of Device.
using HostFunction = void (*)(void *argument);

// Work in order. All methods enqueue and return; addresses must stay valid until the work has ended, and, where it was
// captured, as long as the graph may be launched.
class Stream {
 public:
  virtual ~Stream() = default;  // the work has ended, see the top

  // Copies size bytes. Each address is one of device memory, or the CPU's one of pinned memory; they do not overlap.
  virtual void copy(void *to, const void *from, size_t size) = 0;
  // Sets size bytes of device memory.
  virtual void fill(void *to, uint8_t value, size_t size) = 0;
  // Calls function(argument).
  virtual void call(HostFunction function, void *argument) = 0;
  // Records the event here. In a capture it becomes part of the graph, and every launch records the event anew.
  virtual void record(Event &event) = 0;
  // Lets what comes after wait for the event's last record, on another stream. Not in a capture.
  virtual void wait(const Event &event) = 0;
  virtual void launch(Graph &graph) = 0;

  // Makes a graph of what `work` enqueues on this stream; nothing of it runs. What `work` throws is thrown on, the
  // capture having been ended; so is the refusal of a capture, as TOKLIP_TRT_UNSUPPORTED or TOKLIP_TRT_INTERNAL. The
  // stream remains usable in any case, and other streams and threads are not disturbed.
  virtual std::unique_ptr<Graph> capture(const std::function<void()> &work) = 0;

  // CUstream of the driver; NULL on the CPU. For TensorRT and for launching kernels.
  virtual void *native() = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  // Makes the device current for this thread, and puts back what was. Pairs nest. Every entry point of the ABI that
  // may touch the device holds a Current; code below it need not care.
  virtual void enter() = 0;
  virtual void leave() noexcept = 0;

  // Fills all but dla_cores and kernels, which are the Runtime's to know.
  virtual toklip_trt_device_info info() = 0;

  // Zeroed or not, aligned to 256 bytes. size 0 gives an empty Buffer.
  virtual Buffer allocate(Memory memory, size_t size) = 0;
  virtual std::unique_ptr<Stream> new_stream() = 0;
  virtual std::unique_ptr<Event> new_event() = 0;

 private:
  friend class Buffer;
  virtual void release(Memory memory, void *host, void *device, size_t size) noexcept = 0;
};

inline Buffer::~Buffer() {
  if (owner_ != nullptr) owner_->release(memory_, host_, device_, size_);
}

// Keeps a device current for this thread.
class Current {
 public:
  explicit Current(Device &device) : device_(&device) { device.enter(); }
  // For what must not fail, such as freeing: goes on without where the device is lost.
  Current(Device &device, std::nothrow_t) noexcept {
    try {
      device.enter();
      device_ = &device;
    } catch (...) {
    }
  }
  ~Current() {
    if (device_ != nullptr) device_->leave();
  }
  Current(const Current &) = delete;
  Current &operator=(const Current &) = delete;

 private:
  Device *device_ = nullptr;
};

}  // namespace toklip
