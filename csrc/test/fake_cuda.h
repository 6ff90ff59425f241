// How tests order the libcuda of fake_cuda.cpp about. It is found with dlsym, "fake_cuda_control".
#pragma once

#include <cstdint>

namespace toklip {

struct FakeCuda {
  // Lets the next `times` calls of a driver function (such as "cuMemAlloc_v2") fail with this result.
  void (*fail)(const char *function, int result, int times);
  // Lets the context be lost: from now on every call gives this result, until it is reset.
  void (*lose)(int result);
  // While true, events are not done.
  void (*stall)(bool stalled);
  // Lets what is captured next turn out to be impossible to capture.
  void (*spoil_capture)();
  // Live objects of a kind: "memory", "host memory", "stream", "event", "graph", "graph exec", "module", "context",
  // "current" (contexts on this thread's stack).
  int (*live)(const char *kind);
  // Calls of a driver function so far.
  int (*calls)(const char *function);
  // What the GPU is: "integrated", "can map", "count", "driver".
  void (*set)(const char *property, int value);
};

}  // namespace toklip
