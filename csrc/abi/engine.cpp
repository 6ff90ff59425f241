#include "abi/handles.h"
#include "abi/run.h"

using toklip::check_pointer;
using toklip::Current;
using toklip::fail;
using toklip::guard;

toklip_trt_error *toklip_trt_engine_load(toklip_trt_library *library, const void *plan, size_t size, int32_t dla_core,
                                         toklip_trt_engine **out) {
  return guard([&] {
    check_pointer("library", library);
    check_pointer("plan", plan);
    check_pointer("out", out);
    if (size == 0) fail(TOKLIP_TRT_BAD_PLAN, "the plan is empty");
    if (dla_core < -1) fail(TOKLIP_TRT_INVALID, "dla_core is %d, must be -1 or more", dla_core);
    library->runtime->entering("load");
    library->runtime->check_plan(plan, size);  // before the device: a bad plan is bad without one
    auto handle = std::make_unique<toklip_trt_engine>();
    handle->library = library;
    handle->device = library->runtime->device();
    Current current(*handle->device);
    handle->engine = library->runtime->load_engine(plan, size, dla_core);
    library->engines++;
    *out = handle.release();
  });
}

toklip_trt_error *toklip_trt_engine_free(toklip_trt_engine *engine) {
  return guard([&] {
    if (engine == nullptr) return;
    if (engine->pipelines > 0) {
      fail(TOKLIP_TRT_BUSY, "the engine still has %d pipelines: free them first", engine->pipelines.load());
    }
    toklip_trt_library *library = engine->library;
    const auto device = engine->device;
    {
      Current current(*device, std::nothrow);
      delete engine;
    }
    library->engines--;
  });
}

toklip_trt_error *toklip_trt_engine_layers(toklip_trt_engine *engine, char **json) {
  return guard([&] {
    check_pointer("engine", engine);
    check_pointer("json", json);
    engine->library->runtime->entering("layers");
    Current current(*engine->device);
    *json = toklip::new_string(engine->engine->layers());
  });
}

toklip_trt_error *toklip_trt_engine_run(toklip_trt_engine *engine, const toklip_trt_tensor *inputs, size_t input_count,
                                        const toklip_trt_tensor *outputs, size_t output_count) {
  return guard([&] {
    check_pointer("engine", engine);
    if (input_count > 0) check_pointer("inputs", inputs);
    if (output_count > 0) check_pointer("outputs", outputs);
    engine->library->runtime->entering("run");
    Current current(*engine->device);
    toklip::run_engine(engine->device, engine->engine, inputs, input_count, outputs, output_count);
  });
}
