#include "core/error.h"

#include <cstdarg>
#include <cstdio>
#include <new>
#include <vector>

struct toklip_trt_error {
  toklip_trt_code code;
  std::string message;
};

namespace toklip {
namespace {

std::string format_text(const char *format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  const int length = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (length < 0) return format;
  std::string out(static_cast<size_t>(length) + 1, '\0');
  std::vsnprintf(&out[0], out.size(), format, arguments);
  out.resize(static_cast<size_t>(length));
  return out;
}

// The ABI promises no line breaks; messages of others may have some.
std::string one_line(std::string message) {
  while (!message.empty() && (message.back() == '\n' || message.back() == '\r')) message.pop_back();
  for (char &c : message) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return message;
}

// Given out where there is no memory for an object of its own; never freed.
toklip_trt_error *no_memory() noexcept {
  static toklip_trt_error error{TOKLIP_TRT_OUT_OF_MEMORY, "out of memory"};
  return &error;
}

toklip_trt_error *new_error(toklip_trt_code code, const char *message) noexcept {
  try {
    return new toklip_trt_error{code, one_line(message)};
  } catch (...) {
    return no_memory();
  }
}

}  // namespace

void fail(toklip_trt_code code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::string message;
  try {
    message = format_text(format, arguments);
  } catch (...) {
    va_end(arguments);
    throw;
  }
  va_end(arguments);
  throw Error(code, message);
}

std::string text(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::string out;
  try {
    out = format_text(format, arguments);
  } catch (...) {
    va_end(arguments);
    throw;
  }
  va_end(arguments);
  return out;
}

toklip_trt_error *current_error() noexcept {
  try {
    throw;
  } catch (const Error &e) {
    return new_error(e.code(), e.what());
  } catch (const std::bad_alloc &) {
    return no_memory();
  } catch (const std::exception &e) {
    return new_error(TOKLIP_TRT_INTERNAL, e.what());
  } catch (...) {
    return new_error(TOKLIP_TRT_INTERNAL, "an exception of unknown type was thrown");
  }
}

}  // namespace toklip

toklip_trt_code toklip_trt_error_code(const toklip_trt_error *error) {
  return error != nullptr ? error->code : TOKLIP_TRT_INTERNAL;
}

const char *toklip_trt_error_message(const toklip_trt_error *error) {
  return error != nullptr ? error->message.c_str() : "no error";
}

void toklip_trt_error_free(toklip_trt_error *error) {
  if (error != toklip::no_memory()) delete error;
}
