// Pipelines and threads: one thread submits while another waits, and two pipelines share engines and device.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "test/pipeline_bench.h"

namespace toklip {
namespace {

constexpr int kBatches = 300;

// Ids of the i-th batch: they move for a while, then rest for a while.
Ids ids_of(int i) {
  const int32_t k = i / 10 % 2 == 0 ? i % 60 : i / 10 % 60;
  return {k, 1, k, 2};
}

// Submits on this thread and waits on another. offset makes streams of several pipelines differ.
void run(Pipeline &pipeline, int32_t in_flight, int32_t stream) {
  std::mutex mutex;
  std::condition_variable changed;
  int submitted = 0, waited = 0;
  std::thread waiter([&] {
    for (int i = 0; i < kBatches; i++) {
      {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return submitted > i; });
      }
      toklip_trt_result result = {};
      toklip_trt_times times = {};
      try {
        pipeline.wait(&result, 1, &times);
        const Ids before = ids_of(i - 1);
        expect_result(result, ids_of(i), i == 0 ? nullptr : &before, true);
      } catch (const Error &e) {
        std::fprintf(stderr, "wait %d: %s\n", i, e.what());
        failures()++;
      }
      std::lock_guard<std::mutex> lock(mutex);
      waited++;
      changed.notify_all();
    }
  });
  for (int i = 0; i < kBatches; i++) {
    {
      std::unique_lock<std::mutex> lock(mutex);
      changed.wait(lock, [&] { return submitted - waited < in_flight; });
    }
    const Picture picture(ids_of(i), i % 50 == 49 ? 16 + i : kSize);
    const toklip_trt_frame frame = picture.frame(stream);
    pipeline.submit(&frame, 1);
    std::lock_guard<std::mutex> lock(mutex);
    submitted++;
    changed.notify_all();
  }
  waiter.join();
}

void submit_beside_wait() {
  for (const Setup &s : all_setups()) {
    if (!s.encoder || s.integrated) continue;
    Bench b(s);
    run(*b.pipeline, s.in_flight, 2);
    EXPECT(b.tokenizer->shared == 0 && b.encoder->shared == 0);
  }
}

// Two pipelines over the same engines and device, each with its two threads.
void two_pipelines() {
  Setup s;
  s.in_flight = 2;
  Bench b(s);
  auto second = std::make_unique<Pipeline>(b.device, new_kernels(*b.device, false), b.tokenizer, b.encoder,
                                           options_of(s, b.codebook), b.log);
  std::thread other([&] { run(*second, s.in_flight, 1); });
  run(*b.pipeline, s.in_flight, 0);
  other.join();
  Pipeline::close(std::move(second));
  EXPECT(b.tokenizer->shared == 0 && b.encoder->shared == 0);
}

// The device is lost while one thread submits and another waits.
void lost_in_between() {
  for (int round = 0; round < 20; round++) {
    Setup s;
    s.in_flight = 2;
    Bench b(s);
    std::atomic<bool> over{false};
    std::thread waiter([&] {
      while (!over) {
        toklip_trt_result result = {};
        try {
          b.pipeline->wait(&result, 1, nullptr);
        } catch (const Error &e) {
          if (e.code() == TOKLIP_TRT_DEVICE_LOST) return;
        }
      }
    });
    std::thread thief([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(200 * round));
      b.device->lose("stolen");
    });
    for (;;) {
      const Picture picture({1, 2, 3, 4});
      const toklip_trt_frame frame = picture.frame(0);
      try {
        b.pipeline->submit(&frame, 1);
      } catch (const Error &e) {
        if (e.code() == TOKLIP_TRT_DEVICE_LOST) break;
        EXPECT(e.code() == TOKLIP_TRT_BUSY);
      }
    }
    over = true;
    thief.join();
    waiter.join();
  }
}

}  // namespace
}  // namespace toklip

int main() {
  using namespace toklip;
  const Case cases[] = {{"submit beside wait", submit_beside_wait},
                        {"two pipelines", two_pipelines},
                        {"lost in between", lost_in_between}};
  return run_cases(cases);
}
