// A network read from an ONNX file.
#pragma once

#include <memory>
#include <string>

#include "core/device.h"
#include "tensorrt/loaded.h"
#include "tensorrt/logger.h"

namespace toklip {
namespace tensorrt {

// How the types of tensors come about: from the graph, or from what TensorRT finds fastest within bounds.
enum class Typing { kStrong, kWeak };

// Network holds TensorRT's builder, what its parser made of a file, and the parser, to whose memory the weights belong.
// One thread at a time.
class Network {
 public:
  // TOKLIP_TRT_FILE if the file cannot be read, TOKLIP_TRT_BAD_MODEL with the parser's first error if TensorRT refuses
  // it. device is NULL where none is needed.
  Network(Loaded &loaded, const LogScope &scope, Device *device, const std::string &onnx_path, Typing typing);

  nvinfer1::IBuilder &builder() { return *builder_; }
  nvinfer1::INetworkDefinition &definition() { return *network_; }

  // See toklip_trt_network_describe.
  std::string json() const;

 private:
  // Freed in this order, last first.
  std::unique_ptr<nvinfer1::IBuilder, Deleter<nvinfer1::IBuilder>> builder_;
  std::unique_ptr<nvinfer1::INetworkDefinition, Deleter<nvinfer1::INetworkDefinition>> network_;
  std::unique_ptr<nvonnxparser::IParser, Deleter<nvonnxparser::IParser>> parser_;
};

}  // namespace tensorrt
}  // namespace toklip
