#include "tensorrt/types.h"

#include <string>

#include "core/error.h"
#include "core/json.h"

namespace toklip {
namespace tensorrt {

std::string type_name(nvinfer1::DataType type) {
  // By number: the names of the newer types are missing in older headers, the numbers have never moved.
  static constexpr const char *kNames[] = {"fp32", "fp16", "int8", "int32", "bool", "uint8", "fp8", "bf16", "int64"};
  auto number = static_cast<size_t>(type);
  if (number < sizeof kNames / sizeof kNames[0]) return kNames[number];
  return "type " + std::to_string(number);
}

std::vector<int64_t> shape_of(const nvinfer1::Dims &dims) {
  std::vector<int64_t> out;
  for (int32_t i = 0; i < dims.nbDims; ++i) out.push_back(dims.d[i]);
  return out;
}

nvinfer1::Dims dims_of(const std::vector<int64_t> &shape) {
  nvinfer1::Dims dims{};
  constexpr int64_t kMost = INT32_MAX;  // of 8.x, whose dimensions are 32 bits wide
  if (shape.size() > static_cast<size_t>(nvinfer1::Dims::MAX_DIMS)) {
    throw Error(TOKLIP_TRT_INVALID, "shape " + json_shape(shape) + " has more dimensions than TensorRT's 8.");
  }
  dims.nbDims = static_cast<int32_t>(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] < -1 || shape[i] > kMost)
      throw Error(TOKLIP_TRT_INVALID, "shape " + json_shape(shape) + " cannot be.");
    dims.d[i] = static_cast<std::remove_reference_t<decltype(dims.d[i])>>(shape[i]);
  }
  return dims;
}

}  // namespace tensorrt
}  // namespace toklip
