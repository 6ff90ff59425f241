// How far a build is, out of the phases that TensorRT reports.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace toklip {
namespace tensorrt {

// ProgressTracker makes one number, 0 to 1 and never falling, of nested phases with known numbers of steps.
//
// How long a phase takes is not known, nor how many phases a step of its parent has: every step of a phase counts the
// same, and of phases that share a step the first counts half of it, the second half of what is left, and so on.
// Any thread.
class ProgressTracker {
 public:
  // The whole goes from 0 to 1 over three parts: the parser until kParsed, the builder until kBuilt, then writing.
  static constexpr double kParsed = 0.05, kBuilt = 0.97;

  void at(std::string phase, double fraction);  // outside the builder
  void start(const std::string &phase, const std::string &parent, int32_t steps);
  void step(const std::string &phase, int32_t step);
  void finish(const std::string &phase);

  // What the newest phase that is under way is called, and the fraction of the whole.
  void now(std::string *phase, double *fraction) const;

  void cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }

 private:
  struct Phase {
    std::string name;
    size_t parent;  // index in phases_, or kNone
    int32_t steps, done;
    int32_t under_step;  // phases that ended under the step under way
  };
  static constexpr size_t kNone = static_cast<size_t>(-1);

  size_t find(const std::string &name) const;
  double fraction_of(size_t index) const;
  void remove(size_t index);
  void update();

  mutable std::mutex mutex_;
  std::vector<Phase> phases_;  // under way, parents before children
  std::string phase_;
  double fraction_ = 0;
  std::atomic<bool> cancelled_{false};
};

}  // namespace tensorrt
}  // namespace toklip
