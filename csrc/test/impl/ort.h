// ONNX Runtime through its C API, opened at run time.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/engine.h"

namespace toklip {

// The library. Never closed, as ONNX Runtime leaves threads behind. Any thread.
class Ort {
 public:
  // Empty path: $TOKLIP_ONNXRUNTIME, else the one that make deps fetched, else by its name. Throws TOKLIP_TRT_NO_LIBRARY.
  explicit Ort(const std::string &path);
  ~Ort();
  Ort(const Ort &) = delete;
  Ort &operator=(const Ort &) = delete;

  const OrtApi &api() const { return *api_; }
  OrtEnv *env() const { return env_; }
  const std::string &path() const { return path_; }        // of the file that was opened
  const std::string &version() const { return version_; }  // such as "1.30.0"

  // Throws an Error of this code, with ONNX Runtime's words, if status is not NULL, which it frees.
  void check(OrtStatus *status, toklip_trt_code code) const;

 private:
  const OrtApi *api_ = nullptr;
  OrtEnv *env_ = nullptr;
  std::string path_, version_;
};

// A network, loaded. run may be called by several threads at once.
class OrtNetwork {
 public:
  // Throws TOKLIP_TRT_BAD_MODEL.
  OrtNetwork(std::shared_ptr<Ort> ort, const std::string &onnx_path);
  ~OrtNetwork();
  OrtNetwork(const OrtNetwork &) = delete;
  OrtNetwork &operator=(const OrtNetwork &) = delete;

  const std::vector<TensorInfo> &tensors() const { return tensors_; }  // inputs, then outputs

  // addresses and shapes are of tensors(), in their order. Throws TOKLIP_TRT_INTERNAL.
  void run(const std::vector<void *> &addresses, const std::vector<std::vector<int64_t>> &shapes) const;

 private:
  void describe(bool input);

  const std::shared_ptr<Ort> ort_;
  OrtSession *session_ = nullptr;
  OrtMemoryInfo *memory_ = nullptr;
  std::vector<TensorInfo> tensors_;
};

}  // namespace toklip
