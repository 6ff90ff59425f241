#include "test/small_model.h"

#include <cstdint>
#include <initializer_list>
#include <vector>

namespace toklip {
namespace {

// Protocol buffers; the numbers are those of onnx.proto.
std::string varint(uint64_t v) {
  std::string out;
  for (; v >= 0x80; v >>= 7) out += static_cast<char>(v | 0x80);
  return out + static_cast<char>(v);
}
std::string number(uint64_t field, uint64_t v) { return varint(field << 3) + varint(v); }
std::string bytes(uint64_t field, const std::string &v) { return varint(field << 3 | 2) + varint(v.size()) + v; }

// An attribute of integers.
std::string integers(const std::string &name, const std::vector<uint64_t> &values) {
  std::string out = bytes(1, name);
  for (const uint64_t v : values) out += number(8, v);
  return bytes(5, out + number(20, 7));
}
std::string integer(const std::string &name, uint64_t value) {
  return bytes(5, bytes(1, name) + number(3, value) + number(20, 2));
}

std::string node(const std::string &op, const std::string &in, const std::string &out, const std::string &attributes) {
  return bytes(1, bytes(1, in) + bytes(2, out) + bytes(4, op) + attributes);
}

constexpr uint64_t kFloat = 1, kInt32 = 6;

// A tensor whose first dimension is B.
std::string value(uint64_t field, const std::string &name, uint64_t type, std::initializer_list<uint64_t> rest) {
  std::string shape = bytes(1, bytes(2, "B"));
  for (const uint64_t d : rest) shape += bytes(1, number(1, d));
  return bytes(field, bytes(1, name) + bytes(2, bytes(1, number(1, type) + bytes(2, shape))));
}

std::string model(const std::string &graph) {
  return number(1, 6) + bytes(7, graph + bytes(2, "small")) + bytes(8, number(2, 11));
}

}  // namespace

std::string tokenizer_onnx() {
  return model(node("AveragePool", "image", "latents", integers("kernel_shape", {8, 8}) + integers("strides", {8, 8})) +
               value(11, "image", kFloat, {3, 16, 16}) + value(12, "latents", kFloat, {3, 2, 2}));
}

std::string encoder_onnx() {
  return model(node("Cast", "ids", "embedding", integer("to", kFloat)) +
               node("Unsqueeze", "embedding", "features", integers("axes", {2})) + value(11, "ids", kInt32, {4}) +
               value(12, "features", kFloat, {4, 1}) + value(12, "embedding", kFloat, {4}));
}

}  // namespace toklip
