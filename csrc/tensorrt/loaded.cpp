#include "tensorrt/loaded.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>

#include "core/error.h"

namespace toklip {
namespace tensorrt {
namespace {

#define TOKLIP_TEXT_OF(x) #x
#define TOKLIP_TEXT(x) TOKLIP_TEXT_OF(x)

#if TOKLIP_RTX
constexpr const char *kFamily = "rtx";
constexpr const char *kFamilyName = "TensorRT for RTX 1.5 or later";
constexpr const char *kLibrary = "libtensorrt_rtx.so.1";
constexpr const char *kParser = "libtensorrt_onnxparser_rtx.so.1";
constexpr const char *kPackage = "TensorRT for RTX";
constexpr const char *kParserPackage = "TensorRT for RTX";
#else
constexpr const char *kFamily = "trt" TOKLIP_TEXT(NV_TENSORRT_MAJOR);
constexpr const char *kFamilyName = "TensorRT " TOKLIP_TEXT(NV_TENSORRT_MAJOR);
constexpr const char *kLibrary = "libnvinfer.so." TOKLIP_TEXT(NV_TENSORRT_MAJOR);
constexpr const char *kParser = "libnvonnxparser.so." TOKLIP_TEXT(NV_TENSORRT_MAJOR);
constexpr const char *kPackage = "TensorRT (on JetPack: apt install nvidia-jetpack, or libnvinfer-bin)";
constexpr const char *kParserPackage = "TensorRT's ONNX parser (on JetPack: apt install libnvonnxparsers-dev)";
#endif

// Pointers below this are no pointers: without a GPU some versions return an offset into nothing.
constexpr uintptr_t kFirstPointer = 4096;

template <typename T>
T *object_of(void *pointer) {
  return reinterpret_cast<uintptr_t>(pointer) < kFirstPointer ? nullptr : static_cast<T *>(pointer);
}

template <typename F>
F function_of(void *library, const char *name) {
  return reinterpret_cast<F>(dlsym(library, name));
}

std::string reason_of_dlopen() {
  const char *reason = dlerror();
  return reason ? reason : "no reason given";
}

std::string resolved(const std::string &path) {
  char *real = realpath(path.c_str(), nullptr);
  if (!real) return path;
  std::string out = real;
  free(real);
  return out;
}

// The file that a handle of dlopen stands for.
std::string path_of(void *library, const std::string &fallback) {
  link_map *map = nullptr;
  if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 || !map || !map->l_name || !*map->l_name) return fallback;
  return resolved(map->l_name);
}

bool is_rtx(const Version &version) { return version.major == 1; }

bool fits(const Version &version) {
#if TOKLIP_RTX
  return is_rtx(version) && version.at_least(1, 5);
#elif TOKLIP_TRT8
  return version.major == 8 && version.at_least(8, 5);
#else
  return version.major == NV_TENSORRT_MAJOR;
#endif
}

}  // namespace

const char *family() { return kFamily; }
const char *family_name() { return kFamilyName; }

Version Version::of_number(int32_t number) {
  Version v;
  if (number < 10000) {
    v.major = number / 1000;
    v.minor = number / 100 % 10;
  } else {
    v.major = number / 10000;
    v.minor = number / 100 % 100;
  }
  v.patch = number % 100;
  return v;
}

Version Version::of_headers() {
  Version v;
  v.major = NV_TENSORRT_MAJOR;
  v.minor = NV_TENSORRT_MINOR;
  v.patch = NV_TENSORRT_PATCH;
  return v;
}

bool Version::at_least(int32_t want_major, int32_t want_minor) const {
  return major > want_major || (major == want_major && minor >= want_minor);
}

std::string Version::text() const {
  std::string out = std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
  if (build) out += "." + std::to_string(build);
  return out;
}

Loaded::Loaded(std::string nvinfer, std::string parser)
    : path_(nvinfer.empty() ? kLibrary : std::move(nvinfer)), parser_path_(std::move(parser)) {
  given_ = path_ != kLibrary;
  void *library = dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    throw Error(TOKLIP_TRT_NO_LIBRARY,
                "TensorRT cannot be opened: " + reason_of_dlopen() + ". Install " + kPackage + ", or say where it is.");
  }
  path_ = path_of(library, path_);

