// csrc/cuda and the launches of csrc/kernels over a libcuda of our own: see fake_cuda.cpp for what that can prove.
//
//   toklip_cuda_test libtoklip_fake_cuda_new.so libtoklip_fake_cuda_old.so
#include <dlfcn.h>

#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cuda/device.h"
#include "cuda/stream.h"
#include "kernels/kernels.h"
#include "test/bench_device.h"
#include "test/expect.h"
#include "test/fake_cuda.h"

namespace toklip {
namespace {

const char *new_path, *old_path;

const FakeCuda &fake() {
  using Control = const FakeCuda *(*)();
  static const FakeCuda *control = [] {
    void *library = dlopen(new_path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw std::runtime_error(dlerror());
    Control find = nullptr;
    *reinterpret_cast<void **>(&find) = dlsym(library, "fake_cuda_control");
    return find();
  }();
  return *control;
}

std::unique_ptr<CudaDevice> open(const char *path = new_path) {
  return std::make_unique<CudaDevice>(std::make_shared<const Driver>(path), 0);
}

// Nothing of a kind is left.
void expect_balance() {
  for (const char *kind :
       {"memory", "host memory", "stream", "event", "graph", "graph exec", "module", "context", "current"}) {
    if (fake().live(kind) != 0) {
      std::fprintf(stderr, "%d left of %s\n", fake().live(kind), kind);
      failures()++;
    }
  }
}

void test_no_driver() {
  EXPECT_ERROR(TOKLIP_TRT_NO_DEVICE, "Install the NVIDIA driver", Driver("/nowhere/libcuda.so.1"));
  EXPECT_ERROR(TOKLIP_TRT_NO_DEVICE, "Update the NVIDIA driver", Driver("libm.so.6"));
  fake().fail("cuInit", 100, 1);
  EXPECT_ERROR(TOKLIP_TRT_NO_DEVICE, "CUDA_ERROR_NO_DEVICE (100)", Driver{new_path});
  fake().fail("cuInit", 34, 1);
  EXPECT_ERROR(TOKLIP_TRT_NO_DEVICE, "LD_LIBRARY_PATH", Driver{new_path});
  fake().fail("cuInit", 803, 1);
  EXPECT_ERROR(TOKLIP_TRT_NO_DEVICE, "restart", Driver{new_path});
  fake().fail("cuInit", 35, 1);
  EXPECT_ERROR(TOKLIP_TRT_NO_DEVICE, "(35)", Driver{new_path});
  // What a Jetson answers to a user who may not open the GPU.
  fake().fail("cuInit", 999, 1);
  EXPECT_ERROR(TOKLIP_TRT_NO_DEVICE, "/dev/nvhost", Driver{new_path});
  fake().fail("cuInit", 2, 1);
  EXPECT_ERROR(TOKLIP_TRT_OUT_OF_MEMORY, "(2)", Driver{new_path});

  const auto driver = std::make_shared<const Driver>(new_path);
  fake().set("count", 0);
  EXPECT_ERROR(TOKLIP_TRT_NO_DEVICE, "count GPUs", CudaDevice(driver, 0));
  fake().set("count", 1);
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "GPU 1 is asked for, but there is one GPU", CudaDevice(driver, 1));
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "GPU -1", CudaDevice(driver, -1));
  fake().set("can map", 0);
  EXPECT_ERROR(TOKLIP_TRT_UNSUPPORTED, "cannot read memory of the CPU", CudaDevice(driver, 0));
  fake().set("can map", 1);
  fake().fail("cuDevicePrimaryCtxRetain", 46, 1);
  EXPECT_ERROR(TOKLIP_TRT_NO_DEVICE, "compute mode", CudaDevice(driver, 0));
  fake().fail("cuDevicePrimaryCtxRetain", 2, 1);
  EXPECT_ERROR(TOKLIP_TRT_OUT_OF_MEMORY, "context", CudaDevice(driver, 0));
  expect_balance();
}

void test_codes() {
  for (const int result : {4, 201, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 911, 999})
    EXPECT(Driver::code_of(result) == TOKLIP_TRT_DEVICE_LOST);
  for (const int result : {3, 34, 35, 46, 100, 101, 102, 802, 803, 804})
    EXPECT(Driver::code_of(result) == TOKLIP_TRT_NO_DEVICE);
  for (const int result : {200, 209, 218, 221, 222, 223, 801, 900, 901, 902, 903, 904, 905, 906, 907, 908})
    EXPECT(Driver::code_of(result) == TOKLIP_TRT_UNSUPPORTED);
  for (const int result : {1, 400, 500, 600, 701, 800, 909, 12345})
    EXPECT(Driver::code_of(result) == TOKLIP_TRT_INTERNAL);
  EXPECT(Driver::code_of(2) == TOKLIP_TRT_OUT_OF_MEMORY);
}

void test_info() {
  const auto device = open();
  const Current current(*device);
  const toklip_trt_device_info info = device->info();
  EXPECT(std::string(info.name) == "no GPU, a test");
  EXPECT(info.sm == 87 && info.driver == 12060 && !info.integrated);
  EXPECT(info.memory_total == uint64_t{8} << 30 && info.memory_free == uint64_t{3} << 30);
}

// Contexts nest, on any thread, and are put back.
void test_current() {
  {
    const auto device = open();
    EXPECT(fake().live("current") == 0);
    {
      const Current a(*device);
      const Current b(*device, std::nothrow);
      EXPECT(fake().live("current") == 2);
      std::thread other([&] {
        EXPECT(fake().live("current") == 0);
        const Current c(*device);
        EXPECT(fake().live("current") == 1);
      });
      other.join();
    }
    EXPECT(fake().live("current") == 0);
  }
  expect_balance();
}

void test_memory() {
  {
    const auto device = open();
    const Current current(*device);
    EXPECT(!device->allocate(Memory::kDevice, 0));
    Buffer a = device->allocate(Memory::kDevice, 1000);
    const Buffer b = device->allocate(Memory::kPinned, 1000);
    EXPECT(a.host() == nullptr && a.device() != nullptr && a.size() == 1000);
    EXPECT(b.host() != nullptr && b.device() != nullptr);
    fake().fail("cuMemAlloc_v2", 2, 1);
    EXPECT_ERROR(TOKLIP_TRT_OUT_OF_MEMORY, "allocate 5 bytes of GPU memory", device->allocate(Memory::kDevice, 5));
    fake().fail("cuMemHostAlloc", 2, 1);
    EXPECT_ERROR(TOKLIP_TRT_OUT_OF_MEMORY, "allocate 7 bytes of pinned memory", device->allocate(Memory::kPinned, 7));
    fake().fail("cuMemHostGetDevicePointer_v2", 1, 1);
    EXPECT_ERROR(TOKLIP_TRT_INTERNAL, "pinned", device->allocate(Memory::kPinned, 7));
    EXPECT(fake().live("memory") == 1 && fake().live("host memory") == 1);

    const auto stream = device->new_stream();
    std::memset(b.host(), 1, 1000);
    stream->copy(a.device(), b.host(), 1000);
    stream->fill(a.device(), 2, 10);
    stream->copy(b.host(), a.device(), 1000);
    const auto *bytes = static_cast<const char *>(b.host());
    EXPECT(bytes[9] == 2 && bytes[10] == 1 && bytes[999] == 1);
    device->write(a.device(), "abc", 3);
    stream->copy(b.host(), a.device(), 3);
    EXPECT(std::memcmp(bytes, "abc", 3) == 0);
    a = Buffer();
    EXPECT(fake().live("memory") == 0);
  }
  expect_balance();
}

void test_streams() {
  {
    const auto device = open();
    const Current current(*device);
    const auto stream = device->new_stream();
    const auto other = device->new_stream();
    const auto a = device->new_event();
    const auto b = device->new_event();
    EXPECT(stream->native() != nullptr && stream->native() != other->native());
    EXPECT(a->done());
    EXPECT(b->microseconds_since(*a) == 0);
    int count = 0;
    stream->record(*a);
    stream->call([](void *n) { ++*static_cast<int *>(n); }, &count);
    stream->record(*b);
    other->wait(*b);
    EXPECT(count == 1 && b->done() && b->microseconds_since(*a) == 250);
    // A time that cannot be told fails nothing.
    for (const int result : {1, 600, 801}) {
      fake().fail("cuEventElapsedTime", result, 1);
      EXPECT(b->microseconds_since(*a) == 0);
    }
    fake().stall(true);
    EXPECT(!b->done());
    fake().stall(false);
    for (const char *function : {"cuStreamCreate", "cuEventCreate"}) {
      fake().fail(function, 2, 1);
      EXPECT_ERROR(TOKLIP_TRT_OUT_OF_MEMORY, "make a", {
        device->new_stream();
        device->new_event();
      });
    }
  }
  expect_balance();
}

void test_graphs(const char *path) {
  {
    const auto device = open(path);
    const Current current(*device);
    const auto stream = device->new_stream();
    const auto a = device->new_event();
    const auto b = device->new_event();
    int count = 0;
    const auto work = [&] {
      stream->record(*a);
      stream->call([](void *n) { ++*static_cast<int *>(n); }, &count);
      stream->record(*b);
    };
    const auto graph = stream->capture(work);
    EXPECT(count == 0);
    stream->launch(*graph);
    stream->launch(*graph);
    EXPECT(count == 2 && b->microseconds_since(*a) == 250);
    stream->record(*a);  // not external any more
    if (path != new_path) return;

    EXPECT(fake().live("graph") == 0 && fake().live("graph exec") == 1);
    struct Own {};
    bool thrown = false;
    try {
      stream->capture([&] {
        work();
        throw Own();
      });
    } catch (const Own &) {
      thrown = true;
    }
    EXPECT(thrown && count == 2);
    fake().spoil_capture();
    EXPECT_ERROR(TOKLIP_TRT_UNSUPPORTED, "(901)", stream->capture(work));
    fake().spoil_capture();
    EXPECT_ERROR(TOKLIP_TRT_BAD_MODEL, "first", stream->capture([] { fail(TOKLIP_TRT_BAD_MODEL, "first"); }));
    EXPECT_ERROR(TOKLIP_TRT_UNSUPPORTED, "(900)", stream->capture([&] { stream->wait(*a); }));
    fake().fail("cuGraphInstantiateWithFlags", 2, 1);
    EXPECT_ERROR(TOKLIP_TRT_OUT_OF_MEMORY, "graph", stream->capture(work));
    fake().fail("cuStreamBeginCapture_v2", 1, 1);
    EXPECT_ERROR(TOKLIP_TRT_INTERNAL, "begin a capture", stream->capture(work));
    // The stream works on after all that.
    work();
    EXPECT(count == 3);
    EXPECT(fake().live("graph") == 0 && fake().live("graph exec") == 1);
    stream->launch(*stream->capture(work));
    EXPECT(count == 4);
  }
  expect_balance();
}

void test_new_graphs() { test_graphs(new_path); }
void test_old_graphs() { test_graphs(old_path); }

// What sticks is told again by everything, in its first words; a reset makes a new device possible.
void test_lost() {
  {
    const auto device = open();
    {
      const Current current(*device);
      const auto stream = device->new_stream();
      const auto event = device->new_event();
      const auto graph = stream->capture([&] { stream->record(*event); });
      Buffer memory = device->allocate(Memory::kDevice, 10);
      Buffer pinned = device->allocate(Memory::kPinned, 10);
      stream->record(*event);
      fake().lose(700);
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, "wait for the GPU: CUDA_ERROR_ILLEGAL_ADDRESS (700)", event->done());
      fake().lose(719);
      const char *first = "(700)";
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, event->done());
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, event->microseconds_since(*event));
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, stream->record(*event));
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, stream->wait(*event));
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, stream->copy(memory.device(), pinned.host(), 10));
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, stream->fill(memory.device(), 0, 10));
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, stream->call([](void *) {}, nullptr));
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, stream->launch(*graph));
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, stream->capture([] {}));
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, device->new_stream());
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, device->new_event());
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, device->allocate(Memory::kDevice, 1));
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, device->write(memory.device(), "", 1));
      EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, first, Current{*device});
      const Current anyway(*device, std::nothrow);
    }
    EXPECT(fake().live("current") == 0);
    device->reset();
  }
  {
    const auto device = open();
    const Current current(*device);
    const auto event = device->new_event();
    EXPECT(event->done());
  }
  {
    const auto device = open();
    fake().fail("cuDevicePrimaryCtxReset_v2", 719, 1);
    EXPECT_ERROR(TOKLIP_TRT_DEVICE_LOST, "reset", device->reset());
  }
  expect_balance();
}

