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

// cudaErrorInsufficientDriver and cudaErrorNoDevice, as different versions write them.
bool no_device(const std::string &reason) {
  return has(reason, "cudaError 35") || has(reason, "cudaError 100") || has(reason, "with error: 35") ||
         has(reason, "with error: 100");
}

bool of_cuda(const std::string &reason) {
  return has(reason, "cudaError") || has(reason, "Cuda Runtime") || has(reason, "Cuda Driver") ||
         has(reason, "CUDA initialization");
}

toklip_trt_code code_of(const std::string &reason, toklip_trt_code code) {
  if (out_of_memory(reason)) return TOKLIP_TRT_OUT_OF_MEMORY;
  if (no_device(reason)) return TOKLIP_TRT_NO_DEVICE;
  // Neither plan nor model is to blame then, and to build again would not help.
  bool blames = code == TOKLIP_TRT_BAD_PLAN || code == TOKLIP_TRT_BAD_MODEL;
  return blames && of_cuda(reason) ? TOKLIP_TRT_INTERNAL : code;
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
  throw Error(code_of(reason, code), message);
}

}  // namespace tensorrt
}  // namespace toklip
