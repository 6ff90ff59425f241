// Lines that wait to be taken by the user of the ABI.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>

#include "toklip_trt.h"

namespace toklip {

// A bounded queue of log lines. When it is full, a new line pushes the oldest out. All methods: any thread.
class Log {
 public:
  static constexpr size_t kLines = 1024;
  static constexpr size_t kLineBytes = 4096;  // longer lines are cut

  // Never throws: a line for which there is no memory counts as dropped.
  void add(toklip_trt_severity severity, std::string_view line) noexcept;

  // Takes the oldest line, cut to size bytes with the NUL; false if there is none. dropped (may be NULL) counts lines
  // pushed out since the last call.
  bool take(toklip_trt_severity *severity, char *text, size_t size, uint64_t *dropped) noexcept;

 private:
  struct Line {
    toklip_trt_severity severity;
    std::string text;
  };
  std::mutex mutex_;
  std::deque<Line> lines_;
  uint64_t dropped_ = 0;
};

}  // namespace toklip
