// A pipeline whose device fails: at every call, by hanging, by lacking memory.
#include <atomic>
#include <chrono>
#include <thread>

#include "host/stream.h"
#include "test/count_news.h"
#include "test/pipeline_bench.h"

namespace toklip {
namespace {

// Fails one call of the device, counted from 0.
struct Injector {
  std::atomic<int64_t> calls{0}, at{-1};
  std::atomic<int> code{TOKLIP_TRT_OUT_OF_MEMORY};
  HostDevice *device = nullptr;

  std::function<void(HostCall, HostStream *)> hook() {
    return [this](HostCall, HostStream *) {
      if (calls++ != at) return;
      const auto c = static_cast<toklip_trt_code>(code.load());
      if (c == TOKLIP_TRT_DEVICE_LOST && device != nullptr) device->lose("injected");
      throw Error(c, "injected");
    };
  }
};

// A few batches of streams that move and rest, in the way that setup allows. Returns whether one of them failed with the
// error injected; checks that results are right whatever happened before.
bool use(Bench &b, toklip_trt_code code) {
  bool failed = false;
  std::map<int32_t, Ids> last = b.last;
  struct Sent {
    std::vector<int32_t> streams;
    Ids ids;
  };
  std::vector<Sent> under_way;
  std::set<int32_t> lost;  // streams that must have no frame before
  const auto failed_with = [&](const Error &e) {
    failed = true;
    EXPECT(e.code() == code && std::string(e.what()) == "injected");
  };
  const auto wait = [&] {
    const Sent sent = under_way.front();
    under_way.erase(under_way.begin());
    toklip_trt_result results[2];
    try {
      b.pipeline->wait(results, 2, nullptr);
    } catch (const Error &e) {
      failed_with(e);
      lost.insert(sent.streams.begin(), sent.streams.end());
      return;
    }
    for (size_t i = 0; i < sent.streams.size(); i++) {
      const int32_t stream = sent.streams[i];
      const bool known = last.count(stream) > 0 && lost.count(stream) == 0;
      expect_result(results[i], sent.ids, known ? &last[stream] : nullptr, b.setup.encoder);
      last[stream] = sent.ids;
      lost.erase(stream);
    }
  };
  const int32_t plan[] = {1, 1, 1, 2, 2, 2, 3, 4, 4, 4};
  for (const int32_t id : plan) {
    const Ids ids{id, id, id, id};
    const Picture picture(ids, id == 3 ? 40 : kSize);
    std::vector<toklip_trt_frame> frames{picture.frame(0)};
    if (id != 2) frames.push_back(picture.frame(1));
    Sent sent{{0}, ids};
    if (id != 2) sent.streams.push_back(1);
    try {
      b.pipeline->submit(frames.data(), frames.size());
      under_way.push_back(sent);
    } catch (const Error &e) {
      failed_with(e);
      if (code == TOKLIP_TRT_OUT_OF_MEMORY) {
        while (!under_way.empty()) wait();
        // The same again: whether or not it got as far as the device's memory of the stream, nobody was told of it.
        for (const int32_t stream : sent.streams) {
          toklip_trt_result r = {};
          const toklip_trt_frame frame = picture.frame(stream);
          b.pipeline->process(&frame, 1, &r, nullptr);
          const bool known = !r.fresh && last.count(stream) > 0 && lost.count(stream) == 0;
          expect_result(r, ids, known ? &last[stream] : nullptr, b.setup.encoder);
          last[stream] = ids;
          lost.erase(stream);
        }
        continue;
      }
      return true;
    }
    if (static_cast<int32_t>(under_way.size()) == b.setup.in_flight) wait();
    if (failed && code != TOKLIP_TRT_OUT_OF_MEMORY) return true;
  }
  while (!under_way.empty()) wait();
  b.last = last;
  for (const int32_t stream : lost) b.last.erase(stream);
  return failed;
}

// Each way of each choice at least once, in four setups.
std::vector<Setup> some_setups() {
  std::vector<Setup> out(4);
  out[1].in_flight = 2;
  out[1].kernels_on_device = out[1].integrated = true;
  out[2].in_flight = 2;
  out[2].graphs = false;
  out[3].encoder = false;
  out[3].kernels_on_device = true;
  return out;
}

// Out of memory at each call of the device in turn: one batch is lost, all others are right, and the pipeline goes on.
void out_of_memory_anywhere() {
  int faults = 0;
  for (Setup s : some_setups()) {
    for (int64_t at = 0;; at++) {
      Injector injector;
      s.before = injector.hook();
      std::unique_ptr<Bench> b;
      try {
        injector.at = at;
        b = std::make_unique<Bench>(s);
      } catch (const Error &e) {
        EXPECT(e.code() == TOKLIP_TRT_OUT_OF_MEMORY);
        faults++;
        continue;
      }
      injector.device = b->device.get();
      const bool failed = use(*b, TOKLIP_TRT_OUT_OF_MEMORY);
      const bool over = injector.calls <= at;
      use(*b, TOKLIP_TRT_OUT_OF_MEMORY);
      if (over) {
        EXPECT(!failed);
        break;
      }
      faults++;
    }
  }
  EXPECT(faults > 500);
}

// The device lost at each call in turn: from then on every call fails with the same error, and all can be freed.
void lost_anywhere() {
  for (Setup s : some_setups()) {
    for (int64_t at = 0;; at++) {
      Injector injector;
      injector.code = TOKLIP_TRT_DEVICE_LOST;
      s.before = injector.hook();
      Bench b(s);
      injector.device = b.device.get();
      injector.at = injector.calls + at;
      if (!use(b, TOKLIP_TRT_DEVICE_LOST)) {
        EXPECT(injector.calls <= injector.at);
        break;
      }
      const Picture picture({1, 2, 3, 4});
      const toklip_trt_frame frame = picture.frame(0);
      toklip_trt_result result = {};
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, "injected", b.pipeline->submit(&frame, 1));
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, "injected", b.pipeline->wait(&result, 1, nullptr));
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, "injected", b.pipeline->process(&frame, 1, &result, nullptr));
    }
  }
}

