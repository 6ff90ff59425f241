// The implementations of Kernels.
#pragma once

#include <memory>

#include "core/kernels.h"

namespace toklip {

class CudaDevice;

// The CUDA kernels on this device, which is current and outlives them. Throws TOKLIP_TRT_UNSUPPORTED if no kernels were
// compiled into this object or none of them fits the GPU.
std::unique_ptr<Kernels> new_cuda_kernels(CudaDevice &device);

// The same with kernels compiled elsewhere, which cuModuleLoadData reads at image; it is read during the call only.
std::unique_ptr<Kernels> new_cuda_kernels(CudaDevice &device, const void *image);

// The same work on the CPU, as host functions on the streams of any device, which outlives them.
std::unique_ptr<Kernels> new_cpu_kernels(Device &device);

// Architectures that kernels were compiled for, such as "sm_72 sm_87"; empty: none.
const char *kernel_architectures();

}  // namespace toklip
