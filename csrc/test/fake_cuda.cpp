// A libcuda without a GPU, for tests of csrc/cuda and of what launches kernels. It has the driver functions that we use:
// memory is malloc's, streams do their work at once, handles are counted, any function can be made to fail.
//
// Kernels are those of kernels.cu, run on the CPU by cuda_on_cpu.h with the parameters they were launched with. So tests
// with it prove that libraries are opened, errors mapped, handles freed, that parameters, addresses, grids and graphs are
// right, and that the kernels compute what they should; they prove nothing about a GPU.
#include "test/fake_cuda.h"

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "cuda/driver.h"
#include "test/cuda_on_cpu.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using namespace toklip;
using Work = std::function<void()>;

constexpr CUresult kInvalidValue = 1, kDeinitialized = 4, kNoDevice = 100, kInvalidDevice = 101, kInvalidContext = 201,
                   kNotFound = 500, kCaptureInvalidated = 901, kCaptureUnsupported = 900;

struct FakeStream {
  bool capturing = false;
  bool spoilt = false;
  std::vector<Work> captured;
};
struct FakeEvent {
  bool recorded = false;
  double at = 0;
};
struct FakeGraph {
  std::vector<Work> works;
};
struct Function {
  std::string name;
};
struct FakeContext {};

struct State {
  std::recursive_mutex mutex;
  std::map<std::string, std::pair<int, int>> failures;  // function -> result, times
  std::map<std::string, int> calls, properties;
  std::map<std::string, std::set<void *>> live;
  int lost = 0;
  bool stalled = false, spoil = false, initialised = false;
  int retained = 0;
  double clock = 0;
  FakeContext context;
};

State &state() {
  static State *s = [] {
    auto *made = new State;
    made->properties = {{"integrated", 0}, {"can map", 1}, {"count", 1}, {"driver", 12060}};
    const char *integrated = std::getenv("TOKLIP_FAKE_CUDA_INTEGRATED");
    if (integrated != nullptr) made->properties["integrated"] = std::atoi(integrated);
    return made;
  }();
  return *s;
}

thread_local std::vector<FakeContext *> current;

// Counts a call and says whether it is to fail. `context`: the function needs a current context.
CUresult begin(const char *function, bool context = true) {
  State &s = state();
  const std::lock_guard<std::recursive_mutex> lock(s.mutex);
  s.calls[function]++;
  const auto found = s.failures.find(function);
  if (found != s.failures.end() && found->second.second > 0) {
    found->second.second--;
    return found->second.first;
  }
  if (!s.initialised && std::strcmp(function, "cuInit") != 0) return 3;
  if (context && current.empty()) return kInvalidContext;
  if (context && s.lost != 0) return s.lost;
  return kCudaSuccess;
}

template <typename T>
T *born(const char *kind, T *object) {
  State &s = state();
  const std::lock_guard<std::recursive_mutex> lock(s.mutex);
  s.live[kind].insert(object);
  return object;
}

// Takes an object off the books; false if it is not there.
bool gone(const char *kind, void *object) {
  State &s = state();
  const std::lock_guard<std::recursive_mutex> lock(s.mutex);
  return s.live[kind].erase(object) == 1;
}

bool alive(const char *kind, const void *object) {
  State &s = state();
  const std::lock_guard<std::recursive_mutex> lock(s.mutex);
  return s.live[kind].count(const_cast<void *>(object)) == 1;
}

void *pointer(CUdeviceptr address) { return reinterpret_cast<void *>(static_cast<uintptr_t>(address)); }

CUresult enqueue(CUstream handle, Work work) {
  if (!alive("stream", handle)) return kCudaInvalidHandle;
  auto *stream = reinterpret_cast<FakeStream *>(handle);
  if (stream->capturing)
    stream->captured.push_back(std::move(work));
  else
    work();
  return kCudaSuccess;
}

}  // namespace

// Every function begins so.
#define BEGIN(name)                      \
  do {                                   \
    const CUresult result = begin(name); \
    if (result != 0) return result;      \
  } while (false)
#define BEGIN_ANYWHERE(name)                    \
  do {                                          \
    const CUresult result = begin(name, false); \
    if (result != 0) return result;             \
  } while (false)

