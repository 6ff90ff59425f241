#include "tensorrt/failure.h"

#include "core/error.h"

namespace toklip {
namespace tensorrt {
namespace {

bool has(const std::string &text, const char *part) { return text.find(part) != std::string::npos; }

// TensorRT tells an error's kind by its text alone: "Error Code 2: OutOfMemory (...)", "cudaError 2: out of memory".
bool out_of_memory(const std::string &reason) {
  return has(reason, "OutOfMemory") || has(reason, "out of memory") || has(reason, "Out of memory") ||
         has(reason, "bad_alloc");
}

}  // namespace

std::string sentence(std::string text) {
  for (char &c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '.')) text.pop_back();
  return text + ".";
}

void fail_from(const LogScope &scope, toklip_trt_code code, const std::string &what, Device *device) {
  std::string reason = scope.reason();
  std::string message = sentence(what + ": " + reason);
  if (device) {
    try {
      device->info();  // asks the driver, which repeats an error that sticks
    } catch (const Error &error) {
      if (error.fatal()) throw Error(error.code(), message + " " + error.what());
    }
  }
  throw Error(out_of_memory(reason) ? TOKLIP_TRT_OUT_OF_MEMORY : code, message);
}

}  // namespace tensorrt
}  // namespace toklip
