#include "test/impl/ort.h"

#include <dlfcn.h>

#include <cstdlib>
#include <utility>

#include "core/error.h"

namespace toklip {
namespace {

constexpr std::pair<Type, ONNXTensorElementDataType> kTypes[] = {
    {Type::kFP32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},  {Type::kFP16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
    {Type::kINT32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32}, {Type::kINT64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
    {Type::kINT8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8},   {Type::kUINT8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
    {Type::kBool, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL}};

Type type_of(ONNXTensorElementDataType t) {
  for (const auto &[ours, onnx] : kTypes) {
    if (onnx == t) return ours;
  }
  return Type::kOther;
}

ONNXTensorElementDataType onnx_of(Type t) {
  for (const auto &[ours, onnx] : kTypes) {
    if (ours == t) return onnx;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

// Tensors of one run, released in any case.
class Values {
 public:
  explicit Values(const OrtApi &api) : api_(api) {}
  ~Values() {
    for (OrtValue *v : all_) api_.ReleaseValue(v);
  }
  OrtValue **add() {
    all_.push_back(nullptr);
    return &all_.back();
  }
  OrtValue **from(size_t i) { return all_.data() + i; }

 private:
  const OrtApi &api_;
  std::vector<OrtValue *> all_;
};

}  // namespace

Ort::Ort(const std::string &path) {
  std::vector<std::string> candidates{path};
  if (path.empty()) {
    const char *named = std::getenv("TOKLIP_ONNXRUNTIME");
    candidates = {TOKLIP_TEST_ONNXRUNTIME, "libonnxruntime.so"};
    if (named != nullptr && *named != '\0') candidates = {named};
  }
  void *library = nullptr;
  std::string why;
  for (const std::string &c : candidates) {
    library = dlopen(c.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library != nullptr) break;
    why += (why.empty() ? "" : "; ") + std::string(dlerror());
  }
  if (library == nullptr) {
    fail(TOKLIP_TRT_NO_LIBRARY,
         "ONNX Runtime, which the implementation for tests runs on, cannot be opened: %s; run make deps", why.c_str());
  }
  using Base = const OrtApiBase *(*)();
  const auto base = reinterpret_cast<Base>(dlsym(library, "OrtGetApiBase"));
  if (base == nullptr) fail(TOKLIP_TRT_NO_LIBRARY, "%s is not ONNX Runtime: it has no OrtGetApiBase", path.c_str());
  version_ = base()->GetVersionString();
  Dl_info info = {};
  if (dladdr(reinterpret_cast<const void *>(base), &info) != 0) path_ = info.dli_fname;
  api_ = base()->GetApi(ORT_API_VERSION);
  if (api_ == nullptr) {
    fail(TOKLIP_TRT_WRONG_VERSION, "ONNX Runtime %s is too old, version 1.%d is needed", version_.c_str(),
         ORT_API_VERSION);
  }
  check(api_->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "toklip_trt_test", &env_), TOKLIP_TRT_INTERNAL);
}

Ort::~Ort() { api_->ReleaseEnv(env_); }

void Ort::check(OrtStatus *status, toklip_trt_code code) const {
  if (status == nullptr) return;
  const std::string message = api_->GetErrorMessage(status);
  api_->ReleaseStatus(status);
  throw Error(code, message);
}

OrtNetwork::OrtNetwork(std::shared_ptr<Ort> ort, const std::string &onnx_path) : ort_(std::move(ort)) {
  const OrtApi &api = ort_->api();
  OrtSessionOptions *options = nullptr;
  ort_->check(api.CreateSessionOptions(&options), TOKLIP_TRT_INTERNAL);
  const std::unique_ptr<OrtSessionOptions, void (*)(OrtSessionOptions *)> owner(options, api.ReleaseSessionOptions);
  // One thread, the stream's: tests of several pipelines, and others beside them, share few cores.
  ort_->check(api.SetIntraOpNumThreads(options, 1), TOKLIP_TRT_INTERNAL);
  ort_->check(api.CreateSession(ort_->env(), onnx_path.c_str(), options, &session_), TOKLIP_TRT_BAD_MODEL);
  try {
    ort_->check(api.CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory_), TOKLIP_TRT_INTERNAL);
    describe(true);
    describe(false);
  } catch (...) {
    if (memory_ != nullptr) api.ReleaseMemoryInfo(memory_);
    api.ReleaseSession(session_);
    throw;
  }
}

OrtNetwork::~OrtNetwork() {
  ort_->api().ReleaseMemoryInfo(memory_);
  ort_->api().ReleaseSession(session_);
}

void OrtNetwork::describe(bool input) {
  const OrtApi &api = ort_->api();
  const auto check = [&](OrtStatus *s) { ort_->check(s, TOKLIP_TRT_BAD_MODEL); };
  size_t count = 0;
  check(input ? api.SessionGetInputCount(session_, &count) : api.SessionGetOutputCount(session_, &count));
  OrtAllocator *allocator = nullptr;
  check(api.GetAllocatorWithDefaultOptions(&allocator));
  for (size_t i = 0; i < count; i++) {
    TensorInfo t;
    t.input = input;
    char *name = nullptr;
    check(input ? api.SessionGetInputName(session_, i, allocator, &name)
                : api.SessionGetOutputName(session_, i, allocator, &name));
    t.name = name;
    check(api.AllocatorFree(allocator, name));

    OrtTypeInfo *info = nullptr;
    check(input ? api.SessionGetInputTypeInfo(session_, i, &info) : api.SessionGetOutputTypeInfo(session_, i, &info));
    const std::unique_ptr<OrtTypeInfo, void (*)(OrtTypeInfo *)> owner(info, api.ReleaseTypeInfo);
    const OrtTensorTypeAndShapeInfo *shape = nullptr;
    check(api.CastTypeInfoToTensorInfo(info, &shape));
    if (shape == nullptr) fail(TOKLIP_TRT_BAD_MODEL, "%s is no tensor", t.name.c_str());
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    check(api.GetTensorElementType(shape, &type));
    t.type = type_of(type);
    size_t rank = 0;
    check(api.GetDimensionsCount(shape, &rank));
    t.shape.resize(rank);
    check(api.GetDimensions(shape, t.shape.data(), rank));
    tensors_.push_back(std::move(t));
  }
}

void OrtNetwork::run(const std::vector<void *> &addresses, const std::vector<std::vector<int64_t>> &shapes) const {
  const OrtApi &api = ort_->api();
  Values values(api);
  std::vector<const char *> inputs, outputs;
  for (size_t i = 0; i < tensors_.size(); i++) {
    const TensorInfo &t = tensors_[i];
    size_t size = size_of(t.type);
    for (const int64_t d : shapes[i]) size *= static_cast<size_t>(d);
    ort_->check(api.CreateTensorWithDataAsOrtValue(memory_, addresses[i], size, shapes[i].data(), shapes[i].size(),
                                                   onnx_of(t.type), values.add()),
                TOKLIP_TRT_INTERNAL);
    (t.input ? inputs : outputs).push_back(t.name.c_str());
  }
  ort_->check(api.Run(session_, nullptr, inputs.data(), values.from(0), inputs.size(), outputs.data(), outputs.size(),
                      values.from(inputs.size())),
              TOKLIP_TRT_INTERNAL);
}

}  // namespace toklip
