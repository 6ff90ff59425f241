#include "cuda/driver.h"

#include <dlfcn.h>

namespace toklip {
namespace {

// Looks a function up; a member of the table is a pointer to it, which dlsym gives as void*.
template <typename Function>
bool find(void *library, const char *symbol, Function *function) {
  *reinterpret_cast<void **>(function) = dlsym(library, symbol);
  return *function != nullptr;
}

constexpr char kLook[] =
    ". Check that nvidia-smi (on a Jetson: tegrastats) sees the GPU and that this user may open /dev/nvidia* and "
    "/dev/nvhost*";

}  // namespace

Driver::Driver(const std::string &path) {
  const char *name = path.empty() ? "libcuda.so.1" : path.c_str();
  void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char *reason = dlerror();
    fail(TOKLIP_TRT_NO_DEVICE,
         "the CUDA driver cannot be opened: %s. Install the NVIDIA driver; on a Jetson it comes with JetPack, in a "
         "container it comes with the NVIDIA container runtime (docker run --gpus all, or --runtime nvidia).",
         reason != nullptr ? reason : name);
  }
  // The functions it lacks.
  const char *missing = nullptr;
#define TOKLIP_CUDA_FIND(member, symbol, parameters) \
  if (!find(library, #symbol, &member)) missing = #symbol;
  TOKLIP_CUDA_FUNCTIONS(TOKLIP_CUDA_FIND)
  if (missing == nullptr) {
    TOKLIP_CUDA_INSTANTIATE(TOKLIP_CUDA_FIND)
    if (instantiate != nullptr || instantiate_old != nullptr) missing = nullptr;
  }
#undef TOKLIP_CUDA_FIND
  if (missing != nullptr) {
    const std::string symbol = missing;
    // The driver stays open once it was initialised: it cannot be unloaded. Here it was not.
    dlclose(library);
    fail(TOKLIP_TRT_NO_DEVICE,
         "the CUDA driver %s has no function %s. Update the NVIDIA driver to one of CUDA 11.4 or later (JetPack 5.1).",
         name, symbol.c_str());
  }
  const CUresult result = init(0);
  if (result != kCudaSuccess) {
    const char *what = "start the CUDA driver";
    if (result == kCudaOutOfMemory || code_of(result) == TOKLIP_TRT_NO_DEVICE) throw error(result, what);
    // Before anything was done nothing can have been lost: a GPU that does not answer, or may not be opened.
    fail(TOKLIP_TRT_NO_DEVICE, "%s: %s%s", what, describe(result).c_str(), kLook);
  }
  check(driver_version(&version), "ask the CUDA driver for its version");
}

toklip_trt_code Driver::code_of(CUresult result) {
  switch (result) {
    case kCudaOutOfMemory:
      return TOKLIP_TRT_OUT_OF_MEMORY;

    case 3:    // NOT_INITIALIZED
    case 34:   // STUB_LIBRARY: the libcuda that compilers link against
    case 35:   // what the CUDA runtime calls a driver that is too old or missing
    case 46:   // DEVICE_UNAVAILABLE: another process has it for itself
    case 100:  // NO_DEVICE
    case 101:  // INVALID_DEVICE
    case 102:  // DEVICE_NOT_LICENSED
    case 802:  // SYSTEM_NOT_READY
    case 803:  // SYSTEM_DRIVER_MISMATCH
    case 804:  // COMPAT_NOT_SUPPORTED_ON_DEVICE
      return TOKLIP_TRT_NO_DEVICE;

    case 4:    // DEINITIALIZED
    case 201:  // INVALID_CONTEXT: it was destroyed under us
    case 214:  // ECC_UNCORRECTABLE
    case 220:  // NVLINK_UNCORRECTABLE
    case 226:  // CONTAINED
    case 700:  // ILLEGAL_ADDRESS
    case 702:  // LAUNCH_TIMEOUT
    case 709:  // CONTEXT_IS_DESTROYED
    case 710:  // ASSERT
    case 714:  // HARDWARE_STACK_ERROR
    case 715:  // ILLEGAL_INSTRUCTION
    case 716:  // MISALIGNED_ADDRESS
    case 717:  // INVALID_ADDRESS_SPACE
    case 718:  // INVALID_PC
    case 719:  // LAUNCH_FAILED
    case 721:  // TENSOR_MEMORY_LEAK
    case 911:  // EXTERNAL_DEVICE
    case 999:  // UNKNOWN
      return TOKLIP_TRT_DEVICE_LOST;

    case 200:  // INVALID_IMAGE
    case 209:  // NO_BINARY_FOR_GPU
    case 218:  // INVALID_PTX
    case 221:  // JIT_COMPILER_NOT_FOUND: a library of the driver's that containers may lack
    case 222:  // UNSUPPORTED_PTX_VERSION
    case 223:  // JIT_COMPILATION_DISABLED
    case 801:  // NOT_SUPPORTED
      return TOKLIP_TRT_UNSUPPORTED;

    default:
      // What streams answer that are captured, or were when something was done that cannot be.
      if (result >= 900 && result <= 908) return TOKLIP_TRT_UNSUPPORTED;
      return TOKLIP_TRT_INTERNAL;
  }
}

std::string Driver::describe(CUresult result) const {
  const char *name = nullptr;
  const char *string = nullptr;
  if (error_name == nullptr || error_name(result, &name) != kCudaSuccess || name == nullptr) name = "CUDA error";
  if (error_string == nullptr || error_string(result, &string) != kCudaSuccess || string == nullptr) string = "";
  return text(*string != '\0' ? "%s (%d): %s" : "%s (%d)", name, result, string);
}

Error Driver::error(CUresult result, const char *what) const {
  const toklip_trt_code code = code_of(result);
  const char *next = "";
  if (result == 34) {
    next =
        ". The libcuda that was opened is the stub that compilers link against: take its folder out of LD_LIBRARY_PATH";
  } else if (result == 46) {
    next = ". Another process uses the GPU alone (nvidia-smi -c, compute mode): end it or set the mode to Default";
  } else if (result == 803 || result == 804 || result == 35) {
    next =
        ". Driver and its libraries are of different versions: restart after an update; in a container, use the host's";
  } else if (code == TOKLIP_TRT_NO_DEVICE) {
    next = kLook;
  } else if (code == TOKLIP_TRT_DEVICE_LOST) {
    next = ". Everything on the GPU is lost; the kernel log (dmesg) may say why";
  }
  return Error(code, text("%s: %s%s", what, describe(result).c_str(), next));
}

}  // namespace toklip
