// Files, read and written whole.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace toklip {
namespace tensorrt {

// TOKLIP_TRT_FILE with path and reason if there is none, or it cannot be read.
std::vector<char> read_file(const std::string &path);
// The same without reading it.
void check_readable(const std::string &path);
bool exists(const std::string &path);

// Replaces a file at once: others see the old one or the new one, whole, whatever happens meanwhile.
// TOKLIP_TRT_FILE with path and reason; then the old file, if any, is untouched and nothing else is left.
void write_file(const std::string &path, const void *data, size_t size);

}  // namespace tensorrt
}  // namespace toklip
