#include "tensorrt/network.h"

#include "core/error.h"
#include "core/json.h"
#include "tensorrt/failure.h"
#include "tensorrt/files.h"
#include "tensorrt/types.h"

namespace toklip {
namespace tensorrt {
namespace {

uint32_t creation_flags(Typing typing) {
#if TOKLIP_TRT8
  (void)typing;
  return 1u << static_cast<uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kEXPLICIT_BATCH);
#elif TOKLIP_TRT10
  return typing == Typing::kStrong
             ? 1u << static_cast<uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kSTRONGLY_TYPED)
             : 0u;
#else
  (void)typing;
  return 0;  // all are strongly typed
#endif
}

std::string text_or(const char *text, const char *otherwise) { return text && *text ? text : otherwise; }

// The parser's first error: what, and at which node.
std::string parser_error(const nvonnxparser::IParser &parser, const LogScope &scope) {
  if (parser.getNbErrors() == 0) return scope.reason();
  const nvonnxparser::IParserError &error = *parser.getError(0);
  std::string out = text_or(error.desc(), "no description");
#if TOKLIP_HEADERS_AT_LEAST(10, 0)
  if (error.node() >= 0) {
    out += " (node " + std::to_string(error.node()) + " " + text_or(error.nodeName(), "without name") + ", operator " +
           text_or(error.nodeOperator(), "unknown") + ")";
  }
#else
  if (error.node() >= 0) out += " (node " + std::to_string(error.node()) + ")";
#endif
  return out;
}

std::string tensor_json(const nvinfer1::ITensor &tensor) {
  return "{\"name\":" + json_string(tensor.getName()) + ",\"type\":\"" + type_name(tensor.getType()) +
         "\",\"shape\":" + json_shape(shape_of(tensor.getDimensions())) + "}";
}

}  // namespace

Network::Network(Loaded &loaded, const LogScope &scope, Device *device, const std::string &onnx_path, Typing typing) {
  check_readable(onnx_path);
  Logger &logger = Logger::instance();
  builder_.reset(loaded.create_builder(logger));
  if (!builder_) fail_from(scope, TOKLIP_TRT_INTERNAL, "TensorRT cannot make a builder", device);
  network_.reset(builder_->createNetworkV2(creation_flags(typing)));
  if (!network_) fail_from(scope, TOKLIP_TRT_INTERNAL, "TensorRT cannot make a network", device);
  parser_.reset(loaded.create_parser(*network_, logger));
  if (!parser_) fail_from(scope, TOKLIP_TRT_INTERNAL, "TensorRT cannot make an ONNX parser", device);
#if TOKLIP_TRT8 && TOKLIP_HEADERS_AT_LEAST(8, 6)
  // Normalises without a plugin, which version-compatible plans may not have; later versions do by themselves.
  if (loaded.has(8, 6)) parser_->setFlag(nvonnxparser::OnnxParserFlag::kNATIVE_INSTANCENORM);
#endif
  bool parsed = parser_->parseFromFile(onnx_path.c_str(), static_cast<int>(nvinfer1::ILogger::Severity::kWARNING));
  if (!parsed || parser_->getNbErrors() > 0) {
    throw Error(TOKLIP_TRT_BAD_MODEL, sentence("TensorRT " + loaded.version().text() + " cannot read " + onnx_path +
                                               ": " + parser_error(*parser_, scope)));
  }
}

std::string Network::json() const {
  std::string out = "{\"inputs\":[";
  for (int32_t i = 0; i < network_->getNbInputs(); ++i) out += (i ? "," : "") + tensor_json(*network_->getInput(i));
  out += "],\"outputs\":[";
  for (int32_t i = 0; i < network_->getNbOutputs(); ++i) out += (i ? "," : "") + tensor_json(*network_->getOutput(i));
  return out + "],\"layers\":" + std::to_string(network_->getNbLayers()) + "}";
}

}  // namespace tensorrt
}  // namespace toklip
