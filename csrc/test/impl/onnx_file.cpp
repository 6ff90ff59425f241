#include "test/impl/onnx_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>

#include "core/error.h"

namespace toklip {
namespace {

// Protocol buffers, https://protobuf.dev/programming-guides/encoding.
class Message {
 public:
  explicit Message(std::string_view bytes) : rest_(bytes) {}

  // Goes to the next field; false at the end.
  bool next() {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    field_ = tag >> 3;
    content_ = {};
    switch (tag & 7) {
      case 0:
        varint();
        return true;
      case 1:
        take(8);
        return true;
      case 2:
        content_ = take(varint());
        return true;
      case 5:
        take(4);
        return true;
      default:
        fail(TOKLIP_TRT_BAD_MODEL, "the file is no ONNX model: wire type %d", static_cast<int>(tag & 7));
    }
  }
  uint64_t field() const { return field_; }
  std::string_view content() const { return content_; }  // of fields with a length

 private:
  uint64_t varint() {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      v |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return v;
    }
    fail(TOKLIP_TRT_BAD_MODEL, "the file is no ONNX model: a number is too long");
  }
  std::string_view take(uint64_t n) {
    if (n > rest_.size()) fail(TOKLIP_TRT_BAD_MODEL, "the file is no ONNX model: it ends too early");
    const std::string_view out = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return out;
  }

  std::string_view rest_, content_;
  uint64_t field_ = 0;
};

// Fields of onnx.proto.
constexpr uint64_t kModelGraph = 7, kGraphNode = 1, kNodeOperator = 4;

}  // namespace

std::string read_file(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream out;
  if (file) out << file.rdbuf();
  if (!file) fail(TOKLIP_TRT_FILE, "%s cannot be read: %s", path.c_str(), std::strerror(errno));
  return out.str();
}

void write_file(const std::string &path, const std::string &content) {
  const std::string part = path + ".part";
  std::ofstream file(part, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  if (!file || std::rename(part.c_str(), path.c_str()) != 0) {
    const int why = errno;
    unlink(part.c_str());
    fail(TOKLIP_TRT_FILE, "%s cannot be written: %s", path.c_str(), std::strerror(why));
  }
}

uint64_t hash_of(const std::string &content) {
  uint64_t h = 0xcbf29ce484222325;
  for (const char c : content) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return h;
}

std::vector<std::string> node_operators(const std::string &content) {
  std::vector<std::string> out;
  for (Message model(content); model.next();) {
    if (model.field() != kModelGraph) continue;
    for (Message graph(model.content()); graph.next();) {
      if (graph.field() != kGraphNode) continue;
      for (Message node(graph.content()); node.next();) {
        if (node.field() == kNodeOperator) out.emplace_back(node.content());
      }
    }
  }
  return out;
}

}  // namespace toklip
