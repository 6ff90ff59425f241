// Leaks that are meant.
#pragma once

#include <memory>

namespace toklip {

// Keeps the address where leak checkers see it.
void remember_leak(void *object) noexcept;

// Keeps an object for as long as the process lives, because a device that hangs may still use it. Any thread.
template <typename T>
void leak(std::unique_ptr<T> object) noexcept {
  remember_leak(object.release());
}

}  // namespace toklip
