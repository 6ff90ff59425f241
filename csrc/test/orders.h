// Faults that are ordered from outside of libtoklip_trt_test.so.
//
// The environment variable TOKLIP_TRT_TEST_ORDERS names a file. It is looked at before each call; when it has changed,
// its orders replace those before. A line is
//
//     CALL WHAT [TIMES]
//
// and the next TIMES (1 if not given, * for ever) such calls meet with WHAT. Empty lines and lines that begin with # do not
// count. Each process counts for itself. Orders are taken from the top, one for a call.
//
// CALL   open, device, reset, build, network, load, layers, run, pipeline, submit, wait, process.
//        Orders for submit and wait are met by those calls only, not by process.
// WHAT   out-of-memory, invalid, no-library, wrong-version, no-device, timeout, bad-plan, bad-model, unsupported, cancelled,
//        busy, file, internal
//              the call fails with the code of that name. In submit, wait, process, run and pipeline it is the first thing
//              asked of the device that fails, be it memory or work.
//        device-lost
//              the same, and from then on everything on the device does, until it is reset
//        hang  the work on the device never ends, so that whoever waits runs into the timeout; a build goes on until it is
//              cancelled
//        slow=MS
//              takes MS milliseconds longer: the work on the device of submit, process and run; the call itself of the others
//        crash the process is killed
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "toklip_trt.h"

namespace toklip {

// What a call is to meet with.
struct Fault {
  enum Kind { kNone, kError, kHang, kSlow, kCrash } kind = kNone;
  toklip_trt_code code = TOKLIP_TRT_INTERNAL;  // of kError
  uint32_t milliseconds = 0;                   // of kSlow
};

// All methods: any thread.
class Orders {
 public:
  // The fault for this call, which is used up by asking. Throws TOKLIP_TRT_INVALID if the file has a line that is no order,
  // so that a test with a mistake in it does not pass.
  Fault take(const std::string &call);

 private:
  struct Order {
    std::string call;
    Fault fault;
    int64_t times;  // negative: for ever
  };
  // What tells one state of the file from another.
  struct Stamp {
    std::string path;
    int64_t seconds = 0, nanoseconds = 0, size = 0;
    uint64_t inode = 0;
    bool operator==(const Stamp &o) const {
      return path == o.path && seconds == o.seconds && nanoseconds == o.nanoseconds && size == o.size &&
             inode == o.inode;
    }
  };
  void read(const Stamp &stamp);
  static Order parse(const std::string &line, const std::string &where);

  std::mutex mutex_;
  Stamp stamp_;
  std::vector<Order> orders_;
};

}  // namespace toklip
