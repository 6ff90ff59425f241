// The compiled CUDA kernels: what nvcc made of kernels.cu, as bytes inside this object.
#pragma once

#include <cstddef>

namespace toklip {

const void *kernel_image();  // for cuModuleLoadData
size_t kernel_image_size();  // bytes; 0 where there was no nvcc

}  // namespace toklip
