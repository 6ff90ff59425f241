// kernels.cu as C++. What CUDA's language adds is defined here; shared memory is static, because one block runs at a
// time.
#include "test/cuda_on_cpu.h"

#include <stdexcept>
#include <tuple>
#include <utility>

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
#define threadIdx toklip::cpu_thread
#define blockIdx toklip::cpu_block
#define blockDim toklip::cpu_block_size
#define gridDim toklip::cpu_grid
#define __syncthreads() toklip::cpu_barrier()
#define __ballot_sync(mask, vote) toklip::cpu_ballot(vote)
#define __popc(bits) __builtin_popcount(bits)
#define atomicAdd(address, value) (*(address) += (value))

#include "kernels/kernels.cu"

namespace toklip {
namespace {

template <typename... Parameters, size_t... i>
std::function<void()> with_parameters(void (*kernel)(Parameters...), void *const *from, std::index_sequence<i...>) {
  return [kernel, parameters = std::tuple<Parameters...>(*static_cast<const Parameters *>(from[i])...)] {
    std::apply(kernel, parameters);
  };
}

// A kernel whatever its parameters are.
struct Kernel {
  std::vector<size_t> sizes;
  std::function<std::function<void()>(void *const *)> bound;

  template <typename... Parameters>
  explicit Kernel(void (*kernel)(Parameters...))
      : sizes{sizeof(Parameters)...}, bound([kernel](void *const *from) {
          return with_parameters(kernel, from, std::index_sequence_for<Parameters...>());
        }) {}
};

const Kernel *find(const std::string &name) {
#define KERNEL(kernel)                 \
  if (name == #kernel) {               \
    static const Kernel found(kernel); \
    return &found;                     \
  }
  KERNEL(toklip_upload)
  KERNEL(toklip_first_pass)
  KERNEL(toklip_second_pass)
  KERNEL(toklip_search_4)
  KERNEL(toklip_search_8)
  KERNEL(toklip_search_16)
  KERNEL(toklip_search_32)
  KERNEL(toklip_search_join)
  KERNEL(toklip_compare)
  KERNEL(toklip_gather)
  KERNEL(toklip_normalise)
#undef KERNEL
  return nullptr;
}

}  // namespace

std::vector<size_t> kernel_parameters(const std::string &name) {
  const Kernel *kernel = find(name);
  return kernel != nullptr ? kernel->sizes : std::vector<size_t>();
}

void run_kernel(const std::string &name, uint32_t grid_x, uint32_t grid_y, uint32_t threads, void *const *parameters) {
  const Kernel *kernel = find(name);
  if (kernel == nullptr) throw std::logic_error("no kernel " + name);
  run_on_cpu(grid_x, grid_y, threads, kernel->bound(parameters));
}

}  // namespace toklip
