#include "pipeline/patience.h"

#include <algorithm>
#include <thread>

#include "core/error.h"

namespace toklip {
namespace {

using std::chrono::microseconds;

constexpr microseconds kWorthSleeping{150};  // less is not kept by a usual kernel
constexpr microseconds kBusy{300};           // time of asking without a pause
constexpr microseconds kFirstPause{20}, kLongestPause{500};

}  // namespace

bool wait_for(Event &event, Clock::time_point expected, Clock::time_point deadline) {
  if (event.done()) return true;
  const Clock::time_point began = Clock::now();
  const Clock::time_point wake = std::min(expected, deadline);
  if (wake - began > kWorthSleeping) std::this_thread::sleep_until(wake);

  const Clock::time_point busy_until = Clock::now() + kBusy;
  microseconds pause = kFirstPause;
  while (!event.done()) {
    const Clock::time_point now = Clock::now();
    if (now >= deadline) return false;
    if (now < busy_until) {
      std::this_thread::yield();
      continue;
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause + pause / 4, kLongestPause);
  }
  return true;
}

void require_done(Event &event, Clock::time_point expected, Clock::time_point deadline, unsigned timeout_ms) {
  if (wait_for(event, expected, deadline)) return;
  fail(TOKLIP_TRT_TIMEOUT,
       "the device did not finish a batch within %u ms: it hangs, or timeout_ms is too short for this model",
       timeout_ms);
}

}  // namespace toklip