// Kernels that do not fit, functions that are missing, launches that fail.
void test_kernels() {
  {
    const auto device = open();
    const Current current(*device);
    for (const int result : {209, 222, 200}) {
      fake().fail("cuModuleLoadData", result, 1);
      EXPECT_ERROR(TOKLIP_TRT_UNSUPPORTED, "do not fit this GPU, sm_87", new_cuda_kernels(*device, "any"));
    }
    fake().fail("cuModuleLoadData", 2, 1);
    EXPECT_ERROR(TOKLIP_TRT_OUT_OF_MEMORY, "load CUDA kernels", new_cuda_kernels(*device, "any"));
    fake().fail("cuModuleGetFunction", 500, 1);
    EXPECT_ERROR(TOKLIP_TRT_INTERNAL, "toklip_upload", new_cuda_kernels(*device, "any"));
    EXPECT(fake().live("module") == 0);

    const auto kernels = new_cuda_kernels(*device, "any");
    EXPECT(kernels->space() == Space::kDevice && fake().live("module") == 1);
    const auto stream = device->new_stream();
    fake().fail("cuLaunchKernel", 701, 1);
    EXPECT_ERROR(TOKLIP_TRT_INTERNAL, "launch a CUDA kernel", kernels->normalise(*stream, 1, nullptr, 1, nullptr));
    const float code = 1;
    fake().fail("cuMemAlloc_v2", 2, 1);
    EXPECT_ERROR(TOKLIP_TRT_OUT_OF_MEMORY, "GPU memory", kernels->new_search(SearchOptions{&code, 1, 1, 1, 1}));
  }
  expect_balance();
}

