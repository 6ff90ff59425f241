#include "core/log.h"

#include <algorithm>
#include <cstring>

namespace toklip {

void Log::add(toklip_trt_severity severity, std::string_view line) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  try {
    lines_.push_back(Line{severity, std::string(line.substr(0, kLineBytes))});
  } catch (...) {
    dropped_++;
    return;
  }
  if (lines_.size() > kLines) {
    lines_.pop_front();
    dropped_++;
  }
}

bool Log::take(toklip_trt_severity *severity, char *text, size_t size, uint64_t *dropped) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  if (dropped != nullptr) *dropped = dropped_;
  if (dropped != nullptr) dropped_ = 0;
  if (lines_.empty()) return false;
  const Line &line = lines_.front();
  if (severity != nullptr) *severity = line.severity;
  if (text != nullptr && size > 0) {
    const size_t length = std::min(line.text.size(), size - 1);
    std::memcpy(text, line.text.data(), length);
    text[length] = '\0';
  }
  lines_.pop_front();
  return true;
}

}  // namespace toklip
