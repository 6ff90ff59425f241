// Work that is enqueued call by call at first and as one graph later.
#pragma once

#include <memory>

#include "core/device.h"
#include "core/error.h"
#include "core/log.h"

namespace toklip {

// Whether a pipeline captures graphs. It stops for good, and says so once, when the device refuses a capture: everything
// goes on call by call.
class GraphPolicy {
 public:
  GraphPolicy(bool wanted, Log &log) : wanted_(wanted), log_(log) {}

  bool wanted() const { return wanted_; }
  void refuse(const Error &why) {
    wanted_ = false;
    log_.add(TOKLIP_TRT_LOG_WARNING, text("no CUDA graphs from now on, work is enqueued call by call: %s", why.what()));
  }

 private:
  bool wanted_;
  Log &log_;
};

class Replay {
 public:
  // Enqueues work() on the stream; as a graph, captured here if there is none yet, when that is wanted and the work is
  // warm: it ran once and has ended. Returns whether it was a graph.
  template <typename Work>
  bool run(Stream &stream, GraphPolicy &policy, bool warm, const Work &work) {
    if (graph_ == nullptr && warm && policy.wanted()) capture(stream, policy, work);
    if (graph_ == nullptr || !policy.wanted()) {
      work();
      return false;
    }
    try {
      stream.launch(*graph_);
      return true;
    } catch (const Error &e) {
      if (e.fatal()) throw;
      graph_.reset();
      if (e.code() == TOKLIP_TRT_OUT_OF_MEMORY) throw;
      policy.refuse(e);
    }
    work();
    return false;
  }

  // Forgets the graph, which is not under way: an address in it is no longer true.
  void drop() { graph_.reset(); }

 private:
  template <typename Work>
  void capture(Stream &stream, GraphPolicy &policy, const Work &work) {
    try {
      graph_ = stream.capture(work);
    } catch (const Error &e) {
      if (e.fatal()) throw;
      policy.refuse(e);
    }
  }

  std::unique_ptr<Graph> graph_;
};

}  // namespace toklip
