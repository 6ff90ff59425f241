#include "core/engine.h"

namespace toklip {

const char *name_of(Type type) {
  switch (type) {
    case Type::kFP32:
      return "fp32";
    case Type::kFP16:
      return "fp16";
    case Type::kINT32:
      return "int32";
    case Type::kINT64:
      return "int64";
    case Type::kINT8:
      return "int8";
    case Type::kUINT8:
      return "uint8";
    case Type::kBool:
      return "bool";
    case Type::kOther:
      break;
  }
  return "other";
}

size_t size_of(Type type) {
  switch (type) {
    case Type::kINT64:
      return 8;
    case Type::kFP32:
    case Type::kINT32:
      return 4;
    case Type::kFP16:
      return 2;
    case Type::kINT8:
    case Type::kUINT8:
    case Type::kBool:
      return 1;
    case Type::kOther:
      break;
  }
  return 0;
}

std::string shape_text(const std::vector<int64_t> &shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); i++) out += (i > 0 ? "," : "") + (shape[i] < 0 ? "?" : std::to_string(shape[i]));
  return out + "]";
}

const TensorInfo *find_tensor(const Engine &engine, const std::string &name, bool input) {
  for (const TensorInfo &t : engine.tensors()) {
    if (t.input == input && t.name == name) return &t;
  }
  return nullptr;
}

}  // namespace toklip
