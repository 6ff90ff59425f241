/*
 * toklip_trt: TensorRT for toklip, behind a plain C ABI.
 *
 * One shared object exists per ABI family of TensorRT (8, 10, 11 and TensorRT for RTX); all have this
 * interface. TensorRT, its ONNX parser and the CUDA driver are opened at run time by toklip_trt_open, so
 * that the object loads on any machine and says what is missing.
 *
 *     toklip_trt_library *lib;
 *     toklip_trt_error *err = toklip_trt_open(TOKLIP_TRT_ABI, NULL, &lib);
 *     if (err) { fputs(toklip_trt_error_message(err), stderr); toklip_trt_error_free(err); return 1; }
 *
 *     toklip_trt_build_options bo = toklip_trt_build_options_default();      // ONNX file -> plan file
 *     bo.onnx_path = "tokenizer.fp16.onnx"; bo.plan_path = "tokenizer.plan";
 *     toklip_trt_build *build;
 *     toklip_trt_build_new(lib, &bo, &build); toklip_trt_build_run(build); toklip_trt_build_free(build);
 *
 *     toklip_trt_engine_load(lib, plan, plan_size, -1, &tokenizer);          // plan -> engine
 *     toklip_trt_pipeline_options po = toklip_trt_pipeline_options_default();
 *     po.tokenizer = tokenizer; ...
 *     toklip_trt_pipeline_new(lib, &po, &pipeline);
 *     toklip_trt_pipeline_process(pipeline, frames, n, results, &times);     // one call a frame
 *
 * Rules that hold for every function:
 *   - A call that can fail returns an error object, NULL is success. The caller frees it with
 *     toklip_trt_error_free. On an error no out-parameter is written, unless said otherwise.
 *   - Handles are freed by the function named with them, which accepts NULL. Children go before their
 *     parents: freeing a library or an engine that is still used fails with TOKLIP_TRT_BUSY.
 *   - Strings given in are copied. Memory given in is read during the call only, unless said otherwise.
 *   - A handle is used by one thread at a time, except where a function says "any thread". Different handles
 *     may be used at once. No function depends on which thread calls it: each makes the device's context
 *     current and puts back what was.
 *   - No C++ exception leaves, nothing is printed, nothing ends the process.
 */
#ifndef TOKLIP_TRT_H
#define TOKLIP_TRT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TOKLIP_TRT_API __attribute__((visibility("default")))
#define TOKLIP_TRT_MUST_USE __attribute__((warn_unused_result))
#else
#define TOKLIP_TRT_API
#define TOKLIP_TRT_MUST_USE
#endif

/* Version of this interface. It rises with every change that an older caller would not survive. */
#define TOKLIP_TRT_ABI 1u

/* The version the shared object was made with. Compare it before anything else. Any thread. */
TOKLIP_TRT_API uint32_t toklip_trt_abi(void);

/* ---- errors ------------------------------------------------------------------------------------------- */

typedef struct toklip_trt_error toklip_trt_error;

typedef enum toklip_trt_code {
  TOKLIP_TRT_INVALID = 1,       /* an argument cannot be; the message names it and its value */
  TOKLIP_TRT_ABI_MISMATCH = 2,  /* caller and shared object are of different versions */
  TOKLIP_TRT_NO_LIBRARY = 3,    /* TensorRT, its parser or something they need is not installed */
  TOKLIP_TRT_WRONG_VERSION = 4, /* TensorRT is there, of a family or version this object cannot drive */
  TOKLIP_TRT_NO_DEVICE = 5,     /* no driver, or no GPU it can use */
  TOKLIP_TRT_OUT_OF_MEMORY = 6, /* of the host or the GPU; the handle stays usable */
  TOKLIP_TRT_DEVICE_LOST = 7,   /* a CUDA error that sticks: all of the device's handles are dead, see device_reset */
  TOKLIP_TRT_TIMEOUT = 8,       /* the GPU did not finish in time; the pipeline is dead */
  TOKLIP_TRT_BAD_PLAN = 9,      /* a plan that is damaged, foreign or of another version */
  TOKLIP_TRT_BAD_MODEL = 10,    /* an ONNX file that TensorRT refuses; the message is its first error */
  TOKLIP_TRT_UNSUPPORTED = 11,  /* this TensorRT or GPU cannot do what an option asks for */
  TOKLIP_TRT_CANCELLED = 12,    /* by toklip_trt_build_cancel */
  TOKLIP_TRT_BUSY = 13,         /* the handle still has users, or all batches are under way */
  TOKLIP_TRT_FILE = 14,         /* a file cannot be read or written; the message has path and reason */
  TOKLIP_TRT_INTERNAL = 15      /* anything else; the message is the first error that was logged */
} toklip_trt_code;

