// The TensorRT library and its ONNX parser, opened at run time.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "tensorrt/headers.h"

namespace toklip {
namespace tensorrt {

// A version of TensorRT or TensorRT for RTX.
struct Version {
  int32_t major = 0, minor = 0, patch = 0, build = 0;

  // From the number that getInferLibVersion gives: 8503 is 8.5.3, 101501 is 10.15.1, RTX's 10701 is 1.7.1.
  static Version of_number(int32_t number);
  // Of the headers that this object was compiled with.
  static Version of_headers();
  bool at_least(int32_t want_major, int32_t want_minor) const;
  std::string text() const;
};

// "trt8", "trt10", "trt11" or "rtx": the family this object drives.
const char *family();
// What people call it: "TensorRT 10" or "TensorRT for RTX".
const char *family_name();

// Deletes an object of TensorRT; destructors have been public since 8.0.
template <typename T>
struct Deleter {
  void operator()(T *object) const { delete object; }
};

// Loaded holds the opened libraries. They are never closed: TensorRT keeps threads and thread-local objects that
// would outlive its code. Any thread.
class Loaded {
 public:
  // Opens libnvinfer (or libtensorrt_rtx) and checks that its ABI is that of the headers. Paths may be empty: then the
  // library is found by its soname, the parser beside a library that was given by path.
  Loaded(std::string nvinfer, std::string parser);

  Loaded(const Loaded &) = delete;
  Loaded &operator=(const Loaded &) = delete;

  const Version &version() const { return version_; }
  const std::string &path() const { return path_; }
  // Whether the library has what TensorRT got with this version; TensorRT for RTX 1.5 has all that is asked for by this.
  bool has(int32_t major, int32_t minor) const;

  // These return nullptr, never garbage, where TensorRT cannot: without a GPU some versions return small numbers.
  // The caller owns the object. They may be called only where a GPU is (or none is needed, see Runtime).
  nvinfer1::IBuilder *create_builder(nvinfer1::ILogger &logger);
  nvinfer1::IRuntime *create_runtime(nvinfer1::ILogger &logger);
  // Opens the parser the first time; TOKLIP_TRT_NO_LIBRARY without one.
  nvonnxparser::IParser *create_parser(nvinfer1::INetworkDefinition &network, nvinfer1::ILogger &logger);

 private:
  using CreateFunction = void *(*)(void *, int32_t) noexcept;
  using CreateParserFunction = void *(*)(void *, void *, int) noexcept;

  std::string beside(const char *name) const;
  void open_parser();
  void open_plugins(nvinfer1::ILogger &logger);

  std::string path_, parser_path_;
  bool given_ = false;  // the library by path
  int32_t number_ = 0;  // as the library tells it
  Version version_;
  CreateFunction create_builder_ = nullptr, create_runtime_ = nullptr;

  std::mutex mutex_;  // of what follows
  CreateParserFunction create_parser_ = nullptr;
  int32_t parser_number_ = 0;
  bool plugins_ = false;  // were looked for
};

}  // namespace tensorrt
}  // namespace toklip
