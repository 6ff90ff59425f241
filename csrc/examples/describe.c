/*
 * Says what TensorRT is here, what GPU, and what an ONNX file holds. Plain C11 over the C ABI.
 *
 *     describe [-l LIBNVINFER] [-p PARSER] [-c] [ONNX]
 *
 * -c lets TensorRT 10 parse without a GPU. Exit code 0 if all that was asked for worked, 1 if not; a machine without
 * a GPU is no failure.
 */
#include <stdio.h>
#include <string.h>

#include "toklip_trt.h"

/* Prints and frees an error; true if there was one. */
static bool failed(const char *what, toklip_trt_error *error) {
  if (!error) return false;
  fprintf(stderr, "%s: error %d: %s\n", what, (int)toklip_trt_error_code(error), toklip_trt_error_message(error));
  toklip_trt_error_free(error);
  return true;
}

static void print_log(toklip_trt_library *library) {
  char text[1024];
  toklip_trt_severity severity;
  uint64_t dropped;
  while (toklip_trt_log_take(library, &severity, text, sizeof text, &dropped)) {
    if (severity <= TOKLIP_TRT_LOG_WARNING) fprintf(stderr, "log: %s\n", text);
  }
}

static bool describe(toklip_trt_library *library, const char *onnx) {
  toklip_trt_library_info info;
  toklip_trt_library_describe(library, &info);
  printf("family: %s\nlibrary: %s\nversion: %d.%d.%d.%d\nheaders: %d.%d.%d\nkernels: %s\n", info.family, info.path,
         (int)info.major, (int)info.minor, (int)info.patch, (int)info.build, (int)info.headers_major,
         (int)info.headers_minor, (int)info.headers_patch,
         info.kernels[0] ? info.kernels : "none, the CPU does their work");

  toklip_trt_device_info device;
  toklip_trt_error *error = toklip_trt_device_describe(library, &device);
  if (error && toklip_trt_error_code(error) == TOKLIP_TRT_NO_DEVICE) {
    printf("device: none: %s\n", toklip_trt_error_message(error));
    toklip_trt_error_free(error);
  } else if (failed("device", error)) {
    return false;
  } else {
    printf("device: %s, sm_%d, %s memory\n", device.name, (int)device.sm, device.integrated ? "shared" : "its own");
  }

  if (onnx) {
    char *json;
    if (failed(onnx, toklip_trt_network_describe(library, onnx, &json))) return false;
    printf("network: %s\n", json);
    toklip_trt_string_free(json);
  }
  return true;
}

int main(int argc, char **argv) {
  const char *onnx = NULL;
  toklip_trt_open_options options = toklip_trt_open_options_default();
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "-l") && i + 1 < argc) {
      options.nvinfer = argv[++i];
    } else if (!strcmp(argv[i], "-p") && i + 1 < argc) {
      options.parser = argv[++i];
    } else if (!strcmp(argv[i], "-c")) {
      options.cpu_only = true;
    } else if (argv[i][0] != '-' && !onnx) {
      onnx = argv[i];
    } else {
      fprintf(stderr, "usage: describe [-l LIBNVINFER] [-p PARSER] [-c] [ONNX]\n");
      return 1;
    }
  }
  if (toklip_trt_abi() != TOKLIP_TRT_ABI) {
    fprintf(stderr, "the shared object is of ABI %u, this program of %u\n", (unsigned)toklip_trt_abi(), TOKLIP_TRT_ABI);
    return 1;
  }
  toklip_trt_library *library;
  if (failed("open", toklip_trt_open(TOKLIP_TRT_ABI, &options, &library))) return 1;
  bool ok = describe(library, onnx);
  print_log(library);
  if (failed("free", toklip_trt_library_free(library))) ok = false;
  return ok ? 0 : 1;
}