// A submit that fails half way returns when the half has ended, so that nothing is written to what it reads.
void half_a_submit() {
  for (int32_t in_flight = 1; in_flight <= 2; in_flight++) {
    Setup s;
    s.in_flight = in_flight;
    std::atomic<int> records{-1};
    s.before = [&records](HostCall call, HostStream *stream) {
      if (records < 0 || call != HostCall::kRecord) return;
      if (records == 0) stream->sleep(100);
      // The fifth is behind the comparison.
      if (++records == 5) {
        records = -1;
        throw Error(TOKLIP_TRT_OUT_OF_MEMORY, "injected");
      }
    };
    Bench b(s);
    records = 0;
    const Picture picture({1, 2, 3, 4});
    const toklip_trt_frame frame = picture.frame(0);
    EXPECT_ERROR(TOKLIP_TRT_OUT_OF_MEMORY, "injected", b.pipeline->submit(&frame, 1));
    EXPECT(b.tokenizer->runs == 1);
    EXPECT(b.process(0, {1, 2, 3, 4}));
  }
}

// A device that does not finish: the wait ends, the pipeline is dead and leaked, and a reset ends what hangs.
void hangs() {
  for (int32_t in_flight = 1; in_flight <= 2; in_flight++) {
    Setup s;
    s.in_flight = in_flight;
    s.timeout_ms = 50;
    std::atomic<bool> hang{false};
    s.before = [&hang](HostCall, HostStream *stream) {
      if (stream != nullptr && hang.exchange(false)) stream->hang();
    };
    Bench b(s);
    b.process(0, {1, 1, 1, 1});
    b.process(0, {1, 2, 1, 1});
    hang = true;
    const Picture picture({1, 2, 3, 4});
    const toklip_trt_frame frame = picture.frame(0);
    toklip_trt_result result = {};
    const auto began = std::chrono::steady_clock::now();
    EXPECT_ERROR(TOKLIP_TRT_TIMEOUT, "within 50 ms", b.pipeline->process(&frame, 1, &result, nullptr));
    EXPECT_ERROR(TOKLIP_TRT_TIMEOUT, "within 50 ms", b.pipeline->process(&frame, 1, &result, nullptr));
    EXPECT_ERROR(TOKLIP_TRT_TIMEOUT, "within 50 ms", b.pipeline->submit(&frame, 1));
    EXPECT_ERROR(TOKLIP_TRT_TIMEOUT, "within 50 ms", b.pipeline->wait(&result, 1, nullptr));
    b.close();
    EXPECT(std::chrono::steady_clock::now() - began < std::chrono::seconds(5));
    b.device->stop();
  }
}

// A pipeline is freed while batches are under way: it waits for them.
void freed_under_way() {
  for (const Setup &s : some_setups()) {
    Bench b(s);
    const Picture picture({1, 2, 3, 4});
    const toklip_trt_frame frame = picture.frame(0);
    for (int32_t i = 0; i < s.in_flight; i++) b.pipeline->submit(&frame, 1);
    b.close();
    EXPECT(b.tokenizer->runs == s.in_flight);
  }
}

