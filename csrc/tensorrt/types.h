// TensorRT's numbers in words of ours: its enumerators move between versions and never cross the C ABI.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensorrt/headers.h"

namespace toklip {
namespace tensorrt {

// "fp32", "fp16", "int32", "int8", "uint8", "bool", "int64", "fp8", "bf16"; "type 12" for one of a later version.
std::string type_name(nvinfer1::DataType type);

std::vector<int64_t> shape_of(const nvinfer1::Dims &dims);
// Dimensions above 8 or below -1 are refused.
nvinfer1::Dims dims_of(const std::vector<int64_t> &shape);

}  // namespace tensorrt
}  // namespace toklip
