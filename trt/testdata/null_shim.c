/*
 * A shim that does nothing, for the benchmarks of the binding: what a call costs when nothing is behind it. Its results
 * are as large as the full model's at 256 pixels.
 */
#include <stdlib.h>
#include <string.h>

#include "toklip_trt.h"

enum { kTokens = 256, kDim = 1152 };

static int library, build, engine, pipeline;
static int32_t ids[kTokens];
static uint8_t packed[448];
static uint64_t changed[4];
static float features[kTokens * kDim], embedding[kDim];

uint32_t toklip_trt_abi(void) { return TOKLIP_TRT_ABI; }
toklip_trt_code toklip_trt_error_code(const toklip_trt_error *e) { return (void)e, TOKLIP_TRT_INTERNAL; }
const char *toklip_trt_error_message(const toklip_trt_error *e) { return (void)e, ""; }
void toklip_trt_error_free(toklip_trt_error *e) { (void)e; }
void toklip_trt_string_free(char *s) { free(s); }

toklip_trt_error *toklip_trt_open(uint32_t abi, const toklip_trt_open_options *o, toklip_trt_library **out) {
  (void)abi, (void)o;
  *out = (toklip_trt_library *)&library;
  return NULL;
}
toklip_trt_error *toklip_trt_library_free(toklip_trt_library *l) { return (void)l, NULL; }
void toklip_trt_library_describe(const toklip_trt_library *l, toklip_trt_library_info *out) {
  (void)l;
  memset(out, 0, sizeof *out);
  strcpy(out->family, "null");
}
bool toklip_trt_log_take(toklip_trt_library *l, toklip_trt_severity *s, char *text, size_t size, uint64_t *dropped) {
  (void)l, (void)s, (void)text, (void)size;
  *dropped = 0;
  return false;
}
toklip_trt_error *toklip_trt_device_describe(toklip_trt_library *l, toklip_trt_device_info *out) {
  (void)l;
  memset(out, 0, sizeof *out);
  return NULL;
}
toklip_trt_error *toklip_trt_device_reset(toklip_trt_library *l) { return (void)l, NULL; }

toklip_trt_error *toklip_trt_build_new(toklip_trt_library *l, const toklip_trt_build_options *o, toklip_trt_build **out) {
  (void)l, (void)o;
  *out = (toklip_trt_build *)&build;
  return NULL;
}
toklip_trt_error *toklip_trt_build_run(toklip_trt_build *b) { return (void)b, NULL; }
void toklip_trt_build_progress(const toklip_trt_build *b, toklip_trt_progress *out) {
  (void)b;
  memset(out, 0, sizeof *out);
}
void toklip_trt_build_cancel(toklip_trt_build *b) { (void)b; }
void toklip_trt_build_free(toklip_trt_build *b) { (void)b; }
toklip_trt_error *toklip_trt_network_describe(toklip_trt_library *l, const char *path, char **json) {
  (void)l, (void)path;
  *json = strdup("{}");
  return NULL;
}

toklip_trt_error *toklip_trt_engine_load(toklip_trt_library *l, const void *plan, size_t size, int32_t dla,
                                         toklip_trt_engine **out) {
  (void)l, (void)plan, (void)size, (void)dla;
  *out = (toklip_trt_engine *)&engine;
  return NULL;
}
toklip_trt_error *toklip_trt_engine_free(toklip_trt_engine *e) { return (void)e, NULL; }
toklip_trt_error *toklip_trt_engine_layers(toklip_trt_engine *e, char **json) {
  (void)e;
  *json = strdup("{}");
  return NULL;
}
toklip_trt_error *toklip_trt_engine_run(toklip_trt_engine *e, const toklip_trt_tensor *in, size_t ins,
                                        const toklip_trt_tensor *out, size_t outs) {
  (void)e, (void)in, (void)ins, (void)out, (void)outs;
  return NULL;
}

toklip_trt_error *toklip_trt_pipeline_new(toklip_trt_library *l, const toklip_trt_pipeline_options *o,
                                          toklip_trt_pipeline **out) {
  (void)l, (void)o;
  *out = (toklip_trt_pipeline *)&pipeline;
  return NULL;
}
void toklip_trt_pipeline_free(toklip_trt_pipeline *p) { (void)p; }

/* The first byte of the last batch's first frame, so that the benchmark can tell that its pixels arrived. */
static int32_t first;

toklip_trt_error *toklip_trt_pipeline_submit(toklip_trt_pipeline *p, const toklip_trt_frame *frames, size_t count) {
  (void)p, (void)count;
  first = *(const uint8_t *)frames[0].data;
  return NULL;
}
toklip_trt_error *toklip_trt_pipeline_wait(toklip_trt_pipeline *p, toklip_trt_result *results, size_t count,
                                           toklip_trt_times *times) {
  (void)p;
  ids[0] = first;
  for (size_t i = 0; i < count; i++) {
    toklip_trt_result r = {ids, packed, sizeof packed, changed, 0, false, true, features, embedding, embedding};
    results[i] = r;
  }
  memset(times, 0, sizeof *times);
  return NULL;
}
toklip_trt_error *toklip_trt_pipeline_process(toklip_trt_pipeline *p, const toklip_trt_frame *frames, size_t count,
                                              toklip_trt_result *results, toklip_trt_times *times) {
  toklip_trt_error *e = toklip_trt_pipeline_submit(p, frames, count);
  return e ? e : toklip_trt_pipeline_wait(p, results, count, times);
}
