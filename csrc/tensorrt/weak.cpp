#include "tensorrt/weak.h"

#if TOKLIP_WEAK_TYPING

#include <string>
#include <vector>

namespace toklip {
namespace tensorrt {
namespace {

using nvinfer1::BuilderFlag;
using nvinfer1::DataType;
using nvinfer1::ILayer;
using nvinfer1::LayerType;

// Layers that compute, so that their precision matters; others move or make data.
bool computes(const ILayer &layer) {
  switch (layer.getType()) {
    case LayerType::kACTIVATION:
    case LayerType::kCONVOLUTION:
    case LayerType::kELEMENTWISE:
    case LayerType::kMATRIX_MULTIPLY:
    case LayerType::kPOOLING:
    case LayerType::kREDUCE:
    case LayerType::kSCALE:
    case LayerType::kSOFTMAX:
    case LayerType::kUNARY:
#if TOKLIP_HEADERS_AT_LEAST(8, 6)
    case LayerType::kNORMALIZATION:
#endif
      return true;
    default:
      return false;
  }
}

bool multiplies(const ILayer &layer) {
  return layer.getType() == LayerType::kMATRIX_MULTIPLY || layer.getType() == LayerType::kCONVOLUTION;
}

bool quantises(const ILayer &layer) {
  return layer.getType() == LayerType::kQUANTIZE || layer.getType() == LayerType::kDEQUANTIZE;
}

}  // namespace

void set_weak_types(nvinfer1::INetworkDefinition &network, nvinfer1::IBuilderConfig &config, bool fp16, Log &log) {
  std::vector<ILayer *> fp32;
  int32_t half_products = 0;
  bool int8 = false;
  for (int32_t i = 0; i < network.getNbLayers(); ++i) {
    ILayer &layer = *network.getLayer(i);
    if (quantises(layer)) int8 = true;
    if (!computes(layer) || layer.getNbOutputs() == 0) continue;
    DataType type = layer.getOutput(0)->getType();
    if (type == DataType::kHALF && multiplies(layer)) ++half_products;
    if (type == DataType::kFLOAT) fp32.push_back(&layer);
  }
  if (int8) config.setFlag(BuilderFlag::kINT8);
  if (!fp16) return;
  config.setFlag(BuilderFlag::kFP16);
  if (half_products == 0) {
    // The graph is of FP32, or this version does not tell types before it builds: there is nothing to hold on to.
    log.add(TOKLIP_TRT_LOG_INFO,
            "no product of the network is of FP16: TensorRT chooses between FP16 and FP32 for all layers");
    return;
  }
  config.setFlag(BuilderFlag::kOBEY_PRECISION_CONSTRAINTS);
  for (ILayer *layer : fp32) {
    layer->setPrecision(DataType::kFLOAT);
    layer->setOutputType(0, DataType::kFLOAT);
  }
  log.add(TOKLIP_TRT_LOG_INFO, "FP16 with " + std::to_string(fp32.size()) + " layers held to FP32, as the graph says");
}

}  // namespace tensorrt
}  // namespace toklip

#endif
