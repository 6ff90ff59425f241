#include "test/count_news.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<uint64_t> count{0};
}

uint64_t toklip::news() { return count; }

void *operator new(size_t size) {
  count++;
  void *p = std::malloc(size > 0 ? size : 1);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

void operator delete(void *p) noexcept { std::free(p); }

void operator delete(void *p, size_t) noexcept { std::free(p); }
