#include "abi/run.h"

#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/leak.h"
#include "pipeline/patience.h"

namespace toklip {
namespace {

// The first run of an engine may compile its kernels, but that happens in enqueue, before this begins to count.
constexpr unsigned kTimeoutMs = 60000;

// A tensor of the caller and its memory on the device.
struct Bound {
  const toklip_trt_tensor *tensor;
  Buffer pinned, own;
};

// What one run uses, in the order in which it may be destroyed, last first.
struct Run {
  std::shared_ptr<Device> device;
  std::shared_ptr<Engine> engine;
  std::vector<Bound> inputs, outputs;
  Buffer scratch;
  std::unique_ptr<Context> context;
  std::unique_ptr<Stream> stream;
  std::unique_ptr<Event> done;
};

std::vector<int64_t> shape_of(const toklip_trt_tensor &t) { return {t.shape, t.shape + t.rank}; }

// Bytes of a tensor; checks it against itself.
size_t bytes_of(const std::string &name, const toklip_trt_tensor &t) {
  const int type = t.type;
  if (type < TOKLIP_TRT_FP32 || type > TOKLIP_TRT_INT32) {
    fail(TOKLIP_TRT_INVALID, "%s: type is %d, must be %d to %d", name.c_str(), type, TOKLIP_TRT_FP32, TOKLIP_TRT_INT32);
  }
  if (t.rank < 1 || t.rank > 8) fail(TOKLIP_TRT_INVALID, "%s: rank is %d, must be 1 to 8", name.c_str(), t.rank);
  if (t.shape == nullptr) fail(TOKLIP_TRT_INVALID, "%s: shape is NULL", name.c_str());
  if (t.data == nullptr) fail(TOKLIP_TRT_INVALID, "%s: data is NULL", name.c_str());
  constexpr uint64_t kMost = uint64_t{1} << 36;
  uint64_t bytes = size_of(static_cast<Type>(type));
  for (int32_t i = 0; i < t.rank; i++) {
    if (t.shape[i] < 1 || static_cast<uint64_t>(t.shape[i]) > kMost / bytes) {
      fail(TOKLIP_TRT_INVALID, "%s: shape is %s, which cannot be", name.c_str(), shape_text(shape_of(t)).c_str());
    }
    bytes *= static_cast<uint64_t>(t.shape[i]);
  }
  if (bytes != t.size) {
    fail(TOKLIP_TRT_INVALID, "%s: size is %zu bytes, type and shape need %llu", name.c_str(), t.size,
         static_cast<unsigned long long>(bytes));
  }
  return static_cast<size_t>(bytes);
}

// Checks a tensor against the engine. batch is what an open first dimension of an output must be; 0 for inputs, which
// the engine itself checks against its profile.
void check_fits(const std::string &name, const toklip_trt_tensor &t, const TensorInfo &info, int64_t batch) {
  bool fits =
      static_cast<int>(info.type) == static_cast<int>(t.type) && info.shape.size() == static_cast<size_t>(t.rank);
  for (size_t i = 0; fits && i < info.shape.size(); i++) {
    if (info.shape[i] >= 0) {
      fits = t.shape[i] == info.shape[i];
    } else if (batch > 0) {
      // Only the first can be told from the inputs; another one might be larger than the memory given.
      fits = i == 0 && t.shape[i] == batch;
    }
  }
  if (fits) return;
  fail(TOKLIP_TRT_INVALID, "%s: type %d and shape %s do not fit the engine's %s%s", name.c_str(),
       static_cast<int>(t.type), shape_text(shape_of(t)).c_str(), name_of(info.type), shape_text(info.shape).c_str());
}

std::vector<Bound> bind(Device &device, const Engine &engine, const toklip_trt_tensor *tensors, size_t count,
                        bool input, int64_t batch) {
  size_t wanted = 0;
  for (const TensorInfo &t : engine.tensors()) wanted += t.input == input ? 1 : 0;
  if (count != wanted) {
    fail(TOKLIP_TRT_INVALID, "%zu %s were given, the engine has %zu", count, input ? "inputs" : "outputs", wanted);
  }
  std::vector<Bound> out;
  for (size_t i = 0; i < count; i++) {
    const toklip_trt_tensor &t = tensors[i];
    const std::string name = text("%s %zu \"%s\"", input ? "input" : "output", i, t.name != nullptr ? t.name : "");
    const TensorInfo *info = t.name != nullptr ? find_tensor(engine, t.name, input) : nullptr;
    if (info == nullptr) fail(TOKLIP_TRT_INVALID, "%s is none of the engine's", name.c_str());
    for (size_t j = 0; j < i; j++) {
      if (std::strcmp(tensors[j].name, t.name) == 0) fail(TOKLIP_TRT_INVALID, "%s was given twice", name.c_str());
    }
    const size_t bytes = bytes_of(name, t);
    check_fits(name, t, *info, batch);
    out.push_back(Bound{&t, device.allocate(Memory::kPinned, bytes), device.allocate(Memory::kDevice, bytes)});
  }
  return out;
}

}  // namespace

void run_engine(std::shared_ptr<Device> shared_device, std::shared_ptr<Engine> shared_engine,
                const toklip_trt_tensor *inputs, size_t input_count, const toklip_trt_tensor *outputs,
                size_t output_count) {
  auto run = std::make_unique<Run>();
  run->device = std::move(shared_device);
  run->engine = std::move(shared_engine);
  Device &device = *run->device;
  Engine &engine = *run->engine;
  run->inputs = bind(device, engine, inputs, input_count, true, 0);
  const int64_t batch = input_count > 0 ? inputs[0].shape[0] : 1;
  run->outputs = bind(device, engine, outputs, output_count, false, batch);
  run->scratch = device.allocate(Memory::kDevice, engine.scratch_size());
  run->context = engine.new_context(run->scratch.device());
  for (const Bound &b : run->inputs) {
    run->context->set_shape(b.tensor->name, b.tensor->shape, static_cast<size_t>(b.tensor->rank));
  }
  for (const auto *all : {&run->inputs, &run->outputs}) {
    for (const Bound &b : *all) run->context->set_address(b.tensor->name, b.own.device());
  }
  run->stream = device.new_stream();
  run->done = device.new_event();

  // From here on the device uses the memory, whatever fails.
  std::exception_ptr failed;
  try {
    for (const Bound &b : run->inputs) {
      std::memcpy(b.pinned.host(), b.tensor->data, b.tensor->size);
      run->stream->copy(b.own.device(), b.pinned.host(), b.tensor->size);
    }
    run->context->enqueue(*run->stream);
    for (const Bound &b : run->outputs) run->stream->copy(b.pinned.host(), b.own.device(), b.tensor->size);
  } catch (...) {
    failed = std::current_exception();
  }
  try {
    run->stream->record(*run->done);
    require_done(*run->done, Clock::now(), Clock::now() + std::chrono::milliseconds(kTimeoutMs), kTimeoutMs);
  } catch (const Error &e) {
    // A lost device uses nothing any more; of one that hangs nobody knows.
    if (e.code() != TOKLIP_TRT_DEVICE_LOST) leak(std::move(run));
    if (failed != nullptr) std::rethrow_exception(failed);
    throw;
  }
  if (failed != nullptr) std::rethrow_exception(failed);
  for (const Bound &b : run->outputs) std::memcpy(b.tensor->data, b.pinned.host(), b.tensor->size);
}

}  // namespace toklip
