// Errors and the log.
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "core/engine.h"
#include "core/log.h"
#include "test/expect.h"

namespace toklip {
namespace {

template <typename Body>
void told(toklip_trt_code code, const char *message, const Body &body) {
  toklip_trt_error *e = guard(body);
  EXPECT(e != nullptr && toklip_trt_error_code(e) == code && std::string(toklip_trt_error_message(e)) == message);
  toklip_trt_error_free(e);
}

void errors() {
  EXPECT(guard([] {}) == nullptr);
  told(TOKLIP_TRT_FILE, "a 1", [] { fail(TOKLIP_TRT_FILE, "a %d", 1); });
  told(TOKLIP_TRT_INTERNAL, "one two", [] { throw Error(TOKLIP_TRT_INTERNAL, "one\ntwo\n"); });
  told(TOKLIP_TRT_OUT_OF_MEMORY, "out of memory", [] { throw std::bad_alloc(); });
  told(TOKLIP_TRT_INTERNAL, "x", [] { throw std::runtime_error("x"); });
  told(TOKLIP_TRT_INTERNAL, "an exception of unknown type was thrown", [] { throw 1; });
  const std::string long_one(5000, 'x');
  told(TOKLIP_TRT_INVALID, long_one.c_str(), [&] { fail(TOKLIP_TRT_INVALID, "%s", long_one.c_str()); });
  EXPECT(Error(TOKLIP_TRT_TIMEOUT, "").fatal() && Error(TOKLIP_TRT_DEVICE_LOST, "").fatal());
  EXPECT(!Error(TOKLIP_TRT_OUT_OF_MEMORY, "").fatal());
}

void log_is_bounded() {
  Log log;
  for (size_t i = 0; i < Log::kLines + 10; i++) log.add(TOKLIP_TRT_LOG_INFO, std::to_string(i));
  char line[5];
  toklip_trt_severity severity = TOKLIP_TRT_LOG_ERROR;
  uint64_t dropped = 0;
  EXPECT(log.take(&severity, line, sizeof line, &dropped));
  EXPECT(std::string(line) == "10" && dropped == 10 && severity == TOKLIP_TRT_LOG_INFO);
  size_t n = 1;
  while (log.take(nullptr, line, sizeof line, &dropped)) n++;
  EXPECT(n == Log::kLines && dropped == 0 && std::string(line) == "1033");
  log.add(TOKLIP_TRT_LOG_ERROR, std::string(2 * Log::kLineBytes, 'x'));
  std::vector<char> all(3 * Log::kLineBytes);
  EXPECT(log.take(&severity, all.data(), all.size(), nullptr));
  EXPECT(std::string(all.data()).size() == Log::kLineBytes);
}

void log_from_threads() {
  Log log;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; i++) log.add(TOKLIP_TRT_LOG_DEBUG, "line");
    });
  }
  uint64_t taken = 0, dropped = 0, all_dropped = 0;
  char line[8];
  for (int i = 0; i < 500; i++) {
    if (log.take(nullptr, line, sizeof line, &dropped)) taken++;
    all_dropped += dropped;
  }
  for (std::thread &t : threads) t.join();
  while (log.take(nullptr, line, sizeof line, &dropped)) {
    taken++;
    all_dropped += dropped;
  }
  EXPECT(taken + all_dropped + dropped == 4000);
}

void types() {
  for (int t = 1; t <= 8; t++) EXPECT((size_of(static_cast<Type>(t)) == 0) == (t == 8));
  EXPECT(std::string(name_of(Type::kFP16)) == "fp16" && std::string(name_of(Type::kOther)) == "other");
}

}  // namespace
}  // namespace toklip

int main() {
  using namespace toklip;
  const Case cases[] = {
      {"errors", errors}, {"log is bounded", log_is_bounded}, {"log from threads", log_from_threads}, {"types", types}};
  return run_cases(cases);
}
