#include "test/orders.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "core/error.h"

namespace toklip {
namespace {

constexpr const char *kCalls[] = {"open",   "device", "reset",    "build",  "network", "load",
                                  "layers", "run",    "pipeline", "submit", "wait",    "process"};

struct NamedCode {
  const char *name;
  toklip_trt_code code;
};

constexpr NamedCode kCodes[] = {{"invalid", TOKLIP_TRT_INVALID},
                                {"no-library", TOKLIP_TRT_NO_LIBRARY},
                                {"wrong-version", TOKLIP_TRT_WRONG_VERSION},
                                {"no-device", TOKLIP_TRT_NO_DEVICE},
                                {"out-of-memory", TOKLIP_TRT_OUT_OF_MEMORY},
                                {"device-lost", TOKLIP_TRT_DEVICE_LOST},
                                {"timeout", TOKLIP_TRT_TIMEOUT},
                                {"bad-plan", TOKLIP_TRT_BAD_PLAN},
                                {"bad-model", TOKLIP_TRT_BAD_MODEL},
                                {"unsupported", TOKLIP_TRT_UNSUPPORTED},
                                {"cancelled", TOKLIP_TRT_CANCELLED},
                                {"busy", TOKLIP_TRT_BUSY},
                                {"file", TOKLIP_TRT_FILE},
                                {"internal", TOKLIP_TRT_INTERNAL}};

// A whole number from 0 to 1e9; -1 if it is none.
int64_t number(const std::string &s) {
  if (s.empty() || s.size() > 9 || s.find_first_not_of("0123456789") != std::string::npos) return -1;
  return std::stoll(s);
}

bool parse_fault(const std::string &what, Fault *fault) {
  if (what == "hang") {
    fault->kind = Fault::kHang;
    return true;
  }
  if (what == "crash") {
    fault->kind = Fault::kCrash;
    return true;
  }
  if (what.rfind("slow=", 0) == 0) {
    const int64_t ms = number(what.substr(5));
    fault->kind = Fault::kSlow;
    fault->milliseconds = static_cast<uint32_t>(std::max<int64_t>(ms, 0));
    return ms >= 0;
  }
  for (const NamedCode &c : kCodes) {
    if (what != c.name) continue;
    fault->kind = Fault::kError;
    fault->code = c.code;
    return true;
  }
  return false;
}

}  // namespace

Orders::Order Orders::parse(const std::string &line, const std::string &where) {
  std::istringstream words(line);
  Order order;
  std::string what, times, rest;
  words >> order.call >> what >> times >> rest;
  const bool known = std::find(std::begin(kCalls), std::end(kCalls), order.call) != std::end(kCalls);
  order.times = times.empty() ? 1 : times == "*" ? -1 : number(times);
  if (!known || !parse_fault(what, &order.fault) || !rest.empty() || (order.times < 0 && times != "*")) {
    fail(TOKLIP_TRT_INVALID, "%s: \"%s\" is no order; csrc/test/orders.h tells what is", where.c_str(), line.c_str());
  }
  return order;
}

void Orders::read(const Stamp &stamp) {
  orders_.clear();
  std::ifstream file(stamp.path);
  if (!file) fail(TOKLIP_TRT_FILE, "the orders in %s cannot be read", stamp.path.c_str());
  int n = 0;
  for (std::string line; std::getline(file, line);) {
    n++;
    if (line.empty() || line[0] == '#') continue;
    orders_.push_back(parse(line, text("%s:%d", stamp.path.c_str(), n)));
  }
  stamp_ = stamp;
}

Fault Orders::take(const std::string &call) {
  std::lock_guard<std::mutex> lock(mutex_);
  const char *path = std::getenv("TOKLIP_TRT_TEST_ORDERS");
  if (path == nullptr || *path == '\0') {
    orders_.clear();
    stamp_ = Stamp{};
    return {};
  }
  struct stat s = {};
  if (stat(path, &s) != 0) fail(TOKLIP_TRT_FILE, "the orders in %s cannot be read", path);
  const Stamp stamp{path, s.st_mtim.tv_sec, s.st_mtim.tv_nsec, s.st_size, s.st_ino};
  if (!(stamp == stamp_)) read(stamp);
  for (Order &o : orders_) {
    if (o.call != call || o.times == 0) continue;
    if (o.times > 0) o.times--;
    return o.fault;
  }
  return {};
}

}  // namespace toklip
