#include "cuda/device.h"

#include <cstring>

#include "cuda/stream.h"

namespace toklip {
namespace {

void *address_of(CUdeviceptr address) { return reinterpret_cast<void *>(static_cast<uintptr_t>(address)); }

}  // namespace

CudaDevice::CudaDevice(std::shared_ptr<const Driver> driver, int32_t ordinal) : driver_(std::move(driver)) {
  const Driver &d = *driver_;
  int count = 0;
  d.check(d.device_count(&count), "count GPUs");
  if (count == 0) throw d.error(100, "count GPUs");
  if (ordinal < 0 || ordinal >= count)
    fail(TOKLIP_TRT_INVALID, "GPU %d is asked for, but there %s. Ask for 0 to %d.", ordinal,
         count == 1 ? "is one GPU" : text("are %d GPUs", count).c_str(), count - 1);
  d.check(d.device_get(&device_, ordinal), "open the GPU");

  char name[256] = {};
  d.check(d.device_name(name, sizeof name - 1, device_), "ask the GPU for its name");
  name_ = name;
  const auto ask = [&](int attribute) {
    int value = 0;
    d.check(d.device_attribute(&value, attribute, device_), "ask the GPU what it can do");
    return value;
  };
  sm_ = 10 * ask(kAttributeMajor) + ask(kAttributeMinor);
  multiprocessors_ = ask(kAttributeMultiprocessors);
  integrated_ = ask(kAttributeIntegrated) != 0;
  if (ask(kAttributeCanMapHostMemory) == 0)
    fail(TOKLIP_TRT_UNSUPPORTED, "the GPU %s cannot read memory of the CPU, which toklip needs", name);
  d.check(d.device_memory(&memory_total_, device_), "ask the GPU for its memory");
  d.check(d.context_retain(&context_, device_), "make a context on the GPU");
}

// Others may hold the primary context too; it goes with the last of them.
CudaDevice::~CudaDevice() { static_cast<void>(driver_->context_release(device_)); }

void CudaDevice::reset() { driver_->check(driver_->context_reset(device_), "reset the GPU's context"); }

void CudaDevice::enter() {
  check_alive();
  check(driver_->context_push(context_), "make the GPU's context current");
}

void CudaDevice::leave() noexcept {
  CUcontext popped = nullptr;
  static_cast<void>(driver_->context_pop(&popped));
}

toklip_trt_device_info CudaDevice::info() {
  toklip_trt_device_info out = {};
  name_.copy(out.name, sizeof out.name - 1);
  out.sm = sm_;
  out.driver = driver_->version;
  out.integrated = integrated_;
  out.memory_total = memory_total_;
  size_t free = 0;
  size_t total = 0;
  check(driver_->memory_info(&free, &total), "ask the GPU for its free memory");
  out.memory_free = free;
  return out;
}

Buffer CudaDevice::allocate(Memory memory, size_t size) {
  if (size == 0) return Buffer();
  check_alive();
  const std::string what = text("allocate %zu bytes of %s memory", size, memory == Memory::kDevice ? "GPU" : "pinned");
  if (memory == Memory::kDevice) {
    CUdeviceptr address = 0;
    check(driver_->memory_allocate(&address, size), what.c_str());
    return Buffer(this, memory, nullptr, address_of(address), size);
  }
  void *host = nullptr;
  check(driver_->host_allocate(&host, size, kHostAllocPortable | kHostAllocMapped), what.c_str());
  CUdeviceptr address = 0;
  const CUresult result = driver_->host_device_address(&address, host, 0);
  if (result != kCudaSuccess) {
    static_cast<void>(driver_->host_free(host));
    check(result, "ask for the GPU's address of pinned memory");
  }
  return Buffer(this, memory, host, address_of(address), size);
}

// Errors have nowhere to go; a lost device says so at the next call.
void CudaDevice::release(Memory memory, void *host, void *device, size_t) noexcept {
  if (memory == Memory::kDevice)
    static_cast<void>(driver_->memory_free(device_address(device)));
  else
    static_cast<void>(driver_->host_free(host));
}

std::unique_ptr<Stream> CudaDevice::new_stream() { return std::make_unique<CudaStream>(*this); }
std::unique_ptr<Event> CudaDevice::new_event() { return std::make_unique<CudaEvent>(*this); }

// The copy goes through the null stream, for which the streams of ours do not wait: they are non-blocking. So it must have
// ended on return, and the driver promises that for pinned memory alone: of other memory it may return once it has a copy
// of its own, and a kernel of ours could be quicker than the rest of the way.
void CudaDevice::write(void *device, const void *host, size_t size) {
  if (size == 0) return;
  const Buffer pinned = allocate(Memory::kPinned, size);
  std::memcpy(pinned.host(), host, size);
  check(driver_->copy_to_device(device_address(device), pinned.host(), size), "copy to the GPU");
}

void CudaDevice::check(CUresult result, const char *what) {
  if (result == kCudaSuccess) return;
  const Error error = driver_->error(result, what);
  if (error.code() == TOKLIP_TRT_DEVICE_LOST) {
    const std::lock_guard<std::mutex> lock(lost_mutex_);
    if (!lost_) {
      lost_message_ = error.what();
      lost_ = true;
    }
    throw Error(TOKLIP_TRT_DEVICE_LOST, lost_message_);
  }
  throw error;
}

void CudaDevice::check_alive() {
  if (!lost_) return;
  const std::lock_guard<std::mutex> lock(lost_mutex_);
  throw Error(TOKLIP_TRT_DEVICE_LOST, lost_message_);
}

}  // namespace toklip