// One that hangs while it is freed is waited for no longer than timeout_ms a batch.
void freed_while_hanging() {
  Setup s;
  s.in_flight = 2;
  s.timeout_ms = 50;
  std::atomic<bool> hang{true};
  s.before = [&hang](HostCall call, HostStream *stream) {
    if (stream != nullptr && call == HostCall::kCall && hang.exchange(false)) stream->hang();
  };
  Bench b(s);
  const Picture picture({1, 2, 3, 4});
  const toklip_trt_frame frame = picture.frame(0);
  b.pipeline->submit(&frame, 1);
  b.pipeline->submit(&frame, 1);
  const auto began = std::chrono::steady_clock::now();
  b.close();
  EXPECT(std::chrono::steady_clock::now() - began < std::chrono::seconds(5));
  b.device->stop();
}

// A wait that fails makes what was compared with its frames count as new.
void frame_behind_a_lost_one() {
  Setup s;
  s.in_flight = 2;
  std::atomic<bool> fault{false};
  s.before = [&fault](HostCall call, HostStream *) {
    if (call == HostCall::kQuery && fault.exchange(false)) throw Error(TOKLIP_TRT_OUT_OF_MEMORY, "injected");
  };
  for (int resting = 0; resting < 2; resting++) {
    Bench b(s);
    for (int i = 0; i < 3; i++) b.process(0, {1, 1, 1, 1});
    if (resting == 0) b.process(0, {1, 1, 1, 2});
    const Picture lost({5, 5, 5, 5});
    const toklip_trt_frame frame = lost.frame(0);
    b.pipeline->submit(&frame, 1);
    b.pipeline->submit(&frame, 1);  // the same as the one before it
    toklip_trt_result result = {};
    fault = true;
    EXPECT_ERROR(TOKLIP_TRT_OUT_OF_MEMORY, "injected", b.pipeline->wait(&result, 1, nullptr));
    b.pipeline->wait(&result, 1, nullptr);
    expect_result(result, {5, 5, 5, 5}, nullptr, true);
    EXPECT(result.encoded);
    b.last[0] = {5, 5, 5, 5};
    b.process(0, {5, 5, 5, 5});
  }
}

// In the steady state nothing is allocated, not of the device nor of the CPU.
void nothing_allocated() {
  for (const Setup &s : some_setups()) {
    Bench b(s);
    const Picture pictures[] = {Picture({1, 2, 3, 4}), Picture({1, 2, 3, 5}), Picture({4, 4, 4, 4}, 50)};
    const auto round = [&] {
      for (int i = 0; i < 12; i++) {
        // At once, decided and skipped, one frame and two.
        const toklip_trt_frame frames[] = {pictures[i % 4 == 0 ? 0 : 1].frame(0), pictures[i < 6 ? 2 : 0].frame(1)};
        toklip_trt_result results[2];
        b.pipeline->process(frames, static_cast<size_t>(1 + i % 2), results, nullptr);
        b.pipeline->submit(frames, 1);
        b.pipeline->wait(results, 1, nullptr);
      }
    };
    for (int i = 0; i < 4; i++) round();
    const uint64_t device_before = b.device->allocations(), before = news();
    for (int i = 0; i < 4; i++) round();
    EXPECT(b.device->allocations() == device_before);
    EXPECT(news() == before);
    if (news() != before)
      std::fprintf(stderr, "  %llu allocations with %s\n", static_cast<unsigned long long>(news() - before),
                   name_of(s).c_str());
  }
}

// Everything that was allocated is given back.
void nothing_leaked() {
  for (const Setup &s : some_setups()) {
    Bench b(s);
    for (int32_t i = 0; i < 5; i++) b.process(0, {i / 2, 1, 1, 1});
    b.close();
    EXPECT(b.device->allocated() == 0);
  }
}

}  // namespace
}  // namespace toklip

int main() {
  using namespace toklip;
  const Case cases[] = {{"out of memory at any call", out_of_memory_anywhere},
                        {"device lost at any call", lost_anywhere},
                        {"half a submit", half_a_submit},
                        {"hangs", hangs},
                        {"freed under way", freed_under_way},
                        {"freed while hanging", freed_while_hanging},
                        {"frame behind a lost one", frame_behind_a_lost_one},
                        {"nothing allocated in the steady state", nothing_allocated},
                        {"nothing leaked", nothing_leaked}};
  return run_cases(cases);
}