// On a GPU that shares the CPU's memory frames are read in place, until one comes that is read more than once; on
// others they are copied by a kernel.
void test_upload() {
  for (const bool integrated : {false, true}) {
    fake().set("integrated", integrated);
    {
      const auto device = open();
      const Current current(*device);
      const auto kernels = new_cuda_kernels(*device, "any");
      const auto stream = device->new_stream();
      PreprocessorOptions options = {16, 2, {0.5F, 0.5F, 0.5F}, {0.5F, 0.5F, 0.5F}, Type::kFP16};
      const auto p = kernels->new_preprocessor(options);
      const std::vector<uint8_t> data(size_t{20} * 100, 7);
      toklip_trt_frame wide = {};
      wide.data = data.data();
      wide.size = data.size();
      wide.width = wide.stride = 100;
      wide.height = 20;
      wide.pixels = TOKLIP_TRT_GRAY;
      wide.resize = TOKLIP_TRT_SQUASH;
      toklip_trt_frame tall = wide;
      tall.width = tall.stride = 20;
      tall.height = 100;
      const auto launches = [&](const toklip_trt_frame &frame) {
        p->load(&frame, 1);
        const int before = fake().calls("cuLaunchKernel");
        p->upload(*stream, 1);
        return fake().calls("cuLaunchKernel") - before;
      };
      EXPECT(p->reserve(&wide, 1) == !integrated);
      EXPECT(launches(wide) == (integrated ? 0 : 1));
      EXPECT(p->reserve(&tall, 1) == integrated);
      EXPECT(launches(tall) == 1);
      EXPECT(!p->reserve(&wide, 1));
      EXPECT(launches(wide) == 1);
      // A failure leaves what was.
      const toklip_trt_frame both[2] = {wide, tall};
      const int live = fake().live("memory");
      fake().fail("cuMemHostAlloc", 2, 1);
      EXPECT_ERROR(TOKLIP_TRT_OUT_OF_MEMORY, "pinned", p->reserve(both, 2));
      EXPECT(fake().live("memory") == live);
      EXPECT(!p->reserve(&wide, 1));
      EXPECT(launches(wide) == 1);
    }
    expect_balance();
  }
  fake().set("integrated", 0);
}

constexpr Case kCases[] = {
    {"no driver", test_no_driver}, {"codes", test_codes},
    {"info", test_info},           {"current", test_current},
    {"memory", test_memory},       {"streams", test_streams},
    {"graphs", test_new_graphs},   {"graphs of an old driver", test_old_graphs},
    {"lost", test_lost},           {"kernels", test_kernels},
    {"upload", test_upload},
};

}  // namespace
}  // namespace toklip

int main(int argc, char **argv) {
  if (argc != 3) {
    std::fprintf(stderr, "use: %s libtoklip_fake_cuda_new.so libtoklip_fake_cuda_old.so\n", argv[0]);
    return 2;
  }
  toklip::new_path = argv[1];
  toklip::old_path = argv[2];
  return toklip::run_cases(toklip::kCases);
}
