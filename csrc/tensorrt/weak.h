// Types of a network whose types TensorRT is free to choose: all of 8.x, and those for DLA in 10.x.
#pragma once

#include "core/log.h"
#include "tensorrt/headers.h"

#if TOKLIP_WEAK_TYPING

namespace toklip {
namespace tensorrt {

// Allows FP16 (if fp16) and, where the graph quantises, INT8; and holds TensorRT to FP32 where the graph computes in FP32
// (the islands of normalisation, softmax and distances), which it would otherwise move to FP16 where that is faster.
void set_weak_types(nvinfer1::INetworkDefinition &network, nvinfer1::IBuilderConfig &config, bool fp16, Log &log);

}  // namespace tensorrt
}  // namespace toklip

#endif
