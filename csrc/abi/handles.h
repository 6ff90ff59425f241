// The opaque types of the ABI, and what its entry points share.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>

#include "core/error.h"
#include "core/runtime.h"
#include "pipeline/pipeline.h"
#include "toklip_trt.h"

// Counts are of children, which go before their parents. They are atomic because children of one parent may be freed by
// several threads at once.
struct toklip_trt_library {
  std::unique_ptr<toklip::Runtime> runtime;
  std::atomic<int> builds{0}, engines{0}, pipelines{0};
};

struct toklip_trt_build {
  toklip_trt_library *library;
  std::unique_ptr<toklip::Build> build;
  bool ran = false;
};

struct toklip_trt_engine {
  toklip_trt_library *library;
  std::shared_ptr<toklip::Device> device;
  std::shared_ptr<toklip::Engine> engine;  // shared with pipelines that could not be freed
  std::atomic<int> pipelines{0};
};

struct toklip_trt_pipeline {
  toklip_trt_library *library;
  std::shared_ptr<toklip::Device> device;
  toklip_trt_engine *tokenizer, *encoder;
  std::unique_ptr<toklip::Pipeline> pipeline;
};

namespace toklip {

inline void check_pointer(const char *name, const void *pointer) {
  if (pointer == nullptr) fail(TOKLIP_TRT_INVALID, "%s is NULL", name);
}

// Texts that callers may leave out.
inline void empty_if_null(const char *&text) {
  if (text == nullptr) text = "";
}

// A copy for the caller to free with toklip_trt_string_free.
char *new_string(const std::string &s);

}  // namespace toklip
