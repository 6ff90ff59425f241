// Memory that the device and the CPU both use.
#pragma once

#include <cstddef>

#include "core/device.h"
#include "core/kernels.h"

namespace toklip {

// Tells where something has to lie.
struct Placement {
  Device *device;
  bool integrated;  // device and CPU share their memory
  Space kernels;    // where kernels run
};

// One buffer, or two between which is copied: on a discrete GPU each side has its own; on an integrated one the device
// reads and writes the CPU's in place; and what the CPU never sees is the device's alone.
class Shared {
 public:
  Shared() = default;
  // seen_by_cpu: the CPU reads or writes it, kernels that run there included.
  Shared(const Placement &place, bool seen_by_cpu, size_t size) {
    if (seen_by_cpu) pinned_ = place.device->allocate(Memory::kPinned, size);
    if (!seen_by_cpu || !place.integrated) own_ = place.device->allocate(Memory::kDevice, size);
  }

  // For engines.
  void *device() const { return own_ ? own_.device() : pinned_.device(); }
  // For the CPU; NULL if it does not see it.
  void *host() const { return pinned_.host(); }
  // For kernels.
  void *at(Space space) const { return space == Space::kHost ? host() : device(); }

  // Enqueue what makes the other side see what one wrote.
  void to_device(Stream &stream, size_t size) const {
    if (own_ && pinned_) stream.copy(own_.device(), pinned_.host(), size);
  }
  void to_host(Stream &stream, size_t size) const {
    if (own_ && pinned_) stream.copy(pinned_.host(), own_.device(), size);
  }

 private:
  Buffer pinned_, own_;
};

}  // namespace toklip
