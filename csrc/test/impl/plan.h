// Plans of the implementation for tests: small texts that name an ONNX file.
#pragma once

#include <cstdint>
#include <string>

namespace toklip {

struct Plan {
  std::string library;  // version of ONNX Runtime: a plan is good for just the one that made it
  int32_t batch_min = 1, batch_opt = 1, batch_max = 1;
  std::string onnx_path;
  uint64_t onnx_hash = 0;  // of the ONNX file, weights beside it excepted
};

//     toklip test plan 1
//     library 1.30.0
//     batch 1 1 4
//     onnx d41d8cd98f00b204 /models/tiny/tokenizer.fp16.onnx
//     end 0123456789abcdef                                    hash of all before
std::string text_of(const Plan &plan);

// Throws TOKLIP_TRT_BAD_PLAN, saying why, for anything else than what text_of made.
Plan parse_plan(const std::string &content);

}  // namespace toklip