  auto number = function_of<int32_t (*)() noexcept>(library, "getInferLibVersion");
  create_builder_ = function_of<CreateFunction>(library, "createInferBuilder_INTERNAL");
  create_runtime_ = function_of<CreateFunction>(library, "createInferRuntime_INTERNAL");
  if (!number || !create_runtime_) {
    throw Error(TOKLIP_TRT_WRONG_VERSION, path_ + " is not TensorRT: it has no " +
                                              (number ? "createInferRuntime_INTERNAL" : "getInferLibVersion") + ".");
  }
  number_ = number();
  version_ = Version::of_number(number_);
  if (auto build = function_of<int32_t (*)() noexcept>(library, "getInferLibBuildVersion")) version_.build = build();
  if (!fits(version_)) {
    throw Error(TOKLIP_TRT_WRONG_VERSION, path_ + " is " + (is_rtx(version_) ? "TensorRT for RTX " : "TensorRT ") +
                                              version_.text() + "; this shim drives " + kFamilyName +
                                              ". Use the shim of that version.");
  }
}

bool Loaded::has(int32_t major, int32_t minor) const { return TOKLIP_RTX || version_.at_least(major, minor); }

// 8.5 normalises with a plugin (8.6 can without, see Network). Its library registers nothing by being loaded.
void Loaded::open_plugins(nvinfer1::ILogger &logger) {
  if (!TOKLIP_TRT8) return;
  std::lock_guard<std::mutex> lock(mutex_);
  if (plugins_) return;
  plugins_ = true;
  std::string path = beside("libnvinfer_plugin.so.8");
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  auto init = library ? function_of<bool (*)(void *, const char *)>(library, "initLibNvInferPlugins") : nullptr;
  if (!init || !init(&logger, "")) {
    logger.log(nvinfer1::ILogger::Severity::kWARNING,
               ("TensorRT's plugins cannot be used: " + (library ? path + " does not initialise" : reason_of_dlopen()) +
                ". Networks that need them fail.")
                   .c_str());
  }
}

// A library that belongs to this one: in its folder where that was given.
std::string Loaded::beside(const char *name) const {
  std::string::size_type slash = path_.rfind('/');
  return given_ && slash != std::string::npos ? path_.substr(0, slash + 1) + name : name;
}

nvinfer1::IBuilder *Loaded::create_builder(nvinfer1::ILogger &logger) {
  if (!create_builder_) {
    throw Error(TOKLIP_TRT_UNSUPPORTED,
                path_ + " has no builder: it is the lean or dispatch runtime. Install " + kPackage + ".");
  }
  open_plugins(logger);
  // The library's own number, not that of the headers: within a family either can be the newer one, which fits()
  // has allowed, and the library compares for equality.
  return object_of<nvinfer1::IBuilder>(create_builder_(&logger, number_));
}

nvinfer1::IRuntime *Loaded::create_runtime(nvinfer1::ILogger &logger) {
  open_plugins(logger);
  return object_of<nvinfer1::IRuntime>(create_runtime_(&logger, number_));
}

void Loaded::open_parser() {
  std::string path = parser_path_.empty() ? beside(kParser) : parser_path_;
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    throw Error(TOKLIP_TRT_NO_LIBRARY, "TensorRT's ONNX parser cannot be opened: " + reason_of_dlopen() + ". Install " +
                                           kParserPackage + ", or say where it is.");
  }
  auto create = function_of<CreateParserFunction>(library, "createNvOnnxParser_INTERNAL");
  auto number = function_of<int (*)() noexcept>(library, "getNvOnnxParserVersion");
  if (!create || !number) throw Error(TOKLIP_TRT_WRONG_VERSION, path + " is not TensorRT's ONNX parser.");
  parser_number_ = number();
  create_parser_ = create;
}

nvonnxparser::IParser *Loaded::create_parser(nvinfer1::INetworkDefinition &network, nvinfer1::ILogger &logger) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!create_parser_) open_parser();
  }
  return object_of<nvonnxparser::IParser>(create_parser_(&network, &logger, parser_number_));
}

}  // namespace tensorrt
}  // namespace toklip
