// What a pipeline knows of its streams. The ids themselves lie on the device.
#pragma once

#include <cstdint>
#include <vector>

namespace toklip {

// Not synchronised.
class Streams {
 public:
  explicit Streams(int32_t count) : states_(static_cast<size_t>(count)) {}

  // Whether the device has ids of the stream that the user was or will be told of.
  bool known(int32_t stream) const { return at(stream).known; }
  // Whether its next frame is expected to differ, as its last one did.
  bool moving(int32_t stream) const { return at(stream).moving; }

  // A frame was enqueued: its ids will be on the device.
  void enqueued(int32_t stream) { at(stream).known = true; }
  // A frame ended.
  void ended(int32_t stream, bool changed) { at(stream).moving = changed; }
  // A frame was lost: the next one compares with nothing.
  void forget(int32_t stream) { at(stream) = State{}; }

 private:
  struct State {
    bool known = false, moving = true;
  };
  State &at(int32_t stream) { return states_[static_cast<size_t>(stream)]; }
  const State &at(int32_t stream) const { return states_[static_cast<size_t>(stream)]; }

  std::vector<State> states_;
};

}  // namespace toklip
