// A device with kernels on it, as the programs here use it.
#pragma once

#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "cuda/device.h"
#include "host/device.h"
#include "kernels/kernels.h"

namespace toklip {

struct Bench {
  std::unique_ptr<Device> device;
  std::unique_ptr<Current> current;
  std::unique_ptr<Kernels> kernels;
  std::unique_ptr<Stream> stream;
  std::unique_ptr<Event> end;

  // The CPU.
  static Bench host() {
    Bench b;
    b.device = std::make_unique<HostDevice>();
    b.begin();
    b.kernels = new_cpu_kernels(*b.device);
    return b;
  }

  // The GPU that this libcuda has. image: other kernels than those compiled in, or NULL.
  static Bench gpu(const std::string &libcuda, const void *image) {
    Bench b;
    auto device = std::make_unique<CudaDevice>(std::make_shared<const Driver>(libcuda), 0);
    CudaDevice &cuda = *device;
    b.device = std::move(device);
    b.begin();
    b.kernels = image != nullptr ? new_cuda_kernels(cuda, image) : new_cuda_kernels(cuda);
    return b;
  }

  // Memory where kernels work, and pinned memory to fill and read it.
  struct Array {
    Buffer pinned, own;
    void *place = nullptr;  // for kernels
  };

  Array array(size_t size) const {
    Array a;
    a.pinned = device->allocate(Memory::kPinned, size);
    a.place = a.pinned.host();
    if (kernels->space() == Space::kDevice) {
      a.own = device->allocate(Memory::kDevice, size);
      a.place = a.own.device();
    }
    return a;
  }

  Array filled(const void *data, size_t size) const {
    Array a = array(size);
    std::memcpy(a.pinned.host(), data, size);
    if (a.own) stream->copy(a.own.device(), a.pinned.host(), size);
    return a;
  }

  // Enqueues what makes read valid after wait.
  void fetch(const Array &a) const {
    if (a.own) stream->copy(a.pinned.host(), a.own.device(), a.own.size());
  }

  template <typename T>
  static std::vector<T> read(const Array &a) {
    const auto *p = static_cast<const T *>(a.pinned.host());
    return std::vector<T>(p, p + a.pinned.size() / sizeof(T));
  }

  void wait() const {
    stream->record(*end);
    const auto begun = std::chrono::steady_clock::now();
    while (!end->done()) {
      if (std::chrono::steady_clock::now() - begun > std::chrono::minutes(2))
        fail(TOKLIP_TRT_TIMEOUT, "the device did not finish within 2 minutes");
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

 private:
  void begin() {
    current = std::make_unique<Current>(*device);
    stream = device->new_stream();
    end = device->new_event();
  }

 public:
  Bench() = default;
  Bench(Bench &&) = default;
  ~Bench() {
    end.reset();
    stream.reset();
    kernels.reset();
    current.reset();
  }
};

}  // namespace toklip
