// The fraction of a build, out of phases as TensorRT reports them.
#include "tensorrt/progress.h"

#include <atomic>
#include <cmath>
#include <random>
#include <thread>

#include "test/expect.h"

namespace toklip {
namespace tensorrt {
namespace {

double fraction_of(const ProgressTracker &tracker) {
  std::string phase;
  double fraction = -1;
  tracker.now(&phase, &fraction);
  return fraction;
}

std::string phase_of(const ProgressTracker &tracker) {
  std::string phase;
  double fraction = -1;
  tracker.now(&phase, &fraction);
  return phase;
}

bool near(double a, double b) { return std::fabs(a - b) < 1e-9; }

// Of the builder's part of the whole.
double whole(double of_builder) {
  return ProgressTracker::kParsed + (ProgressTracker::kBuilt - ProgressTracker::kParsed) * of_builder;
}

void test_steps() {
  ProgressTracker t;
  EXPECT(near(fraction_of(t), 0));
  EXPECT(phase_of(t).empty());
  t.at("reading", 0);
  EXPECT(phase_of(t) == "reading");
  t.start("building", "", 4);
  EXPECT(near(fraction_of(t), whole(0)));
  t.step("building", 0);
  EXPECT(near(fraction_of(t), whole(0.25)));
  t.start("optimizing", "building", 2);
  EXPECT(phase_of(t) == "optimizing");
  t.step("optimizing", 0);
  EXPECT(near(fraction_of(t), whole(0.25 + 0.25 * 0.25)));  // half of the first half of the step
  t.finish("optimizing");
  EXPECT(phase_of(t) == "building");
  EXPECT(near(fraction_of(t), whole(0.25 + 0.25 * 0.5)));
  t.start("timing", "building", 1);
  t.step("timing", 0);
  EXPECT(near(fraction_of(t), whole(0.25 + 0.25 * 0.75)));
  t.finish("timing");
  t.step("building", 1);
  EXPECT(near(fraction_of(t), whole(0.5)));
  t.finish("building");  // before its last step
  EXPECT(near(fraction_of(t), ProgressTracker::kBuilt));
  t.at("done", 1);
  EXPECT(near(fraction_of(t), 1));
}

// A phase takes those below it along, and leaves those beside it.
void test_nesting() {
  ProgressTracker t;
  t.start("root", "", 2);
  t.start("left", "root", 2);
  t.start("right", "root", 2);
  t.start("below", "left", 10);
  t.finish("left");
  EXPECT(phase_of(t) == "right");
  double before = fraction_of(t);
  t.step("below", 9);  // gone
  EXPECT(near(fraction_of(t), before));
  t.step("right", 1);
  EXPECT(fraction_of(t) > before);
  t.step("unknown", 1);
  t.finish("unknown");
  t.start("child of nobody", "unknown", 0);  // no steps: one
  t.step("child of nobody", 100);            // more than there are
  t.finish("child of nobody");
  t.finish("root");
  EXPECT(near(fraction_of(t), ProgressTracker::kBuilt));
}

// Whatever is reported, in any order: between 0 and 1 and never falling.
void test_any_order() {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    ProgressTracker t;
    double last = 0;
    for (int i = 0; i < 300; ++i) {
      std::string phase = "phase " + std::to_string(random() % 8);
      std::string parent = random() % 4 == 0 ? "" : "phase " + std::to_string(random() % 8);
      auto n = static_cast<int32_t>(random() % 6) - 1;
      switch (random() % 3) {
        case 0:
          t.start(phase, parent, n);
          break;
        case 1:
          t.step(phase, n);
          break;
        default:
          t.finish(phase);
          break;
      }
      double now = fraction_of(t);
      EXPECT(now >= last && now <= 1);
      last = now;
    }
  }
}

void test_cancel() {
  ProgressTracker t;
  EXPECT(!t.cancelled());
  t.cancel();
  EXPECT(t.cancelled());
}

// TensorRT reports from several threads while others ask.
void test_threads() {
  ProgressTracker t;
  t.start("root", "", 400);
  std::atomic<bool> stop{false};
  std::thread asking([&] {
    double last = 0;
    while (!stop) {
      double now = fraction_of(t);
      EXPECT(now >= last);
      last = now;
    }
  });
  std::vector<std::thread> reporting;
  for (int k = 0; k < 4; ++k) {
    reporting.emplace_back([&t, k] {
      std::string name = "phase " + std::to_string(k);
      for (int i = 0; i < 100; ++i) {
        t.start(name, "root", 3);
        for (int s = 0; s < 3; ++s) t.step(name, s);
        t.finish(name);
        t.step("root", k * 100 + i);
      }
    });
  }
  for (std::thread &thread : reporting) thread.join();
  stop = true;
  asking.join();
  t.finish("root");
  EXPECT(near(fraction_of(t), ProgressTracker::kBuilt));
}

}  // namespace
}  // namespace tensorrt
}  // namespace toklip

int main() {
  using namespace toklip::tensorrt;
  const toklip::Case cases[] = {{"steps", test_steps},
                                {"nesting", test_nesting},
                                {"any order", test_any_order},
                                {"cancel", test_cancel},
                                {"threads", test_threads}};
  return toklip::run_cases(cases);
}
