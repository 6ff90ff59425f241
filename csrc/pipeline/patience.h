// Waiting for the device.
#pragma once

#include <chrono>

#include "core/device.h"

namespace toklip {

using Clock = std::chrono::steady_clock;

// Waits until the event is done: asleep until shortly before it is expected, then asking again and again, at first
// without a pause. False if it was not done by the deadline. Throws what Event::done throws.
bool wait_for(Event &event, Clock::time_point expected, Clock::time_point deadline);

// The same, but throws TOKLIP_TRT_TIMEOUT.
void require_done(Event &event, Clock::time_point expected, Clock::time_point deadline, unsigned timeout_ms);

}  // namespace toklip
