// What tests of the C ABI share: models, plans and a pipeline over the implementation for tests.
#pragma once

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "test/expect.h"
#include "test/small_model.h"
#include "toklip_trt.h"

namespace toklip {

inline std::string folder;  // of this run's files

inline std::string write(const std::string &name, const std::string &content) {
  const std::string path = folder + "/" + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

inline std::string read(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void order(const std::string &lines) {
  static int n = 0;
  setenv("TOKLIP_TRT_TEST_ORDERS", write("orders" + std::to_string(n++), lines).c_str(), 1);
}
inline void no_orders() { unsetenv("TOKLIP_TRT_TEST_ORDERS"); }

// The call succeeds.
#define OK(call)                                                                                              \
  do {                                                                                                        \
    toklip_trt_error *ok_error = (call);                                                                      \
    if (ok_error != nullptr) {                                                                                \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, toklip_trt_error_message(ok_error)); \
      toklip::failures()++;                                                                                   \
      toklip_trt_error_free(ok_error);                                                                        \
    }                                                                                                         \
  } while (false)

// The call fails with this code, and this is part of what it says.
#define FAILS(want, part, call)                                                                     \
  do {                                                                                              \
    toklip_trt_error *fails_error = (call);                                                         \
    const std::string fails_text = toklip_trt_error_message(fails_error);                           \
    if (fails_error == nullptr || toklip_trt_error_code(fails_error) != (want) ||                   \
        fails_text.find(part) == std::string::npos || fails_text.find('\n') != std::string::npos) { \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, fails_text.c_str());       \
      toklip::failures()++;                                                                         \
    }                                                                                               \
    toklip_trt_error_free(fails_error);                                                             \
  } while (false)

inline toklip_trt_library *open() {
  toklip_trt_library *library = nullptr;
  OK(toklip_trt_open(TOKLIP_TRT_ABI, nullptr, &library));
  return library;
}

inline toklip_trt_build_options build_options(const std::string &onnx, const std::string &plan) {
  toklip_trt_build_options o = toklip_trt_build_options_default();
  o.onnx_path = onnx.c_str();
  o.plan_path = plan.c_str();
  o.batch_max = 2;
  return o;
}

// Builds a model's plan; what the file holds.
inline std::string plan_of(toklip_trt_library *library, const std::string &name, const std::string &onnx) {
  const std::string path = write(name + ".onnx", onnx), plan = folder + "/" + name + ".plan";
  const toklip_trt_build_options o = build_options(path, plan);
  toklip_trt_build *build = nullptr;
  OK(toklip_trt_build_new(library, &o, &build));
  OK(toklip_trt_build_run(build));
  toklip_trt_progress progress = {};
  toklip_trt_build_progress(build, &progress);
  EXPECT(progress.fraction == 1);
  FAILS(TOKLIP_TRT_INVALID, "ran already", toklip_trt_build_run(build));
  toklip_trt_build_free(build);
  return read(plan);
}

inline toklip_trt_engine *load(toklip_trt_library *library, const std::string &plan) {
  toklip_trt_engine *engine = nullptr;
  OK(toklip_trt_engine_load(library, plan.data(), plan.size(), -1, &engine));
  return engine;
}

// A library with both engines and a pipeline.
struct World {
  explicit World(int32_t in_flight = 1, uint32_t timeout_ms = 10000) : library(open()) {
    tokenizer = load(library, plan_of(library, "tokenizer", tokenizer_onnx()));
    encoder = load(library, plan_of(library, "encoder", encoder_onnx()));
    // Code c has the signs of c's bits.
    for (int c = 0; c < 8; c++) {
      for (int i = 0; i < 3; i++) codebook[c * 3 + i] = (c >> i & 1) != 0 ? 1.0f : -1.0f;
    }
    options = toklip_trt_pipeline_options_default();
    options.tokenizer = tokenizer;
    options.encoder = encoder;
    options.image_size = 16;
    options.tokens = 4;
    options.feature_dim = 1;
    options.embedding_dim = 4;
    options.codebook = codebook;
    options.codebook_size = 8;
    options.codebook_dim = 3;
    options.batch_max = 2;
    options.in_flight = in_flight;
    options.timeout_ms = timeout_ms;
    OK(toklip_trt_pipeline_new(library, &options, &pipeline));
  }
  ~World() {
    free_children();
    OK(toklip_trt_library_free(library));
  }
  World(const World &) = delete;
  World &operator=(const World &) = delete;

  // Frees everything but the library.
  void free_children() {
    toklip_trt_pipeline_free(pipeline);
    OK(toklip_trt_engine_free(encoder));
    OK(toklip_trt_engine_free(tokenizer));
    encoder = tokenizer = nullptr;
    pipeline = nullptr;
  }

  // A frame whose quarters are these ids.
  toklip_trt_frame frame(const int (&ids)[4]) {
    for (int y = 0; y < 16; y++) {
      for (int x = 0; x < 16; x++) {
        for (int i = 0; i < 3; i++) pixels[(y * 16 + x) * 3 + i] = (ids[y / 8 * 2 + x / 8] >> i & 1) != 0 ? 255 : 0;
      }
    }
    toklip_trt_frame f = {};
    f.data = pixels;
    f.size = sizeof pixels;
    f.width = f.height = 16;
    f.stride = 48;
    f.pixels = TOKLIP_TRT_RGB;
    f.resize = TOKLIP_TRT_SQUASH;
    return f;
  }

  toklip_trt_library *library;
  toklip_trt_engine *tokenizer = nullptr, *encoder = nullptr;
  toklip_trt_pipeline *pipeline = nullptr;
  toklip_trt_pipeline_options options = {};
  float codebook[24];
  uint8_t pixels[16 * 16 * 3];
};

}  // namespace toklip
