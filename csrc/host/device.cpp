#include "host/device.h"

#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "host/stream.h"

namespace toklip {

HostDevice::HostDevice(HostDeviceOptions options) : options_(std::move(options)) {}

HostDevice::~HostDevice() { stop(); }

void HostDevice::check() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!lost_) return;
  // Whoever sees this may free memory, which no work must touch any more.
  changed_.wait(lock, [&] { return busy_ == 0; });
  throw Error(TOKLIP_TRT_DEVICE_LOST, why_);
}

void HostDevice::before(HostCall call, HostStream *stream) {
  if (options_.before) options_.before(call, stream);
  check();
}

void HostDevice::enter() { check(); }

toklip_trt_device_info HostDevice::info() {
  check();
  toklip_trt_device_info out = {};
  std::strncpy(out.name, options_.name.c_str(), sizeof out.name - 1);
  out.integrated = options_.integrated;
  out.memory_total = options_.memory;
  out.memory_free = options_.memory - allocated_;
  return out;
}

Buffer HostDevice::allocate(Memory memory, size_t size) {
  before(HostCall::kAllocate, nullptr);
  if (size == 0) return {};
  // The limit is held to even if several threads come at once.
  if (allocated_.fetch_add(size) + size > options_.memory) {
    allocated_ -= size;
    fail(TOKLIP_TRT_OUT_OF_MEMORY, "%zu bytes cannot be allocated: %llu of %llu are in use", size,
         static_cast<unsigned long long>(allocated_), static_cast<unsigned long long>(options_.memory));
  }
  // Of the very size, so that the address sanitizer sees what is written beyond it.
  void *p = nullptr;
  if (posix_memalign(&p, 256, size) != 0) {
    allocated_ -= size;
    fail(TOKLIP_TRT_OUT_OF_MEMORY, "%zu bytes cannot be allocated", size);
  }
  std::memset(p, 0xA5, size);  // as a GPU's memory, it is not zero
  allocations_++;
  return Buffer(this, memory, memory == Memory::kPinned ? p : nullptr, p, size);
}

void HostDevice::release(Memory, void *, void *device, size_t size) noexcept {
  std::free(device);
  allocated_ -= size;
}

std::unique_ptr<Stream> HostDevice::new_stream() {
  before(HostCall::kNewStream, nullptr);
  auto stream = std::make_unique<HostStream>(*this);
  std::lock_guard<std::mutex> lock(mutex_);
  streams_.push_back(stream.get());
  return stream;
}

std::unique_ptr<Event> HostDevice::new_event() {
  before(HostCall::kNewEvent, nullptr);
  return std::make_unique<HostEvent>(*this);
}

void HostDevice::lose(const std::string &why) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!lost_) why_ = why;
  lost_ = true;
  changed_.notify_all();
}

void HostDevice::freeze() {
  std::lock_guard<std::mutex> lock(mutex_);
  frozen_ = true;
}

void HostDevice::stop() {
  lose("the device was reset");
  // A stream takes itself off the list in its destructor, which nobody calls meanwhile: stop is for what was leaked.
  std::vector<HostStream *> streams;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    streams = streams_;
  }
  for (HostStream *s : streams) s->stop();
}

}  // namespace toklip
