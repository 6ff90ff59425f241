// The C ABI, called as a program does, over the implementation for tests.
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "test/abi_bench.h"

// ONNX Runtime leaves a few bytes behind. Leak checkers ask for this function.
extern "C" __attribute__((visibility("default"))) const char *__lsan_default_suppressions() {
  return "leak:libonnxruntime.so";
}

namespace toklip {
namespace {

void end_to_end() {
  World w;
  const int ids[] = {1, 7, 0, 4};
  const toklip_trt_frame frame = w.frame(ids);
  toklip_trt_result r = {};
  toklip_trt_times times = {};
  for (int i = 0; i < 4; i++) {
    OK(toklip_trt_pipeline_process(w.pipeline, &frame, 1, &r, &times));
    EXPECT(r.fresh == (i == 0));
    EXPECT(r.changed_count == (i == 0 ? 4 : 0));
    for (int t = 0; t < 4; t++) EXPECT(r.ids[t] == ids[t]);
    EXPECT(r.packed_size == 2 && r.packed[0] == (1 | 7 << 3 | (0 << 6)) && r.packed[1] == 4 << 1);
    EXPECT(r.encoded == (i < 2));
    for (int t = 0; r.encoded && t < 4; t++) {
      EXPECT(r.features[t] == static_cast<float>(ids[t]));
      EXPECT(r.embedding[t] == static_cast<float>(ids[t]));
      EXPECT(std::abs(r.unit[t] - static_cast<float>(ids[t]) / 8.124038f) < 1e-6f);
    }
    EXPECT(times.total > 0);
  }
  OK(toklip_trt_pipeline_submit(w.pipeline, &frame, 1));
  FAILS(TOKLIP_TRT_BUSY, "under way", toklip_trt_pipeline_submit(w.pipeline, &frame, 1));
  OK(toklip_trt_pipeline_wait(w.pipeline, &r, 1, nullptr));
}

void descriptions() {
  World w;
  toklip_trt_library_info library = {};
  toklip_trt_library_describe(w.library, &library);
  EXPECT(std::string(library.family) == "test" && library.major == 1 && library.minor > 0);
  toklip_trt_device_info device = {};
  OK(toklip_trt_device_describe(w.library, &device));
  EXPECT(device.name[0] != '\0' && !device.kernels && device.memory_free < device.memory_total);
  char *json = nullptr;
  OK(toklip_trt_network_describe(w.library, (folder + "/encoder.onnx").c_str(), &json));
  EXPECT(std::string(json) ==
         "{\"inputs\":[{\"name\":\"ids\",\"type\":\"int32\",\"shape\":[-1,4]}],\"outputs\":[{\"name\":\"features\","
         "\"type\":"
         "\"fp32\",\"shape\":[-1,4,1]},{\"name\":\"embedding\",\"type\":\"fp32\",\"shape\":[-1,4]}],\"layers\":2}");
  toklip_trt_string_free(json);
  OK(toklip_trt_engine_layers(w.encoder, &json));
  EXPECT(std::string(json) == "{\"Layers\":[\"0 Cast\",\"1 Unsqueeze\"]}");
  toklip_trt_string_free(json);
  toklip_trt_severity severity = TOKLIP_TRT_LOG_ERROR;
  char line[16];
  uint64_t dropped = 1;
  EXPECT(toklip_trt_log_take(w.library, &severity, line, sizeof line, &dropped));
  EXPECT(severity == TOKLIP_TRT_LOG_INFO && std::string(line) == "implementation " && dropped == 0);
  while (toklip_trt_log_take(w.library, nullptr, nullptr, 0, nullptr)) {
  }
  EXPECT(toklip_trt_abi() == TOKLIP_TRT_ABI);
}

void children_before_parents() {
  World w;
  FAILS(TOKLIP_TRT_BUSY, "2 engines and 1 pipelines", toklip_trt_library_free(w.library));
  FAILS(TOKLIP_TRT_BUSY, "1 pipelines", toklip_trt_engine_free(w.tokenizer));
  FAILS(TOKLIP_TRT_BUSY, "1 pipelines", toklip_trt_engine_free(w.encoder));
  FAILS(TOKLIP_TRT_BUSY, "2 engines and 1 pipelines", toklip_trt_device_reset(w.library));
  toklip_trt_pipeline_free(w.pipeline);
  w.pipeline = nullptr;
  FAILS(TOKLIP_TRT_BUSY, "2 engines and 0 pipelines", toklip_trt_device_reset(w.library));
  const std::string plan = folder + "/busy.plan";
  const std::string onnx = folder + "/encoder.onnx";
  const toklip_trt_build_options o = build_options(onnx, plan);
  toklip_trt_build *build = nullptr;
  OK(toklip_trt_build_new(w.library, &o, &build));
  FAILS(TOKLIP_TRT_BUSY, "1 builds", toklip_trt_library_free(w.library));
  FAILS(TOKLIP_TRT_BUSY, "1 builds", toklip_trt_device_reset(w.library));  // it may be at work on the device
  toklip_trt_build_free(build);
  // An engine of another library.
  toklip_trt_library *other = open();
  toklip_trt_pipeline *none = nullptr;
  FAILS(TOKLIP_TRT_INVALID, "of another library", toklip_trt_pipeline_new(other, &w.options, &none));
  OK(toklip_trt_library_free(other));
}

void null_and_wrong_arguments() {
  toklip_trt_library *library = nullptr;
  FAILS(TOKLIP_TRT_ABI_MISMATCH, "version 99", toklip_trt_open(99, nullptr, &library));
  FAILS(TOKLIP_TRT_INVALID, "out is NULL", toklip_trt_open(TOKLIP_TRT_ABI, nullptr, nullptr));
  toklip_trt_open_options open_options = toklip_trt_open_options_default();
  open_options.device = -1;
  FAILS(TOKLIP_TRT_INVALID, "device is -1", toklip_trt_open(TOKLIP_TRT_ABI, &open_options, &library));
  open_options = toklip_trt_open_options_default();
  open_options.nvinfer = "/nowhere/libonnxruntime.so";
  FAILS(TOKLIP_TRT_NO_LIBRARY, "/nowhere/", toklip_trt_open(TOKLIP_TRT_ABI, &open_options, &library));
  EXPECT(library == nullptr);

  World w;
  char *json = nullptr;
  toklip_trt_device_info device = {};
  toklip_trt_engine *engine = nullptr;
  toklip_trt_build *build = nullptr;
  toklip_trt_pipeline *pipeline = nullptr;
  const int ids[] = {0, 0, 0, 0};
  const toklip_trt_frame frame = w.frame(ids);
  toklip_trt_result result = {};
  FAILS(TOKLIP_TRT_INVALID, "library is NULL", toklip_trt_device_describe(nullptr, &device));
  FAILS(TOKLIP_TRT_INVALID, "out is NULL", toklip_trt_device_describe(w.library, nullptr));
  FAILS(TOKLIP_TRT_INVALID, "library is NULL", toklip_trt_device_reset(nullptr));
  FAILS(TOKLIP_TRT_INVALID, "library is NULL", toklip_trt_engine_load(nullptr, "x", 1, -1, &engine));
  FAILS(TOKLIP_TRT_INVALID, "plan is NULL", toklip_trt_engine_load(w.library, nullptr, 1, -1, &engine));
  FAILS(TOKLIP_TRT_BAD_PLAN, "empty", toklip_trt_engine_load(w.library, "x", 0, -1, &engine));
  FAILS(TOKLIP_TRT_INVALID, "dla_core is -2", toklip_trt_engine_load(w.library, "x", 1, -2, &engine));
  FAILS(TOKLIP_TRT_INVALID, "engine is NULL", toklip_trt_engine_layers(nullptr, &json));
  FAILS(TOKLIP_TRT_INVALID, "json is NULL", toklip_trt_engine_layers(w.encoder, nullptr));
  FAILS(TOKLIP_TRT_INVALID, "engine is NULL", toklip_trt_engine_run(nullptr, nullptr, 0, nullptr, 0));
  FAILS(TOKLIP_TRT_INVALID, "inputs is NULL", toklip_trt_engine_run(w.encoder, nullptr, 1, nullptr, 0));
  FAILS(TOKLIP_TRT_INVALID, "onnx_path is empty", toklip_trt_network_describe(w.library, "", &json));
  FAILS(TOKLIP_TRT_FILE, "/nowhere.onnx", toklip_trt_network_describe(w.library, "/nowhere.onnx", &json));
  FAILS(TOKLIP_TRT_INVALID, "options is NULL", toklip_trt_build_new(w.library, nullptr, &build));
  FAILS(TOKLIP_TRT_INVALID, "build is NULL", toklip_trt_build_run(nullptr));
  FAILS(TOKLIP_TRT_INVALID, "options is NULL", toklip_trt_pipeline_new(w.library, nullptr, &pipeline));
  toklip_trt_pipeline_options options = w.options;
  options.tokenizer = nullptr;
  FAILS(TOKLIP_TRT_INVALID, "tokenizer is NULL", toklip_trt_pipeline_new(w.library, &options, &pipeline));
  options.tokenizer = w.encoder;
  FAILS(TOKLIP_TRT_INVALID, "the same engine", toklip_trt_pipeline_new(w.library, &options, &pipeline));
  options = w.options;
  options.tokens = 5;
  FAILS(TOKLIP_TRT_INVALID, "5 tokens", toklip_trt_pipeline_new(w.library, &options, &pipeline));
  FAILS(TOKLIP_TRT_INVALID, "pipeline is NULL", toklip_trt_pipeline_submit(nullptr, &frame, 1));
  FAILS(TOKLIP_TRT_INVALID, "frames is NULL", toklip_trt_pipeline_submit(w.pipeline, nullptr, 1));
  FAILS(TOKLIP_TRT_INVALID, "results is NULL", toklip_trt_pipeline_wait(w.pipeline, nullptr, 1, nullptr));
  FAILS(TOKLIP_TRT_INVALID, "results is NULL", toklip_trt_pipeline_process(w.pipeline, &frame, 1, nullptr, nullptr));
  FAILS(TOKLIP_TRT_INVALID, "no batch", toklip_trt_pipeline_wait(w.pipeline, &result, 1, nullptr));
  EXPECT(engine == nullptr && build == nullptr && pipeline == nullptr && json == nullptr);

  // What accepts NULL.
  OK(toklip_trt_library_free(nullptr));
  OK(toklip_trt_engine_free(nullptr));
  toklip_trt_pipeline_free(nullptr);
  toklip_trt_build_free(nullptr);
  toklip_trt_build_cancel(nullptr);
  toklip_trt_build_progress(nullptr, nullptr);
  toklip_trt_error_free(nullptr);
  toklip_trt_string_free(nullptr);
  toklip_trt_library_describe(nullptr, nullptr);
  EXPECT(!toklip_trt_log_take(nullptr, nullptr, nullptr, 0, nullptr));
}

void build_options_are_checked() {
  World w;
  const std::string onnx = folder + "/encoder.onnx", plan = folder + "/never.plan";
  const auto refuse = [&](toklip_trt_code code, const char *part, void (*change)(toklip_trt_build_options &)) {
    toklip_trt_build_options o = build_options(onnx, plan);
    change(o);
    toklip_trt_build *build = nullptr;
    FAILS(code, part, toklip_trt_build_new(w.library, &o, &build));
    EXPECT(build == nullptr);
  };
  refuse(TOKLIP_TRT_INVALID, "onnx_path is empty", [](auto &o) { o.onnx_path = nullptr; });
  refuse(TOKLIP_TRT_INVALID, "plan_path is empty", [](auto &o) { o.plan_path = ""; });
  refuse(TOKLIP_TRT_INVALID, "batches of 2, 1, 2", [](auto &o) { o.batch_min = 2; });
  refuse(TOKLIP_TRT_INVALID, "batches of 0, 1, 2", [](auto &o) { o.batch_min = 0; });
  refuse(TOKLIP_TRT_INVALID, "optimization_level is 6", [](auto &o) { o.optimization_level = 6; });
  refuse(TOKLIP_TRT_INVALID, "threads is -1", [](auto &o) { o.threads = -1; });
  refuse(TOKLIP_TRT_INVALID, "compatibility is 7",
         [](auto &o) { o.compatibility = static_cast<toklip_trt_compatibility>(7); });
  refuse(TOKLIP_TRT_INVALID, "compute_capabilities is NULL", [](auto &o) { o.compute_capability_count = 1; });
  refuse(TOKLIP_TRT_UNSUPPORTED, "no DLA", [](auto &o) { o.dla_core = 0; });
  refuse(TOKLIP_TRT_INVALID, "compute_capabilities[0] is 8", [](auto &o) {
    static const int32_t wrong[] = {8};
    o.compute_capabilities = wrong;
    o.compute_capability_count = 1;
  });
  // Files that are no models leave no plan.
  const std::string bad = write("bad.onnx", "no model at all");
  const toklip_trt_build_options o = build_options(bad, plan);
  toklip_trt_build *build = nullptr;
  OK(toklip_trt_build_new(w.library, &o, &build));
  FAILS(TOKLIP_TRT_BAD_MODEL, "", toklip_trt_build_run(build));
  toklip_trt_build_free(build);
  EXPECT(read(plan).empty());
}

void engine_runs() {
  World w;
  const int64_t two[] = {2, 4}, two_one[] = {2, 4, 1}, three[] = {3, 4}, flat[] = {8};
  int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8};
  float features[8] = {}, embedding[8] = {};
  const toklip_trt_tensor input{"ids", TOKLIP_TRT_INT32, two, 2, ids, sizeof ids};
  const toklip_trt_tensor outputs[] = {{"embedding", TOKLIP_TRT_FP32, two, 2, embedding, sizeof embedding},
                                       {"features", TOKLIP_TRT_FP32, two_one, 3, features, sizeof features}};
  OK(toklip_trt_engine_run(w.encoder, &input, 1, outputs, 2));
  for (int i = 0; i < 8; i++) EXPECT(features[i] == static_cast<float>(ids[i]) && embedding[i] == features[i]);