TOKLIP_TRT_API toklip_trt_code toklip_trt_error_code(const toklip_trt_error *error);
/* The text lives as long as the error. One or more sentences, no line break. */
TOKLIP_TRT_API const char *toklip_trt_error_message(const toklip_trt_error *error);
TOKLIP_TRT_API void toklip_trt_error_free(toklip_trt_error *error);

/* Frees a string that a function of this header gave out. */
TOKLIP_TRT_API void toklip_trt_string_free(char *string);

/* ---- library ------------------------------------------------------------------------------------------ */

typedef struct toklip_trt_library toklip_trt_library;

/* Where libraries lie. NULL or an empty text: found by their soname. */
typedef struct toklip_trt_open_options {
  const char *nvinfer; /* path of libnvinfer or libtensorrt_rtx */
  const char *parser;  /* path of its ONNX parser; opened when something is built */
  const char *cuda;    /* path of libcuda */
  int32_t device;      /* ordinal of the GPU, 0 by default */
  bool cpu_only;       /* TensorRT 10: parse without a GPU (for checks; building is impossible then) */
} toklip_trt_open_options;

TOKLIP_TRT_API toklip_trt_open_options toklip_trt_open_options_default(void);

/*
 * Opens TensorRT and checks that this object can drive it. No GPU is needed and none is looked for.
 * abi is TOKLIP_TRT_ABI of the caller; options may be NULL. Free with toklip_trt_library_free.
 */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_open(uint32_t abi,
                                                                     const toklip_trt_open_options *options,
                                                                     toklip_trt_library **out);
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_library_free(toklip_trt_library *library);

typedef struct toklip_trt_library_info {
  char family[8]; /* "trt8", "trt10", "trt11", "rtx"; "test" for the implementation that tests use */
  char path[512]; /* of the TensorRT library that was opened */
  int32_t major, minor, patch, build;                  /* of the library; build is 0 where it does not tell */
  int32_t headers_major, headers_minor, headers_patch; /* of what this object was compiled with */
  char kernels[128]; /* GPUs whose kernels are inside, such as "sm_72 sm_87"; empty: none, the CPU does their work */
} toklip_trt_library_info;

TOKLIP_TRT_API void toklip_trt_library_describe(const toklip_trt_library *library, toklip_trt_library_info *out);

typedef enum toklip_trt_severity {
  TOKLIP_TRT_LOG_ERROR = 1,
  TOKLIP_TRT_LOG_WARNING = 2,
  TOKLIP_TRT_LOG_INFO = 3,
  TOKLIP_TRT_LOG_DEBUG = 4
} toklip_trt_severity;

/*
 * Takes the oldest line that TensorRT or this object logged. Returns false when there is none. At most 1024
 * wait, later ones push out the oldest; dropped counts those since the last call. text is cut to its size and
 * ends in NUL. Any thread.
 */
TOKLIP_TRT_API bool toklip_trt_log_take(toklip_trt_library *library, toklip_trt_severity *severity, char *text,
                                        size_t size, uint64_t *dropped);

/* ---- device ------------------------------------------------------------------------------------------- */

typedef struct toklip_trt_device_info {
  char name[256];        /* as the driver calls it, such as "Orin" */
  int32_t sm;            /* compute capability times ten: 87 is sm_87 */
  int32_t driver;        /* CUDA version of the driver, 12060 is 12.6 */
  int32_t dla_cores;     /* that this TensorRT can use */
  bool integrated;       /* shares its memory with the CPU: frames are read in place, nothing is copied */
  bool kernels;          /* pre-processing, search and comparison run on the GPU, not on the CPU */
  uint64_t memory_total; /* bytes */
  uint64_t memory_free;  /* bytes, as the driver counts; on an integrated GPU ask /proc/meminfo */
} toklip_trt_device_info;

