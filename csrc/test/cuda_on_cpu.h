// Runs CUDA kernels on the CPU: kernels.cu, compiled as C++, with each of a block's threads a fiber. Barriers and votes
// are where fibers take turns. It is slow, and it finds what a GPU would do wrong: wrong indices, places that nobody
// writes, barriers that not all threads reach, reads before a barrier of what others write (fibers run forwards between
// two barriers and backwards between the next). It knows nothing of a GPU's memory or of its compiler.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace toklip {

struct Place {
  uint32_t x = 0, y = 0, z = 0;
};

// Of the fiber that runs.
extern thread_local Place cpu_thread, cpu_block, cpu_block_size, cpu_grid;

// __syncthreads and __ballot_sync of a whole warp.
void cpu_barrier();
uint32_t cpu_ballot(bool vote);

// Calls kernel once for each thread of each block. One launch at a time. Throws std::logic_error if a barrier was not
// reached by all threads.
void run_on_cpu(uint32_t grid_x, uint32_t grid_y, uint32_t threads, const std::function<void()> &kernel);

// Bytes of each parameter of the kernel of this name in kernels.cu; empty: there is none.
std::vector<size_t> kernel_parameters(const std::string &name);
// Runs it with parameters as cuLaunchKernel takes them.
void run_kernel(const std::string &name, uint32_t grid_x, uint32_t grid_y, uint32_t threads, void *const *parameters);

}  // namespace toklip
