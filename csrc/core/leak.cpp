#include "core/leak.h"

#include <mutex>
#include <vector>

namespace toklip {

void remember_leak(void *object) noexcept {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  try {
    static auto *all = new std::vector<void *>;  // never destroyed either
    all->push_back(object);
  } catch (...) {
    // It is leaked without being seen.
  }
}

}  // namespace toklip
