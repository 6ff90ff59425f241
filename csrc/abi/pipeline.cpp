#include "pipeline/pipeline.h"

#include "abi/handles.h"

using toklip::check_pointer;
using toklip::Current;
using toklip::fail;
using toklip::guard;
using toklip::Pipeline;

toklip_trt_pipeline_options toklip_trt_pipeline_options_default(void) {
  toklip_trt_pipeline_options o = {};
  for (int i = 0; i < 3; i++) o.mean[i] = o.std[i] = 0.5f;
  o.batch_max = 1;
  o.streams_max = 64;
  o.in_flight = 1;
  o.cuda_graph = true;
  o.kernels = true;
  o.timeout_ms = 10000;
  return o;
}

toklip_trt_error *toklip_trt_pipeline_new(toklip_trt_library *library, const toklip_trt_pipeline_options *options,
                                          toklip_trt_pipeline **out) {
  return guard([&] {
    check_pointer("library", library);
    check_pointer("options", options);
    check_pointer("out", out);
    toklip_trt_engine *tokenizer = options->tokenizer, *encoder = options->encoder;
    check_pointer("tokenizer", tokenizer);
    if (tokenizer == encoder) fail(TOKLIP_TRT_INVALID, "tokenizer and encoder are the same engine");
    for (const toklip_trt_engine *e : {tokenizer, encoder}) {
      if (e != nullptr && e->library != library) fail(TOKLIP_TRT_INVALID, "an engine is of another library");
    }
    library->runtime->entering("pipeline");
    auto handle = std::make_unique<toklip_trt_pipeline>();
    handle->library = library;
    handle->device = tokenizer->device;
    handle->tokenizer = tokenizer;
    handle->encoder = encoder;
    Current current(*handle->device);
    handle->pipeline =
        std::make_unique<Pipeline>(handle->device, library->runtime->new_kernels(options->kernels), tokenizer->engine,
                                   encoder != nullptr ? encoder->engine : nullptr, *options, library->runtime->log());
    tokenizer->pipelines++;
    if (encoder != nullptr) encoder->pipelines++;
    library->pipelines++;
    *out = handle.release();
  });
}

void toklip_trt_pipeline_free(toklip_trt_pipeline *pipeline) {
  if (pipeline == nullptr) return;
  {
    Current current(*pipeline->device, std::nothrow);
    Pipeline::close(std::move(pipeline->pipeline));
  }
  pipeline->tokenizer->pipelines--;
  if (pipeline->encoder != nullptr) pipeline->encoder->pipelines--;
  pipeline->library->pipelines--;
  delete pipeline;
}

toklip_trt_error *toklip_trt_pipeline_submit(toklip_trt_pipeline *pipeline, const toklip_trt_frame *frames,
                                             size_t count) {
  return guard([&] {
    check_pointer("pipeline", pipeline);
    check_pointer("frames", frames);
    pipeline->library->runtime->entering("submit");
    Current current(*pipeline->device);
    pipeline->pipeline->submit(frames, count);
  });
}

toklip_trt_error *toklip_trt_pipeline_wait(toklip_trt_pipeline *pipeline, toklip_trt_result *results, size_t count,
                                           toklip_trt_times *times) {
  return guard([&] {
    check_pointer("pipeline", pipeline);
    check_pointer("results", results);
    pipeline->library->runtime->entering("wait");
    Current current(*pipeline->device);
    pipeline->pipeline->wait(results, count, times);
  });
}

toklip_trt_error *toklip_trt_pipeline_process(toklip_trt_pipeline *pipeline, const toklip_trt_frame *frames,
                                              size_t count, toklip_trt_result *results, toklip_trt_times *times) {
  return guard([&] {
    check_pointer("pipeline", pipeline);
    check_pointer("frames", frames);
    check_pointer("results", results);
    pipeline->library->runtime->entering("process");
    Current current(*pipeline->device);
    pipeline->pipeline->process(frames, count, results, times);
  });
}
