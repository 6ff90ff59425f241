// As much of an ONNX file as the implementation for tests looks at itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace toklip {

// The whole file. Throws TOKLIP_TRT_FILE.
std::string read_file(const std::string &path);

// Writes beside path, then renames, so that the file is there whole or not at all. Throws TOKLIP_TRT_FILE.
void write_file(const std::string &path, const std::string &content);

// FNV-1a.
uint64_t hash_of(const std::string &content);

// Operators of the graph's nodes, in their order, such as "Conv". Throws TOKLIP_TRT_BAD_MODEL.
std::vector<std::string> node_operators(const std::string &content);

}  // namespace toklip
