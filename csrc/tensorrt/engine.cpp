#include "tensorrt/engine.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/json.h"
#include "tensorrt/failure.h"
#include "tensorrt/logger.h"
#include "tensorrt/types.h"

namespace toklip {
namespace tensorrt {
namespace {

using Kind = PlanHeader::Kind;

// Offsets into a plan, as TensorRT 8.6 and later and TensorRT for RTX write it.
constexpr size_t kVersionOffset = 24, kHeaderSize = 28;

const char *kind_name(Kind kind) { return kind == Kind::kRTX ? "TensorRT for RTX" : "TensorRT"; }

// Versions of a plan and a library between which no plan goes: TensorRT can be told to build plans that later minor
// versions read, and the first major version after.
bool never_reads(const Version &library, const Version &plan) {
  if (TOKLIP_RTX) return library.major != plan.major || library.minor != plan.minor || library.patch != plan.patch;
  if (plan.major == library.major) return plan.minor > library.minor;
  return !(plan.major == 8 && library.major == 10) && !(plan.major == 10 && library.major == 11);
}

// One run of TensorRT: shapes and addresses, in memory of the caller.
class TensorRTContext : public Context {
 public:
  using Handle = std::unique_ptr<nvinfer1::IExecutionContext, Deleter<nvinfer1::IExecutionContext>>;

  TensorRTContext(Handle context, const nvinfer1::ICudaEngine &engine, Log &log, Device &device)
      : context_(std::move(context)), engine_(engine), log_(log), device_(device) {}
  ~TensorRTContext() override {
    Current current(device_, std::nothrow);
    LogScope scope(log_);
    context_.reset();
#if TOKLIP_TRT8
    if (profiles_) profiles_->give_back(profile_);
#endif
  }

#if TOKLIP_TRT8
  void use_profile(std::shared_ptr<Profiles> profiles) {
    LogScope scope(log_);
    profile_ = profiles->take();
    profiles_ = std::move(profiles);
    if (profiles_->matter()) select_profile(*context_, profile_, device_);
  }
#endif

  void set_shape(const std::string &input, const int64_t *shape, size_t rank) override {
    LogScope scope(log_);
    std::vector<int64_t> wanted(shape, shape + rank);
    nvinfer1::Dims dims = dims_of(wanted);
    if (context_->setInputShape(input.c_str(), dims)) return;
    std::string allowed = json_shape(shape_of(engine_.getTensorShape(input.c_str())));
    auto lowest = shape_of(engine_.getProfileShape(input.c_str(), 0, nvinfer1::OptProfileSelector::kMIN));
    auto highest = shape_of(engine_.getProfileShape(input.c_str(), 0, nvinfer1::OptProfileSelector::kMAX));
    if (!lowest.empty() && !highest.empty()) allowed += " from " + json_shape(lowest) + " to " + json_shape(highest);
    fail_from(scope, TOKLIP_TRT_INVALID,
              "input " + input + " cannot have shape " + json_shape(wanted) + ", the engine has " + allowed, &device_);
  }

  void set_address(const std::string &tensor, void *address) override {
    LogScope scope(log_);
    if (!context_->setTensorAddress(tensor.c_str(), address)) {
      fail_from(scope, TOKLIP_TRT_INVALID, "tensor " + tensor + " cannot be given an address", &device_);
    }
  }

  void enqueue(Stream &stream) override {
    LogScope scope(log_);
    if (!context_->enqueueV3(static_cast<cudaStream_t>(stream.native()))) {
      fail_from(scope, TOKLIP_TRT_INTERNAL, "TensorRT cannot run the engine", &device_);
    }
  }