EXPORT CUresult cuInit(unsigned) {
  BEGIN_ANYWHERE("cuInit");
  if (state().properties["count"] == 0) return kNoDevice;
  state().initialised = true;
  return 0;
}
EXPORT CUresult cuDriverGetVersion(int *version) {
  BEGIN_ANYWHERE("cuDriverGetVersion");
  *version = state().properties["driver"];
  return 0;
}
EXPORT CUresult cuGetErrorName(CUresult error, const char **name) {
  *name = error == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : (error == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_FAKE");
  return 0;
}
EXPORT CUresult cuGetErrorString(CUresult, const char **text) {
  *text = "as ordered by a test";
  return 0;
}
EXPORT CUresult cuDeviceGetCount(int *count) {
  BEGIN_ANYWHERE("cuDeviceGetCount");
  *count = state().properties["count"];
  return 0;
}
EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  BEGIN_ANYWHERE("cuDeviceGet");
  if (ordinal < 0 || ordinal >= state().properties["count"]) return kInvalidDevice;
  *device = ordinal;
  return 0;
}
EXPORT CUresult cuDeviceGetName(char *name, int size, CUdevice) {
  BEGIN_ANYWHERE("cuDeviceGetName");
  std::strncpy(name, "no GPU, a test", static_cast<size_t>(size));
  return 0;
}
EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice) {
  BEGIN_ANYWHERE("cuDeviceGetAttribute");
  switch (attribute) {
    case kAttributeMultiprocessors:
      *value = 8;
      return 0;
    case kAttributeIntegrated:
      *value = state().properties["integrated"];
      return 0;
    case kAttributeCanMapHostMemory:
      *value = state().properties["can map"];
      return 0;
    case kAttributeMajor:
      *value = 8;
      return 0;
    case kAttributeMinor:
      *value = 7;
      return 0;
    default:
      return kInvalidValue;
  }
}
EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice) {
  BEGIN_ANYWHERE("cuDeviceTotalMem_v2");
  *bytes = size_t{8} << 30;
  return 0;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
  BEGIN_ANYWHERE("cuDevicePrimaryCtxRetain");
  State &s = state();
  const std::lock_guard<std::recursive_mutex> lock(s.mutex);
  s.retained++;
  *context = reinterpret_cast<CUcontext>(&s.context);
  return 0;
}
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {
  BEGIN_ANYWHERE("cuDevicePrimaryCtxRelease_v2");
  State &s = state();
  const std::lock_guard<std::recursive_mutex> lock(s.mutex);
  if (s.retained == 0) return kInvalidContext;
  s.retained--;
  return 0;
}
EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice) {
  BEGIN_ANYWHERE("cuDevicePrimaryCtxReset_v2");
  State &s = state();
  const std::lock_guard<std::recursive_mutex> lock(s.mutex);
  s.lost = 0;
  s.stalled = false;
  for (const char *kind : {"memory", "host memory"}) {
    for (void *p : s.live[kind]) std::free(p);
    s.live[kind].clear();
  }
  for (void *p : s.live["stream"]) delete static_cast<FakeStream *>(p);
  for (void *p : s.live["event"]) delete static_cast<FakeEvent *>(p);
  for (void *p : s.live["graph exec"]) delete static_cast<FakeGraph *>(p);
  for (const char *kind : {"stream", "event", "graph exec"}) s.live[kind].clear();
  return 0;
}
EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) {
  BEGIN_ANYWHERE("cuCtxPushCurrent_v2");
  current.push_back(reinterpret_cast<FakeContext *>(context));
  return 0;
}
EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *context) {
  BEGIN_ANYWHERE("cuCtxPopCurrent_v2");
  if (current.empty()) return kInvalidContext;
  *context = reinterpret_cast<CUcontext>(current.back());
  current.pop_back();
  return 0;
}

EXPORT CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
  BEGIN("cuMemGetInfo_v2");
  *free = size_t{3} << 30;
  *total = size_t{8} << 30;
  return 0;
}
EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
  BEGIN("cuMemAlloc_v2");
  if (size == 0) return kInvalidValue;
  void *p = std::aligned_alloc(256, (size + 255) / 256 * 256);
  if (p == nullptr) return kCudaOutOfMemory;
  std::memset(p, 0xa5, size);
  *address = reinterpret_cast<uintptr_t>(born("memory", static_cast<char *>(p)));
  return 0;
}
EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
  BEGIN("cuMemFree_v2");
  if (!gone("memory", pointer(address))) return kInvalidValue;
  std::free(pointer(address));
  return 0;
}
EXPORT CUresult cuMemHostAlloc(void **address, size_t size, unsigned flags) {
  BEGIN("cuMemHostAlloc");
  if (size == 0 || (flags & kHostAllocMapped) == 0) return kInvalidValue;
  void *p = std::aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  if (p == nullptr) return kCudaOutOfMemory;
  std::memset(p, 0x5a, size);
  *address = born("host memory", static_cast<char *>(p));
  return 0;
}
EXPORT CUresult cuMemFreeHost(void *address) {
  BEGIN("cuMemFreeHost");
  if (!gone("host memory", address)) return kInvalidValue;
  std::free(address);
  return 0;
}
EXPORT CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *host, unsigned) {
  BEGIN("cuMemHostGetDevicePointer_v2");
  if (!alive("host memory", host)) return kInvalidValue;
  *address = reinterpret_cast<uintptr_t>(host);
  return 0;
}
EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size) {
  BEGIN("cuMemcpyHtoD_v2");
  // Of memory that is not pinned the driver may return before the copy has ended, for which streams that do not block do
  // not wait.
  if (!alive("host memory", from)) return kInvalidValue;
  std::memcpy(pointer(to), from, size);
  return 0;
}
EXPORT CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream) {
  BEGIN("cuMemcpyAsync");
  return enqueue(stream, [=] { std::memcpy(pointer(to), pointer(from), size); });
}
EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t size, CUstream stream) {
  BEGIN("cuMemsetD8Async");
  return enqueue(stream, [=] { std::memset(pointer(to), value, size); });
}

EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  BEGIN("cuStreamCreate");
  // A blocking stream would wait for the null stream, and break its captures.
  if (flags != kStreamNonBlocking) return kInvalidValue;
  *stream = reinterpret_cast<CUstream>(born("stream", new FakeStream));
  return 0;
}
EXPORT CUresult cuStreamDestroy_v2(CUstream stream) {
  BEGIN("cuStreamDestroy_v2");
  if (!gone("stream", stream)) return kCudaInvalidHandle;
  delete reinterpret_cast<FakeStream *>(stream);
  return 0;
}
EXPORT CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  BEGIN("cuStreamWaitEvent");
  if (!alive("event", event)) return kCudaInvalidHandle;
  if (reinterpret_cast<FakeStream *>(stream)->capturing) return kCaptureUnsupported;
  return enqueue(stream, [] {});
}
EXPORT CUresult cuStreamBeginCapture_v2(CUstream handle, int mode) {
  BEGIN("cuStreamBeginCapture_v2");
  if (!alive("stream", handle)) return kCudaInvalidHandle;
  auto *stream = reinterpret_cast<FakeStream *>(handle);
  if (mode != kCaptureThreadLocal || stream->capturing) return kInvalidValue;
  stream->capturing = true;
  stream->spoilt = state().spoil;
  state().spoil = false;
  stream->captured.clear();
  return 0;
}
EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph) {
  auto *stream = reinterpret_cast<FakeStream *>(handle);
  *graph = nullptr;
  BEGIN("cuStreamEndCapture");
  if (!alive("stream", handle)) return kCudaInvalidHandle;
  if (!stream->capturing) return kInvalidValue;
  stream->capturing = false;
  if (stream->spoilt) return kCaptureInvalidated;
  auto *made = born("graph", new FakeGraph);
  made->works = std::move(stream->captured);
  *graph = reinterpret_cast<CUgraph>(made);
  return 0;
}
EXPORT CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *argument) {
  BEGIN("cuLaunchHostFunc");
  return enqueue(stream, [=] { function(argument); });
}

EXPORT CUresult cuEventCreate(CUevent *event, unsigned) {
  BEGIN("cuEventCreate");
  *event = reinterpret_cast<CUevent>(born("event", new FakeEvent));
  return 0;
}
EXPORT CUresult cuEventDestroy_v2(CUevent event) {
  BEGIN("cuEventDestroy_v2");
  if (!gone("event", event)) return kCudaInvalidHandle;
  delete reinterpret_cast<FakeEvent *>(event);
  return 0;
}
EXPORT CUresult cuEventRecordWithFlags(CUevent handle, CUstream stream, unsigned flags) {
  BEGIN("cuEventRecordWithFlags");
  if (!alive("event", handle)) return kCudaInvalidHandle;
  const bool capturing = reinterpret_cast<FakeStream *>(stream)->capturing;
  // Only an external record becomes part of a graph, and only in a capture may it be external.
  if (capturing != (flags == kEventRecordExternal)) return kInvalidValue;
  return enqueue(stream, [handle] {
    auto *event = reinterpret_cast<FakeEvent *>(handle);
    event->recorded = true;
    event->at = state().clock += 0.25;  // ms
  });
}
EXPORT CUresult cuEventQuery(CUevent event) {
  BEGIN("cuEventQuery");
  if (!alive("event", event)) return kCudaInvalidHandle;
  return state().stalled ? kCudaNotReady : 0;
}
EXPORT CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
  BEGIN("cuEventElapsedTime");
  const auto *a = reinterpret_cast<const FakeEvent *>(from);
  const auto *b = reinterpret_cast<const FakeEvent *>(to);
  if (!alive("event", from) || !alive("event", to) || !a->recorded || !b->recorded) return kCudaInvalidHandle;
  *milliseconds = static_cast<float>(b->at - a->at);
  return 0;
}

