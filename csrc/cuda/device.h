// Device over the CUDA driver. It works in the primary context of a GPU, which the CUDA runtime inside TensorRT uses
// too.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "core/device.h"
#include "cuda/driver.h"

namespace toklip {

class CudaDevice final : public Device {
 public:
  // The GPU of this number. Throws TOKLIP_TRT_NO_DEVICE if there is none, TOKLIP_TRT_INVALID if the number is too high,
  // TOKLIP_TRT_UNSUPPORTED if it cannot map memory of the CPU.
  CudaDevice(std::shared_ptr<const Driver> driver, int32_t ordinal);
  ~CudaDevice() override;

  // Destroys the context with all that is in it, whoever uses it. After that only the destructor may be called. May be
  // called while the device is lost; throws TOKLIP_TRT_DEVICE_LOST if that did not help.
  void reset();

  void enter() override;
  void leave() noexcept override;
  toklip_trt_device_info info() override;
  Buffer allocate(Memory memory, size_t size) override;
  std::unique_ptr<Stream> new_stream() override;
  std::unique_ptr<Event> new_event() override;

  // Copies from memory of the CPU to the device's and waits for it. Disturbs no stream and no capture.
  void write(void *device, const void *host, size_t size);

  const Driver &driver() const { return *driver_; }
  int32_t sm() const { return sm_; }                            // 87 is sm_87
  int32_t multiprocessors() const { return multiprocessors_; }  // of them
  bool integrated() const { return integrated_; }               // shares its memory with the CPU

  // Throws the Error of a result unless it is success. The first one that sticks is remembered and thrown by every
  // call from then on: what followed from it has worse messages. Any thread.
  void check(CUresult result, const char *what);
  // Throws that error, if there was one.
  void check_alive();

 private:
  void release(Memory memory, void *host, void *device, size_t size) noexcept override;

  std::shared_ptr<const Driver> driver_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  std::string name_;
  int32_t sm_ = 0, multiprocessors_ = 0;
  bool integrated_ = false;
  size_t memory_total_ = 0;

  std::atomic<bool> lost_{false};
  std::mutex lost_mutex_;
  std::string lost_message_;
};

}  // namespace toklip
