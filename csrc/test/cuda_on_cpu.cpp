#include "test/cuda_on_cpu.h"

#include <ucontext.h>

#include <memory>
#include <mutex>
#include <stdexcept>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace toklip {

thread_local Place cpu_thread, cpu_block, cpu_block_size, cpu_grid;

namespace {

constexpr size_t kStack = size_t{64} << 10;
constexpr uint32_t kWarp = 32;

enum class At { kReady, kBarrier, kBallot, kEnd };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  At at = At::kReady;
  bool vote = false;
  uint32_t votes = 0;
  std::exception_ptr failed;
#if defined(__SANITIZE_THREAD__)
  void *tsan = nullptr;
#endif
};

// What runs a block.
struct Scheduler {
  ucontext_t context;
  std::vector<Fiber> fibers;
  Fiber *running = nullptr;
  const std::function<void()> *kernel = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  const void *stack = nullptr;  // of the thread that runs fibers
  size_t stack_size = 0;
#endif
#if defined(__SANITIZE_THREAD__)
  void *tsan = nullptr;
#endif
};

Scheduler *scheduler = nullptr;

// From a fiber back to the scheduler. last: it never comes back.
void leave(At at, bool last = false) {
  Fiber *self = scheduler->running;
  self->at = at;
#if defined(__SANITIZE_ADDRESS__)
  void *fake = nullptr;
  __sanitizer_start_switch_fiber(last ? nullptr : &fake, scheduler->stack, scheduler->stack_size);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(scheduler->tsan, 0);
#endif
  static_cast<void>(last);
  swapcontext(&self->context, &scheduler->context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, &scheduler->stack, &scheduler->stack_size);
#endif
}

void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler->stack, &scheduler->stack_size);
#endif
  try {
    (*scheduler->kernel)();
  } catch (...) {
    scheduler->running->failed = std::current_exception();
  }
  leave(At::kEnd, true);
}

void resume(uint32_t thread) {
  Fiber &fiber = scheduler->fibers[thread];
  scheduler->running = &fiber;
  cpu_thread.x = thread;
#if defined(__SANITIZE_ADDRESS__)
  void *fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack.get(), kStack);
#endif
#if defined(__SANITIZE_THREAD__)
  scheduler->tsan = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(fiber.tsan, 0);
#endif
  swapcontext(&scheduler->context, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  if (fiber.failed) std::rethrow_exception(fiber.failed);
}

// Tells all lanes of each warp that votes what the lanes voted.
void count_votes() {
  std::vector<Fiber> &fibers = scheduler->fibers;
  for (size_t first = 0; first < fibers.size(); first += kWarp) {
    uint32_t voting = 0;
    uint32_t votes = 0;
    for (size_t lane = 0; lane < kWarp && first + lane < fibers.size(); lane++) {
      if (fibers[first + lane].at != At::kBallot) continue;
      voting++;
      votes |= static_cast<uint32_t>(fibers[first + lane].vote) << lane;
    }
    if (voting == 0) continue;
    if (voting != kWarp) throw std::logic_error("a vote was not reached by all lanes of a warp");
    for (size_t lane = 0; lane < kWarp; lane++) {
      fibers[first + lane].votes = votes;
      fibers[first + lane].at = At::kReady;
    }
  }
}

void run_block() {
  std::vector<Fiber> &fibers = scheduler->fibers;
  const auto threads = static_cast<uint32_t>(fibers.size());
  for (Fiber &fiber : fibers) {
    fiber.at = At::kReady;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
  }
  bool backwards = false;
  for (;;) {
    bool ran = false;
    for (uint32_t i = 0; i < threads; i++) {
      const uint32_t thread = backwards ? threads - 1 - i : i;
      if (fibers[thread].at != At::kReady) continue;
      ran = true;
      resume(thread);
    }
    backwards = !backwards;
    count_votes();
    uint32_t barrier = 0;
    uint32_t ended = 0;
    for (const Fiber &fiber : fibers) {
      barrier += fiber.at == At::kBarrier;
      ended += fiber.at == At::kEnd;
    }
    if (ended == threads) return;
    if (barrier == threads) {
      for (Fiber &fiber : fibers) fiber.at = At::kReady;
    } else if (!ran) {
      throw std::logic_error("a barrier was reached by " + std::to_string(barrier) + " of " + std::to_string(threads) +
                             " threads, " + std::to_string(ended) + " have ended");
    }
  }
}

}  // namespace

void cpu_barrier() { leave(At::kBarrier); }

uint32_t cpu_ballot(bool vote) {
  Fiber *self = scheduler->running;
  self->vote = vote;
  leave(At::kBallot);
  return self->votes;
}

void run_on_cpu(uint32_t grid_x, uint32_t grid_y, uint32_t threads, const std::function<void()> &kernel) {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  Scheduler own;
  own.fibers = std::vector<Fiber>(threads);
  own.kernel = &kernel;
  scheduler = &own;
#if defined(__SANITIZE_THREAD__)
  for (Fiber &fiber : own.fibers) fiber.tsan = __tsan_create_fiber(0);
#endif
  cpu_grid = {grid_x, grid_y, 1};
  cpu_block_size = {threads, 1, 1};
  for (uint32_t y = 0; y < grid_y; y++) {
    for (uint32_t x = 0; x < grid_x; x++) {
      cpu_block = {x, y, 0};
      run_block();
    }
  }
#if defined(__SANITIZE_THREAD__)
  for (Fiber &fiber : own.fibers) __tsan_destroy_fiber(fiber.tsan);
#endif
  scheduler = nullptr;
}

}  // namespace toklip