/* Looks for the GPU; the driver is asked before TensorRT or CUDA. TOKLIP_TRT_NO_DEVICE without one. */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_device_describe(toklip_trt_library *library,
                                                                                toklip_trt_device_info *out);

/*
 * After TOKLIP_TRT_DEVICE_LOST or TOKLIP_TRT_TIMEOUT, with every pipeline and engine freed: throws the CUDA context
 * away, so that the next handle gets a fresh one. TOKLIP_TRT_BUSY while there are handles. May fail: some
 * errors last as long as the process.
 */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_device_reset(toklip_trt_library *library);

/* ---- build: ONNX file -> plan file -------------------------------------------------------------------- */

typedef enum toklip_trt_compatibility {
  TOKLIP_TRT_THIS_DEVICE = 0,               /* a plan for this very GPU */
  TOKLIP_TRT_SAME_CAPABILITY = 1,           /* for GPUs of the same compute capability (10.9 and later) */
  TOKLIP_TRT_AMPERE_PLUS = 2,               /* for Ampere and newer (8.6 and later; not on Jetson) */
  TOKLIP_TRT_COMPATIBILITY_INT = 0x7fffffff /* none; makes any int a value that can be checked */
} toklip_trt_compatibility;

typedef struct toklip_trt_build_options {
  const char *onnx_path;         /* weights lie beside it */
  const char *plan_path;         /* written when all went well; an existing file is replaced */
  const char *timing_cache_path; /* read if it is there, written afterwards; NULL: none */
  const char *layers_path;       /* JSON of the engine inspector is written there, if a device is there; NULL: not */
  int32_t batch_min, batch_opt, batch_max; /* of the first dimension of every input; 1, 1, 1 */
  uint64_t workspace_bytes;                /* 0: TensorRT's own limit */
  int32_t optimization_level;              /* 0 to 5, -1: TensorRT's own; 8.6 and later */
  int32_t threads;                         /* 0: TensorRT's own */
  int32_t dla_core;                        /* -1: none; else what can runs there, the rest on the GPU */
  bool fp16; /* TensorRT 8 only, whose networks are not strongly typed: allow FP16 where the graph says so */
  bool version_compatible; /* a plan that later versions of this major can read too (8.6 and later) */
  toklip_trt_compatibility compatibility;
  const int32_t *compute_capabilities; /* RTX: such as {86, 89}; NULL: portable. Read during toklip_trt_build_new */
  size_t compute_capability_count;
} toklip_trt_build_options;

TOKLIP_TRT_API toklip_trt_build_options toklip_trt_build_options_default(void);

typedef struct toklip_trt_build toklip_trt_build;

/* Checks the options. Nothing is read or built yet. */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_build_new(toklip_trt_library *library,
                                                                          const toklip_trt_build_options *options,
                                                                          toklip_trt_build **out);
/* Parses and builds; takes seconds to many minutes. Called once. On an error no plan is left. */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_build_run(toklip_trt_build *build);

typedef struct toklip_trt_progress {
  char phase[128]; /* what TensorRT is doing, in its words; empty before it begins */
  double fraction; /* of the whole, 0 to 1, never falling; negative: this TensorRT does not tell (8.x) */
} toklip_trt_progress;

/* How far toklip_trt_build_run is. Any thread, meanwhile. */
TOKLIP_TRT_API void toklip_trt_build_progress(const toklip_trt_build *build, toklip_trt_progress *out);
/* Asks toklip_trt_build_run to return TOKLIP_TRT_CANCELLED soon. TensorRT 8 cannot; end the process there. Any thread. */
TOKLIP_TRT_API void toklip_trt_build_cancel(toklip_trt_build *build);
/* Not while toklip_trt_build_run is running. */
TOKLIP_TRT_API void toklip_trt_build_free(toklip_trt_build *build);

/*
 * Parses an ONNX file and describes the network as JSON: {"inputs":[{"name","type","shape"}],"outputs":[...],
 * "layers":N}; type is "fp32", "fp16", "int32", "int8", "uint8", "bool" or "int64". Free it with toklip_trt_string_free.
 */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_network_describe(toklip_trt_library *library,
                                                                                 const char *onnx_path, char **json);