EXPORT CUresult cuGraphDestroy(CUgraph graph) {
  BEGIN("cuGraphDestroy");
  if (!gone("graph", graph)) return kInvalidValue;
  delete reinterpret_cast<FakeGraph *>(graph);
  return 0;
}
EXPORT CUresult cuGraphExecDestroy(CUgraphExec graph) {
  BEGIN("cuGraphExecDestroy");
  if (!gone("graph exec", graph)) return kInvalidValue;
  delete reinterpret_cast<FakeGraph *>(graph);
  return 0;
}
EXPORT CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream) {
  BEGIN("cuGraphLaunch");
  if (!alive("graph exec", graph)) return kInvalidValue;
  return enqueue(stream, [graph] {
    for (const Work &work : reinterpret_cast<FakeGraph *>(graph)->works) work();
  });
}
#if defined(TOKLIP_FAKE_OLD)
// A driver of CUDA 11.0 to 11.3.
EXPORT CUresult cuGraphInstantiate_v2(CUgraphExec *exec, CUgraph graph, CUgraphNode *, char *, size_t) {
  BEGIN("cuGraphInstantiate_v2");
#else
EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long) {
  BEGIN("cuGraphInstantiateWithFlags");
#endif
  if (!alive("graph", graph)) return kInvalidValue;
  *exec = reinterpret_cast<CUgraphExec>(born("graph exec", new FakeGraph(*reinterpret_cast<FakeGraph *>(graph))));
  return 0;
}

EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  BEGIN("cuModuleLoadData");
  if (image == nullptr) return kInvalidValue;
  *module = reinterpret_cast<CUmodule>(born("module", new std::map<std::string, Function>));
  return 0;
}
EXPORT CUresult cuModuleUnload(CUmodule module) {
  BEGIN("cuModuleUnload");
  if (!gone("module", module)) return kCudaInvalidHandle;
  delete reinterpret_cast<std::map<std::string, Function> *>(module);
  return 0;
}
EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  BEGIN("cuModuleGetFunction");
  if (!alive("module", module)) return kCudaInvalidHandle;
  if (kernel_parameters(name).empty()) return kNotFound;
  Function &f = (*reinterpret_cast<std::map<std::string, Function> *>(module))[name];
  f.name = name;
  *function = reinterpret_cast<CUfunction>(&f);
  return 0;
}
EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                               unsigned block_y, unsigned block_z, unsigned shared, CUstream stream, void **parameters,
                               void **) {
  BEGIN("cuLaunchKernel");
  // As the driver has it: limits of grids and blocks.
  if (grid_x == 0 || grid_y == 0 || grid_y > 65535 || grid_z != 1 || block_x == 0 || block_x > 1024 || block_y != 1 ||
      block_z != 1 || shared > 48U * 1024U)
    return kInvalidValue;
  const std::string name = reinterpret_cast<Function *>(function)->name;
  std::vector<std::vector<char>> copies;
  size_t i = 0;
  for (const size_t size : kernel_parameters(name)) {
    const auto *from = static_cast<const char *>(parameters[i++]);
    copies.emplace_back(from, from + size);
  }
  return enqueue(stream, [=] {
    std::vector<void *> arguments;
    for (const std::vector<char> &copy : copies) arguments.push_back(const_cast<char *>(copy.data()));
    run_kernel(name, grid_x, grid_y, block_x, arguments.data());
  });
}

EXPORT const FakeCuda *fake_cuda_control() {
  static const FakeCuda control = {[](const char *function, int result, int times) {
                                     const std::lock_guard<std::recursive_mutex> lock(state().mutex);
                                     state().failures[function] = {result, times};
                                   },
                                   [](int result) { state().lost = result; },
                                   [](bool stalled) { state().stalled = stalled; },
                                   [] { state().spoil = true; },
                                   [](const char *kind) {
                                     const std::lock_guard<std::recursive_mutex> lock(state().mutex);
                                     if (std::strcmp(kind, "context") == 0) return state().retained;
                                     if (std::strcmp(kind, "current") == 0) return static_cast<int>(current.size());
                                     return static_cast<int>(state().live[kind].size());
                                   },
                                   [](const char *function) {
                                     const std::lock_guard<std::recursive_mutex> lock(state().mutex);
                                     return state().calls[function];
                                   },
                                   [](const char *property, int value) {
                                     const std::lock_guard<std::recursive_mutex> lock(state().mutex);
                                     state().properties[property] = value;
                                   }};
  return &control;
}
