// Pieces of JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace toklip {

// Text as a JSON string, quotes included. What is no UTF-8 is taken as it is: names come from ONNX, which demands it.
std::string json_string(const std::string &text);

// "[-1,3,256,256]"
std::string json_shape(const std::vector<int64_t> &shape);

}  // namespace toklip