 private:
  Handle context_;
  const nvinfer1::ICudaEngine &engine_;
  Log &log_;
  Device &device_;
#if TOKLIP_TRT8
  std::shared_ptr<Profiles> profiles_;
  int32_t profile_ = 0;
#endif
};

Type type_of(nvinfer1::DataType type) {
  switch (static_cast<int32_t>(type)) {  // by number, see type_name
    case 0:
      return Type::kFP32;
    case 1:
      return Type::kFP16;
    case 2:
      return Type::kINT8;
    case 3:
      return Type::kINT32;
    case 4:
      return Type::kBool;
    case 5:
      return Type::kUINT8;
    case 8:
      return Type::kINT64;
    default:
      return Type::kOther;
  }
}

}  // namespace

PlanHeader PlanHeader::read(const void *plan, size_t size) {
  PlanHeader header;
  auto bytes = static_cast<const unsigned char *>(plan);
  if (size < kHeaderSize) return header;
  if (std::memcmp(bytes, "ftrt", 4) == 0) header.kind = Kind::kTensorRT;
  if (std::memcmp(bytes, "vtrt", 4) == 0) header.kind = Kind::kRTX;
  if (header.kind == Kind::kNone) return header;
  header.version.major = bytes[kVersionOffset];
  header.version.minor = bytes[kVersionOffset + 1];
  header.version.patch = bytes[kVersionOffset + 2];
  header.version.build = bytes[kVersionOffset + 3];
  return header;
}

void check_plan(const Loaded &loaded, const void *plan, size_t size) {
  PlanHeader header = PlanHeader::read(plan, size);
  if (size < kHeaderSize) fail(TOKLIP_TRT_BAD_PLAN, "The plan has %zu bytes; it was cut off. Build it again.", size);
  if (header.kind == Kind::kNone) {
    if (TOKLIP_TRT8) return;  // 8.5 writes no tag
    throw Error(TOKLIP_TRT_BAD_PLAN,
                "The plan does not begin as TensorRT's plans do: it is damaged, or no plan. Build it again.");
  }
  Kind wanted = TOKLIP_RTX ? Kind::kRTX : Kind::kTensorRT;
  if (header.kind != wanted || never_reads(loaded.version(), header.version)) {
    throw Error(TOKLIP_TRT_BAD_PLAN, std::string("The plan was built by ") + kind_name(header.kind) + " " +
                                         header.version.text() + ", which " + kind_name(wanted) + " " +
                                         loaded.version().text() + " cannot read. Build it again.");
  }
}

TensorRTEngine::TensorRTEngine(Loaded &loaded, Log &log, std::shared_ptr<Device> device, const void *plan, size_t size,
                               int32_t dla_core)
    : loaded_(loaded), log_(log), device_(std::move(device)) {
  LogScope scope(log_);
  runtime_.reset(loaded.create_runtime(Logger::instance()));
  if (!runtime_) fail_from(scope, TOKLIP_TRT_INTERNAL, "TensorRT cannot make a runtime", device_.get());
#if !TOKLIP_RTX
  if (dla_core >= 0) runtime_->setDLACore(dla_core);
#else
  (void)dla_core;
#endif
#if TOKLIP_HEADERS_AT_LEAST(8, 6) && !TOKLIP_RTX
  // A version-compatible plan brings the code that reads it. Plans are as trusted as programs: they come from a cache that
  // only the user's own builder writes, checked by hash.
  if (loaded.has(8, 6)) runtime_->setEngineHostCodeAllowed(true);
#endif
  engine_.reset(runtime_->deserializeCudaEngine(plan, size));
  if (!engine_) {
    PlanHeader header = PlanHeader::read(plan, size);
    std::string builder = header.kind == Kind::kNone ? "" : ", built by " + header.version.text() + ",";
    fail_from(scope, TOKLIP_TRT_BAD_PLAN, "TensorRT " + loaded.version().text() + " refuses the plan" + builder,
              device_.get());
  }
  read_tensors();
#if TOKLIP_TRT8
  profiles_ = std::make_shared<Profiles>(*engine_);
  scratch_size_ = engine_->getDeviceMemorySize();
#elif TOKLIP_TRT10
#if TOKLIP_HEADERS_AT_LEAST(10, 1)
  scratch_size_ =
      loaded.has(10, 1) ? static_cast<size_t>(engine_->getDeviceMemorySizeV2()) : engine_->getDeviceMemorySize();
#else
  scratch_size_ = engine_->getDeviceMemorySize();
#endif
#else
  scratch_size_ = static_cast<size_t>(engine_->getDeviceMemorySizeV2());
#endif
}

TensorRTEngine::~TensorRTEngine() {
  Current current(*device_, std::nothrow);
  LogScope scope(log_);
  engine_.reset();
  runtime_.reset();
}

void TensorRTEngine::read_tensors() {
  bool known = false;  // the batch
  for (int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
    TensorInfo tensor;
    const char *name = engine_->getIOTensorName(i);
    tensor.name = name;
    tensor.input = engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
    tensor.type = type_of(engine_->getTensorDataType(name));
    tensor.shape = shape_of(engine_->getTensorShape(name));
    if (tensor.input && !tensor.shape.empty() && !known) {
      known = true;
      batch_min_ = batch_max_ = static_cast<int32_t>(tensor.shape[0]);
      if (tensor.shape[0] < 0) {
        batch_min_ = static_cast<int32_t>(engine_->getProfileShape(name, 0, nvinfer1::OptProfileSelector::kMIN).d[0]);
        batch_max_ = static_cast<int32_t>(engine_->getProfileShape(name, 0, nvinfer1::OptProfileSelector::kMAX).d[0]);
      }
    }
    tensors_.push_back(std::move(tensor));
  }
}

std::unique_ptr<Context> TensorRTEngine::new_context(void *scratch) {
  LogScope scope(log_);
#if TOKLIP_TRT8
  TensorRTContext::Handle context(engine_->createExecutionContextWithoutDeviceMemory());
#else
  TensorRTContext::Handle context(
      engine_->createExecutionContext(nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED));
#endif
  if (!context) fail_from(scope, TOKLIP_TRT_INTERNAL, "TensorRT cannot make an execution context", device_.get());
  if (scratch_size_ > 0) {
#if TOKLIP_TRT8 || !TOKLIP_HEADERS_AT_LEAST(10, 1)
    context->setDeviceMemory(scratch);
#else
    if (loaded_.has(10, 1)) {
      context->setDeviceMemoryV2(scratch, static_cast<int64_t>(scratch_size_));
    } else {
      context->setDeviceMemory(scratch);
    }
#endif
  }
  auto out = std::make_unique<TensorRTContext>(std::move(context), *engine_, log_, *device_);
#if TOKLIP_TRT8
  out->use_profile(profiles_);
#endif
  return out;
}

std::string TensorRTEngine::layers() {
  LogScope scope(log_);
  std::unique_ptr<nvinfer1::IEngineInspector, Deleter<nvinfer1::IEngineInspector>> inspector(
      engine_->createEngineInspector());
  if (!inspector) fail_from(scope, TOKLIP_TRT_INTERNAL, "TensorRT cannot describe the engine", device_.get());
  const char *json = inspector->getEngineInformation(nvinfer1::LayerInformationFormat::kJSON);
  if (!json) fail_from(scope, TOKLIP_TRT_INTERNAL, "TensorRT cannot describe the engine", device_.get());
  return json;
}

}  // namespace tensorrt
}  // namespace toklip
