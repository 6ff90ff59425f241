// Counts allocations of the whole program, which links count_news.cpp.
#pragma once

#include <cstdint>

namespace toklip {

uint64_t news();  // calls of operator new so far, by any thread

}  // namespace toklip
