#include "abi/handles.h"

using toklip::check_pointer;
using toklip::empty_if_null;
using toklip::fail;
using toklip::guard;

namespace {

void check_path(const char *name, const char *path) {
  if (path == nullptr || *path == '\0') fail(TOKLIP_TRT_INVALID, "%s is empty", name);
}

void check(const toklip_trt_build_options &o) {
  check_path("onnx_path", o.onnx_path);
  check_path("plan_path", o.plan_path);
  if (o.batch_min < 1 || o.batch_opt < o.batch_min || o.batch_max < o.batch_opt || o.batch_max > 1024) {
    fail(TOKLIP_TRT_INVALID, "batches of %d, %d, %d: batch_min, batch_opt, batch_max must not fall and be 1 to 1024",
         o.batch_min, o.batch_opt, o.batch_max);
  }
  if (o.optimization_level < -1 || o.optimization_level > 5) {
    fail(TOKLIP_TRT_INVALID, "optimization_level is %d, must be -1 to 5", o.optimization_level);
  }
  if (o.threads < 0) fail(TOKLIP_TRT_INVALID, "threads is %d, must be 0 or more", o.threads);
  if (o.dla_core < -1) fail(TOKLIP_TRT_INVALID, "dla_core is %d, must be -1 or more", o.dla_core);
  const int compatibility = o.compatibility;
  if (compatibility < TOKLIP_TRT_THIS_DEVICE || compatibility > TOKLIP_TRT_AMPERE_PLUS) {
    fail(TOKLIP_TRT_INVALID, "compatibility is %d, must be %d to %d", compatibility, TOKLIP_TRT_THIS_DEVICE,
         TOKLIP_TRT_AMPERE_PLUS);
  }
  if (o.compute_capability_count > 0) check_pointer("compute_capabilities", o.compute_capabilities);
  for (size_t i = 0; i < o.compute_capability_count; i++) {
    const int32_t sm = o.compute_capabilities[i];
    if (sm < 50 || sm > 999) {
      fail(TOKLIP_TRT_INVALID, "compute_capabilities[%zu] is %d, 8.6 for instance is written 86", i, sm);
    }
  }
}

}  // namespace

toklip_trt_build_options toklip_trt_build_options_default(void) {
  toklip_trt_build_options o = {};
  o.batch_min = o.batch_opt = o.batch_max = 1;
  o.optimization_level = -1;
  o.dla_core = -1;
  o.compatibility = TOKLIP_TRT_THIS_DEVICE;
  return o;
}

toklip_trt_error *toklip_trt_build_new(toklip_trt_library *library, const toklip_trt_build_options *options,
                                       toklip_trt_build **out) {
  return guard([&] {
    check_pointer("library", library);
    check_pointer("options", options);
    check_pointer("out", out);
    check(*options);
    toklip_trt_build_options o = *options;
    for (const char **path : {&o.timing_cache_path, &o.layers_path}) empty_if_null(*path);
    auto handle = std::make_unique<toklip_trt_build>();
    handle->library = library;
    handle->build = library->runtime->new_build(o);
    library->builds++;
    *out = handle.release();
  });
}

toklip_trt_error *toklip_trt_build_run(toklip_trt_build *build) {
  return guard([&] {
    check_pointer("build", build);
    if (build->ran) fail(TOKLIP_TRT_INVALID, "the build ran already: make a new one");
    build->ran = true;
    build->library->runtime->entering("build");
    build->build->run();
  });
}

void toklip_trt_build_progress(const toklip_trt_build *build, toklip_trt_progress *out) {
  if (out == nullptr) return;
  *out = toklip_trt_progress{};
  if (build != nullptr) build->build->progress(out);
}

void toklip_trt_build_cancel(toklip_trt_build *build) {
  if (build != nullptr) build->build->cancel();
}

void toklip_trt_build_free(toklip_trt_build *build) {
  if (build == nullptr) return;
  toklip_trt_library *library = build->library;
  delete build;
  library->builds--;
}

toklip_trt_error *toklip_trt_network_describe(toklip_trt_library *library, const char *onnx_path, char **json) {
  return guard([&] {
    check_pointer("library", library);
    check_pointer("json", json);
    check_path("onnx_path", onnx_path);
    library->runtime->entering("network");
    *json = toklip::new_string(library->runtime->describe_network(onnx_path));
  });
}
