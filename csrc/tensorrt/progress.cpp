#include "tensorrt/progress.h"

#include <algorithm>
#include <utility>

namespace toklip {
namespace tensorrt {

void ProgressTracker::at(std::string phase, double fraction) {
  std::lock_guard<std::mutex> lock(mutex_);
  phase_ = std::move(phase);
  fraction_ = std::max(fraction_, fraction);
}

size_t ProgressTracker::find(const std::string &name) const {
  for (size_t i = phases_.size(); i-- > 0;) {
    if (phases_[i].name == name) return i;
  }
  return kNone;
}

void ProgressTracker::start(const std::string &phase, const std::string &parent, int32_t steps) {
  std::lock_guard<std::mutex> lock(mutex_);
  phases_.push_back({phase, parent.empty() ? kNone : find(parent), std::max(steps, 1), 0, 0});
  update();
}

void ProgressTracker::step(const std::string &phase, int32_t step) {
  std::lock_guard<std::mutex> lock(mutex_);
  size_t i = find(phase);
  if (i == kNone) return;
  int32_t done = std::min(step + 1, phases_[i].steps);
  if (done > phases_[i].done) {
    phases_[i].done = done;
    phases_[i].under_step = 0;
  }
  update();
}

void ProgressTracker::finish(const std::string &phase) {
  std::lock_guard<std::mutex> lock(mutex_);
  size_t i = find(phase);
  if (i == kNone) return;
  size_t parent = phases_[i].parent;
  if (parent != kNone) {
    ++phases_[parent].under_step;
  } else {
    fraction_ = std::max(fraction_, kBuilt);
  }
  remove(i);
  update();
}

// A phase may end before its last step, and with it go those below it; others may run beside it.
void ProgressTracker::remove(size_t index) {
  std::vector<size_t> moved(phases_.size(), kNone);
  std::vector<Phase> left;
  for (size_t i = 0; i < phases_.size(); ++i) {
    size_t parent = phases_[i].parent;
    bool orphan = parent != kNone && moved[parent] == kNone;
    if (i == index || orphan) continue;
    moved[i] = left.size();
    left.push_back(std::move(phases_[i]));
    if (parent != kNone) left.back().parent = moved[parent];
  }
  phases_ = std::move(left);
}

// The part of a phase that is done: its steps, and of the step under way what the phases below have done.
double ProgressTracker::fraction_of(size_t index) const {
  const Phase &p = phases_[index];
  if (p.done >= p.steps) return 1;
  double left = 1;
  for (int32_t i = 0; i < p.under_step; ++i) left /= 2;
  double within = 1 - left;
  for (size_t child = index + 1; child < phases_.size(); ++child) {
    if (phases_[child].parent == index) {
      within += left / 2 * fraction_of(child);
      break;
    }
  }
  return (p.done + within) / p.steps;
}

void ProgressTracker::update() {
  if (phases_.empty()) return;
  phase_ = phases_.back().name;
  fraction_ = std::max(fraction_, kParsed + (kBuilt - kParsed) * fraction_of(0));
}

void ProgressTracker::now(std::string *phase, double *fraction) const {
  std::lock_guard<std::mutex> lock(mutex_);
  *phase = phase_;
  *fraction = fraction_;
}

}  // namespace tensorrt
}  // namespace toklip
