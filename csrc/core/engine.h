// Engine: a network that was compiled for the device. csrc/tensorrt implements it over TensorRT, csrc/test over ONNX
// Runtime.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"

namespace toklip {

// Types of tensors. The first three are those of toklip_trt_type; the rest can be told but not used.
enum class Type { kFP32 = 1, kFP16 = 2, kINT32 = 3, kINT64 = 4, kINT8 = 5, kUINT8 = 6, kBool = 7, kOther = 8 };

// "fp32", "fp16" …; "other" for kOther.
const char *name_of(Type type);

// Bytes of one element; 0 for kOther.
size_t size_of(Type type);

struct TensorInfo {
  std::string name;
  bool input = false;
  Type type = Type::kFP32;
  std::vector<int64_t> shape;  // -1 where it is open; an input's first dimension is the batch
};

// "[?,3,256,256]", for a person: open dimensions are question marks.
std::string shape_text(const std::vector<int64_t> &shape);

// What runs an engine: its shapes, addresses and state. Used by one thread at a time, and its work belongs to one
// stream. Destroyed after that work has ended, before the Engine and the scratch memory.
class Context {
 public:
  virtual ~Context() = default;

  // Sets the shape of an input. TOKLIP_TRT_INVALID, naming the tensor, shape and what the engine allows, if it is none.
  virtual void set_shape(const std::string &input, const int64_t *shape, size_t rank) = 0;
  // Sets where a tensor lies: an address for the device (Buffer::device), aligned to 256 bytes. The memory is large
  // enough for the shape and remains the caller's.
  virtual void set_address(const std::string &tensor, void *address) = 0;
  // Enqueues one run. Shapes and addresses of all tensors were set before. May be called in a capture once it ran
  // outside of one with the same shapes and that run has ended; the graph is void once shape or address were set again.
  virtual void enqueue(Stream &stream) = 0;
};

// An engine is shared: all methods but the destructor may be called by any thread.
class Engine {
 public:
  virtual ~Engine() = default;  // all contexts are gone

  virtual const std::vector<TensorInfo> &tensors() const = 0;  // inputs and outputs, in the engine's order
  virtual int32_t batch_min() const = 0;  // of the profile; both as in the shape where that is not open
  virtual int32_t batch_max() const = 0;

  // Bytes of device memory that a context works in. Contexts whose work is on one stream may share it.
  virtual size_t scratch_size() const = 0;
  // scratch has scratch_size() bytes, aligned to 256, and is the caller's; NULL if the size is 0.
  virtual std::unique_ptr<Context> new_context(void *scratch) = 0;

  // JSON of the engine inspector.
  virtual std::string layers() = 0;
};

// The input or output of this name; NULL if there is none.
const TensorInfo *find_tensor(const Engine &engine, const std::string &name, bool input);

}  // namespace toklip