/* ---- engine: a plan on the GPU ------------------------------------------------------------------------ */

typedef struct toklip_trt_engine toklip_trt_engine;

/* plan is read during the call only. dla_core as when it was built. */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_engine_load(toklip_trt_library *library,
                                                                            const void *plan, size_t size,
                                                                            int32_t dla_core, toklip_trt_engine **out);
/* TOKLIP_TRT_BUSY while a pipeline uses it. */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_engine_free(toklip_trt_engine *engine);

/* The engine inspector's JSON. Free it with toklip_trt_string_free. */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_engine_layers(toklip_trt_engine *engine, char **json);

typedef enum toklip_trt_type {
  TOKLIP_TRT_FP32 = 1,
  TOKLIP_TRT_FP16 = 2,
  TOKLIP_TRT_INT32 = 3,
  TOKLIP_TRT_TYPE_INT = 0x7fffffff /* none; makes any int a value that can be checked */
} toklip_trt_type;

typedef struct toklip_trt_tensor {
  const char *name; /* of the engine's input or output */
  toklip_trt_type type;
  const int64_t *shape;
  int32_t rank; /* 1 to 8 */
  void *data;   /* host memory, dense, row by row */
  size_t size;  /* bytes of it; must be what type and shape need */
} toklip_trt_tensor;

/*
 * Runs the engine once on host memory, copying in and out, and waits. For the decoder and for checks; frames go
 * through a pipeline. Inputs and outputs must be all that the engine has. An engine that a pipeline uses may be
 * run too, while no batch is under way.
 */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_engine_run(toklip_trt_engine *engine,
                                                                           const toklip_trt_tensor *inputs,
                                                                           size_t input_count,
                                                                           const toklip_trt_tensor *outputs,
                                                                           size_t output_count);

/* ---- pipeline: frames -> ids, features, embeddings ---------------------------------------------------- */

typedef struct toklip_trt_pipeline toklip_trt_pipeline;

typedef struct toklip_trt_pipeline_options {
  toklip_trt_engine *tokenizer; /* image [B,3,S,S] fp32 or fp16 -> latents fp32 [B,C,R,C'] or ids int32 [B,N] */
  toklip_trt_engine *encoder;   /* ids int32 [B,N] -> features fp32 [B,N,D], embedding fp32 [B,E]; NULL: tokens only */
  int32_t image_size;           /* S, pixels */
  int32_t tokens;               /* N of a frame */
  int32_t feature_dim;          /* D; 0 without encoder */
  int32_t embedding_dim;        /* E; 0 without encoder */
  const float *codebook;        /* [codebook_size, codebook_dim], any length of its vectors; needed with latents */
  int32_t codebook_size;
  int32_t codebook_dim;
  float mean[3], std[3]; /* of R, G, B in [0,1] */
  int32_t batch_max;     /* most frames in one batch; the engines' profiles must allow it */
  int32_t streams_max;   /* stream numbers are below it; 64 */
  int32_t in_flight;     /* 1, or 2: the tokenizer of the next batch runs under the encoder of this one */
  bool cuda_graph;       /* capture each batch size after its first run; falls back by itself */
  bool kernels;          /* use the CUDA kernels where they fit the GPU; else the CPU does their work */
  uint32_t timeout_ms;   /* longest wait for a batch; 10000 */
} toklip_trt_pipeline_options;

TOKLIP_TRT_API toklip_trt_pipeline_options toklip_trt_pipeline_options_default(void);

/* The engines must outlive the pipeline. The codebook is copied. */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_pipeline_new(toklip_trt_library *library,
                                                                             const toklip_trt_pipeline_options *options,
                                                                             toklip_trt_pipeline **out);
/* Waits for batches under way, as long as timeout_ms each at most. */
TOKLIP_TRT_API void toklip_trt_pipeline_free(toklip_trt_pipeline *pipeline);

