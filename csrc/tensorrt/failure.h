// What a failed call of TensorRT means.
#pragma once

#include <string>

#include "core/device.h"
#include "tensorrt/logger.h"
#include "toklip_trt.h"

namespace toklip {
namespace tensorrt {

// Text without line breaks and with one full stop at its end: TensorRT's lines have some or none of it.
std::string sentence(std::string text);

// Throws an Error whose message is `what` and the reason that TensorRT logged in the scope. Its code is
// TOKLIP_TRT_OUT_OF_MEMORY or TOKLIP_TRT_NO_DEVICE where the reason says so, TOKLIP_TRT_DEVICE_LOST where the device is
// (which may be NULL), else `code`, but no plan or model is called bad for an error of CUDA's.
[[noreturn]] void fail_from(const LogScope &scope, toklip_trt_code code, const std::string &what, Device *device);

}  // namespace tensorrt
}  // namespace toklip
