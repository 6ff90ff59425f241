#include <cstdlib>
#include <cstring>

#include "abi/handles.h"

using toklip::check_pointer;
using toklip::Current;
using toklip::empty_if_null;
using toklip::fail;
using toklip::guard;

namespace toklip {

char *new_string(const std::string &s) {
  char *out = static_cast<char *>(std::malloc(s.size() + 1));
  if (out == nullptr) throw std::bad_alloc();
  std::memcpy(out, s.c_str(), s.size() + 1);
  return out;
}

}  // namespace toklip

namespace {

// what: whose children they are, for the message.
void check_childless(const char *what, const toklip_trt_library &library) {
  const int builds = library.builds, engines = library.engines, pipelines = library.pipelines;
  if (builds + engines + pipelines > 0) {
    fail(TOKLIP_TRT_BUSY, "the %s still has %d builds, %d engines and %d pipelines: free them first", what, builds,
         engines, pipelines);
  }
}

}  // namespace

uint32_t toklip_trt_abi(void) { return TOKLIP_TRT_ABI; }

void toklip_trt_string_free(char *string) { std::free(string); }

toklip_trt_open_options toklip_trt_open_options_default(void) {
  toklip_trt_open_options o = {};
  o.nvinfer = o.parser = o.cuda = "";
  return o;
}

toklip_trt_error *toklip_trt_open(uint32_t abi, const toklip_trt_open_options *options, toklip_trt_library **out) {
  return guard([&] {
    if (abi != TOKLIP_TRT_ABI) {
      fail(
          TOKLIP_TRT_ABI_MISMATCH,
          "the program was made for version %u of the interface of libtoklip_trt, this library has version %u: install "
          "the two from one release",
          abi, TOKLIP_TRT_ABI);
    }
    check_pointer("out", out);
    toklip_trt_open_options o = options != nullptr ? *options : toklip_trt_open_options_default();
    for (const char **path : {&o.nvinfer, &o.parser, &o.cuda}) empty_if_null(*path);
    if (o.device < 0) fail(TOKLIP_TRT_INVALID, "device is %d, must be 0 or more", o.device);
    auto library = std::make_unique<toklip_trt_library>();
    library->runtime = toklip::open_runtime(o);
    *out = library.release();
  });
}

toklip_trt_error *toklip_trt_library_free(toklip_trt_library *library) {
  return guard([&] {
    if (library == nullptr) return;
    check_childless("library", *library);
    delete library;
  });
}

void toklip_trt_library_describe(const toklip_trt_library *library, toklip_trt_library_info *out) {
  if (out == nullptr) return;
  *out = toklip_trt_library_info{};
  if (library != nullptr) library->runtime->describe(out);
}

bool toklip_trt_log_take(toklip_trt_library *library, toklip_trt_severity *severity, char *text, size_t size,
                         uint64_t *dropped) {
  if (library == nullptr) return false;
  return library->runtime->log().take(severity, text, size, dropped);
}

toklip_trt_error *toklip_trt_device_describe(toklip_trt_library *library, toklip_trt_device_info *out) {
  return guard([&] {
    check_pointer("library", library);
    check_pointer("out", out);
    library->runtime->entering("device");
    const auto device = library->runtime->device();
    Current current(*device);
    *out = library->runtime->describe_device();
  });
}

toklip_trt_error *toklip_trt_device_reset(toklip_trt_library *library) {
  return guard([&] {
    check_pointer("library", library);
    check_childless("device", *library);
    library->runtime->entering("reset");
    library->runtime->reset_device();
  });
}