typedef enum toklip_trt_pixels {
  TOKLIP_TRT_BGR = 1,                /* 3 bytes a pixel */
  TOKLIP_TRT_RGB = 2,                /* 3 bytes a pixel */
  TOKLIP_TRT_BGRX = 3,               /* 4 bytes a pixel, the fourth is ignored */
  TOKLIP_TRT_GRAY = 4,               /* 1 byte a pixel */
  TOKLIP_TRT_NV12 = 5,               /* a plane of Y, then at stride*height a plane of U,V pairs of half the height */
  TOKLIP_TRT_YUYV = 6,               /* 4 bytes for 2 pixels: Y0 U Y1 V */
  TOKLIP_TRT_IMAGE = 7,              /* no picture but the network's own input: fp32 [3,S,S], normalised, dense */
  TOKLIP_TRT_PIXELS_INT = 0x7fffffff /* none; makes any int a value that can be checked */
} toklip_trt_pixels;

typedef enum toklip_trt_resize {
  TOKLIP_TRT_SQUASH = 1,             /* to S x S */
  TOKLIP_TRT_SHORTEST = 2,           /* shorter edge to S, the middle cut out */
  TOKLIP_TRT_LONGEST = 3,            /* longer edge to S, the rest filled with 0 */
  TOKLIP_TRT_RESIZE_INT = 0x7fffffff /* none; makes any int a value that can be checked */
} toklip_trt_resize;

typedef struct toklip_trt_frame {
  const void *data; /* read until submit or process returns */
  size_t size;      /* bytes */
  int32_t width, height;
  int32_t stride; /* bytes from one row to the next */
  toklip_trt_pixels pixels;
  toklip_trt_resize resize;
  int32_t stream; /* whose frame it is: ids are compared with the stream's frame before; no stream twice in a batch */
  bool fresh;     /* compare with nothing: as if the stream had no frame before */
} toklip_trt_frame;

typedef struct toklip_trt_result {
  const int32_t *ids;    /* [N] */
  const uint8_t *packed; /* ids packed with ceil(log2(codebook_size)) bits each, little-endian bit order */
  size_t packed_size;    /* bytes: ceil(N*bits/8) */
  const uint64_t
      *changed; /* [ceil(N/64)] bit i of word i/64: id i differs from the stream's frame before; all N if fresh */
  int32_t changed_count;  /* of bits set */
  bool fresh;             /* there was nothing to compare with */
  bool encoded;           /* the encoder ran for this frame; if not, the three below are NULL */
  const float *features;  /* [N,D] */
  const float *embedding; /* [E] as the model gives it */
  const float *unit;      /* [E] the embedding at length 1 */
} toklip_trt_result;

/* GPU times of one batch, microseconds, from events; 0 where something did not run or is part of another. */
typedef struct toklip_trt_times {
  float upload, preprocess, tokenizer, search, encoder, download;
  float total; /* from the first command to the last */
  bool graph;  /* ran as a CUDA graph */
} toklip_trt_times;

/*
 * Begins a batch of count frames, 1 to batch_max. Returns once the pixels were read and the work is enqueued.
 * TOKLIP_TRT_BUSY if in_flight batches are under way. Batches end in their order. On an error the batch has not begun; a
 * frame that cannot be makes TOKLIP_TRT_INVALID, naming it, and no frame of the batch is handled.
 * May be called by one thread while another is in toklip_trt_pipeline_wait.
 */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_pipeline_submit(toklip_trt_pipeline *pipeline,
                                                                                const toklip_trt_frame *frames,
                                                                                size_t count);
/*
 * Waits for the oldest batch under way and tells what came of it: results has room for its count frames. What results
 * point to belongs to the pipeline and holds until the next wait, process or free. times may be NULL. On an error the batch
 * is gone, and streams of it have no frame before. TOKLIP_TRT_INVALID, with nothing done, if no batch is under way or
 * count is too small.
 */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_pipeline_wait(toklip_trt_pipeline *pipeline,
                                                                              toklip_trt_result *results, size_t count,
                                                                              toklip_trt_times *times);
/* Both in one call. TOKLIP_TRT_BUSY if a batch is under way. */
TOKLIP_TRT_API TOKLIP_TRT_MUST_USE toklip_trt_error *toklip_trt_pipeline_process(toklip_trt_pipeline *pipeline,
                                                                                 const toklip_trt_frame *frames,
                                                                                 size_t count,
                                                                                 toklip_trt_result *results,
                                                                                 toklip_trt_times *times);

#ifdef __cplusplus
}
#endif

#endif