  const auto refuse_input = [&](const char *part, toklip_trt_tensor t) {
    FAILS(TOKLIP_TRT_INVALID, part, toklip_trt_engine_run(w.encoder, &t, 1, outputs, 2));
  };
  refuse_input("\"other\" is none of the engine's", {"other", TOKLIP_TRT_INT32, two, 2, ids, sizeof ids});
  refuse_input("is none of the engine's", {nullptr, TOKLIP_TRT_INT32, two, 2, ids, sizeof ids});
  refuse_input("size is 31 bytes, type and shape need 32", {"ids", TOKLIP_TRT_INT32, two, 2, ids, 31});
  refuse_input("rank is 0", {"ids", TOKLIP_TRT_INT32, two, 0, ids, sizeof ids});
  refuse_input("rank is 9", {"ids", TOKLIP_TRT_INT32, two, 9, ids, sizeof ids});
  refuse_input("shape is NULL", {"ids", TOKLIP_TRT_INT32, nullptr, 2, ids, sizeof ids});
  refuse_input("data is NULL", {"ids", TOKLIP_TRT_INT32, two, 2, nullptr, sizeof ids});
  refuse_input("type is 9", {"ids", static_cast<toklip_trt_type>(9), two, 2, ids, sizeof ids});
  refuse_input("do not fit the engine's int32[?,4]", {"ids", TOKLIP_TRT_FP32, two, 2, ids, sizeof ids});
  refuse_input("do not fit the engine's int32[?,4]", {"ids", TOKLIP_TRT_INT32, flat, 1, ids, sizeof ids});
  int32_t more[12] = {};
  refuse_input("embedding", {"ids", TOKLIP_TRT_INT32, three, 2, more, sizeof more});  // outputs are for two
  const int64_t negative[] = {-2, 4}, huge[] = {int64_t{1} << 62, 4};
  refuse_input("which cannot be", {"ids", TOKLIP_TRT_INT32, negative, 2, ids, sizeof ids});
  refuse_input("which cannot be", {"ids", TOKLIP_TRT_INT32, huge, 2, ids, sizeof ids});
  FAILS(TOKLIP_TRT_INVALID, "0 inputs were given", toklip_trt_engine_run(w.encoder, nullptr, 0, outputs, 2));
  FAILS(TOKLIP_TRT_INVALID, "1 outputs were given", toklip_trt_engine_run(w.encoder, &input, 1, outputs, 1));
  const toklip_trt_tensor twice[] = {outputs[0], outputs[0]};
  FAILS(TOKLIP_TRT_INVALID, "given twice", toklip_trt_engine_run(w.encoder, &input, 1, twice, 2));
}

// No byte of a plan can change without being noticed, nor can its end be missing.
void bad_plans() {
  World w;
  const std::string plan = read(folder + "/encoder.plan");
  EXPECT(plan.size() > 60);
  toklip_trt_engine *engine = nullptr;
  for (size_t i = 0; i < plan.size(); i++) {
    const std::string cut = plan.substr(0, i);
    FAILS(TOKLIP_TRT_BAD_PLAN, "plan", toklip_trt_engine_load(w.library, cut.data(), cut.size(), -1, &engine));
    std::string damaged = plan;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
    FAILS(TOKLIP_TRT_BAD_PLAN, "plan", toklip_trt_engine_load(w.library, damaged.data(), damaged.size(), -1, &engine));
  }
  std::mt19937 random(3);
  for (int i = 0; i < 500; i++) {
    std::string any(1 + random() % 300, '\0');
    for (char &c : any) c = static_cast<char>(random());
    FAILS(TOKLIP_TRT_BAD_PLAN, "plan", toklip_trt_engine_load(w.library, any.data(), any.size(), -1, &engine));
  }
  EXPECT(engine == nullptr);
  // The model changed since.
  write("encoder.onnx", encoder_onnx() + std::string("\x12\x00", 2));
  FAILS(TOKLIP_TRT_BAD_PLAN, "has changed", toklip_trt_engine_load(w.library, plan.data(), plan.size(), -1, &engine));
}

void ordered_faults() {
  const int a[] = {1, 2, 3, 4}, b[] = {4, 3, 2, 1};
  toklip_trt_result r = {};
  {
    World w(2);
    toklip_trt_frame frame = w.frame(a);
    OK(toklip_trt_pipeline_process(w.pipeline, &frame, 1, &r, nullptr));
    order("# twice\nsubmit out-of-memory 2\n\nwait out-of-memory\n");
    frame = w.frame(b);
    FAILS(TOKLIP_TRT_OUT_OF_MEMORY, "ordered", toklip_trt_pipeline_submit(w.pipeline, &frame, 1));
    FAILS(TOKLIP_TRT_OUT_OF_MEMORY, "ordered", toklip_trt_pipeline_submit(w.pipeline, &frame, 1));
    OK(toklip_trt_pipeline_submit(w.pipeline, &frame, 1));
    FAILS(TOKLIP_TRT_OUT_OF_MEMORY, "ordered", toklip_trt_pipeline_wait(w.pipeline, &r, 1, nullptr));
    OK(toklip_trt_pipeline_process(w.pipeline, &frame, 1, &r, nullptr));
    EXPECT(r.fresh && r.encoded && r.ids[0] == 4);
    order("process slow=80\nprocess device-lost");
    const auto began = std::chrono::steady_clock::now();
    OK(toklip_trt_pipeline_process(w.pipeline, &frame, 1, &r, nullptr));
    EXPECT(std::chrono::steady_clock::now() - began >= std::chrono::milliseconds(80));
    FAILS(TOKLIP_TRT_DEVICE_LOST, "ordered", toklip_trt_pipeline_process(w.pipeline, &frame, 1, &r, nullptr));
    FAILS(TOKLIP_TRT_DEVICE_LOST, "ordered", toklip_trt_pipeline_process(w.pipeline, &frame, 1, &r, nullptr));
    FAILS(TOKLIP_TRT_DEVICE_LOST, "ordered", toklip_trt_pipeline_wait(w.pipeline, &r, 1, nullptr));
    toklip_trt_device_info device = {};
    FAILS(TOKLIP_TRT_DEVICE_LOST, "ordered", toklip_trt_device_describe(w.library, &device));
    no_orders();
    // Everything is freed, the device is reset, and a new pipeline works.
    w.free_children();
    OK(toklip_trt_device_reset(w.library));
    w.tokenizer = w.options.tokenizer = load(w.library, read(folder + "/tokenizer.plan"));
    w.encoder = w.options.encoder = load(w.library, read(folder + "/encoder.plan"));
    OK(toklip_trt_pipeline_new(w.library, &w.options, &w.pipeline));
    OK(toklip_trt_pipeline_process(w.pipeline, &frame, 1, &r, nullptr));
    EXPECT(r.fresh && r.ids[0] == 4);
  }
  for (const char *call : {"submit", "wait"}) {
    World w(1, 100);
    toklip_trt_frame frame = w.frame(a);
    OK(toklip_trt_pipeline_process(w.pipeline, &frame, 1, &r, nullptr));
    order(std::string(call) + " hang 1");
    OK(toklip_trt_pipeline_submit(w.pipeline, &frame, 1));
    FAILS(TOKLIP_TRT_TIMEOUT, "within 100 ms", toklip_trt_pipeline_wait(w.pipeline, &r, 1, nullptr));
    FAILS(TOKLIP_TRT_TIMEOUT, "within 100 ms", toklip_trt_pipeline_submit(w.pipeline, &frame, 1));
    no_orders();
    w.free_children();
    OK(toklip_trt_device_reset(w.library));
    toklip_trt_device_info device = {};
    OK(toklip_trt_device_describe(w.library, &device));
  }
  World w;
  toklip_trt_engine *engine = nullptr;
  const std::string plan = read(folder + "/encoder.plan");
  order("load bad-plan\nload wrong-version");
  FAILS(TOKLIP_TRT_BAD_PLAN, "ordered", toklip_trt_engine_load(w.library, plan.data(), plan.size(), -1, &engine));
  FAILS(TOKLIP_TRT_WRONG_VERSION, "ordered", toklip_trt_engine_load(w.library, plan.data(), plan.size(), -1, &engine));
  toklip_trt_library *library = nullptr;
  order("open wrong-version *");
  for (int i = 0; i < 3; i++)
    FAILS(TOKLIP_TRT_WRONG_VERSION, "ordered", toklip_trt_open(TOKLIP_TRT_ABI, nullptr, &library));
  for (const char *line :
       {"submitt out-of-memory", "submit out-of-money", "submit", "submit slow=fast", "submit hang 1 2"}) {
    order(line);
    FAILS(TOKLIP_TRT_INVALID, "is no order", toklip_trt_engine_load(w.library, plan.data(), plan.size(), -1, &engine));
  }
  no_orders();
  engine = load(w.library, plan);
  OK(toklip_trt_engine_free(engine));
}

void cancelled_build() {
  World w;
  const std::string plan = folder + "/cancelled.plan", onnx = folder + "/encoder.onnx";
  const toklip_trt_build_options o = build_options(onnx, plan);
  toklip_trt_build *build = nullptr;
  order("build hang");
  OK(toklip_trt_build_new(w.library, &o, &build));
  std::thread canceller([&] {
    toklip_trt_progress progress = {};
    while (std::strcmp(progress.phase, "choosing kernels") != 0) toklip_trt_build_progress(build, &progress);
    toklip_trt_build_cancel(build);
  });
  FAILS(TOKLIP_TRT_CANCELLED, "cancelled", toklip_trt_build_run(build));
  canceller.join();
  toklip_trt_build_free(build);
  no_orders();
  EXPECT(read(plan).empty());
}

}  // namespace
}  // namespace toklip

int main() {
  using namespace toklip;
  char pattern[] = "/tmp/toklip-abi-XXXXXX";
  if (mkdtemp(pattern) == nullptr) return 1;
  folder = pattern;
  const Case cases[] = {{"end to end", end_to_end},
                        {"descriptions", descriptions},
                        {"children before parents", children_before_parents},
                        {"NULL and wrong arguments", null_and_wrong_arguments},
                        {"build options are checked", build_options_are_checked},
                        {"engine runs", engine_runs},
                        {"bad plans", bad_plans},
                        {"ordered faults", ordered_faults},
                        {"cancelled build", cancelled_build}};
  const int code = run_cases(cases);
  return std::system(("rm -r " + folder).c_str()) == 0 ? code : 1;
}
