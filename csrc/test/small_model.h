// A tokenizer and an encoder of a few nodes, written as ONNX files.
#pragma once

#include <string>

namespace toklip {

// image fp32 [B,3,16,16] -> latents fp32 [B,3,2,2]: means of the quarters.
std::string tokenizer_onnx();

// ids int32 [B,4] -> features fp32 [B,4,1], embedding fp32 [B,4]: the ids as numbers.
std::string encoder_onnx();

}  // namespace toklip
