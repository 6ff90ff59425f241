// The one exception of this code, and how it leaves through the C ABI.
#pragma once

#include <stdexcept>
#include <string>

#include "toklip_trt.h"

namespace toklip {

// Everything that fails throws an Error. The message is for a person: one or more sentences that name the thing, the
// value and the next step.
class Error : public std::runtime_error {
 public:
  Error(toklip_trt_code code, const std::string &message) : std::runtime_error(message), code_(code) {}

  toklip_trt_code code() const { return code_; }

  // Whether everything on the device is of no use any more. Errors of this kind are told by every later call too.
  bool fatal() const { return code_ == TOKLIP_TRT_DEVICE_LOST || code_ == TOKLIP_TRT_TIMEOUT; }

 private:
  toklip_trt_code code_;
};

// Throws an Error with a text made as printf does.
[[noreturn]] void fail(toklip_trt_code code, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Text made as printf does.
std::string text(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The error object of the exception that is being handled; call it in a catch block. Never NULL and never throws: where
// memory for the object is lacking, a static one says so.
toklip_trt_error *current_error() noexcept;

// Runs body and turns what it throws into an error object; NULL if it returned. Every entry point of the ABI is one.
template <typename Body>
toklip_trt_error *guard(const Body &body) noexcept {
  try {
    body();
    return nullptr;
  } catch (...) {
    return current_error();
  }
}

}  // namespace toklip
