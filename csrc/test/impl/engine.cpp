#include "test/impl/engine.h"

#include "core/error.h"
#include "core/json.h"

namespace toklip {
namespace {

std::string tensors_json(const std::vector<TensorInfo> &tensors, bool input) {
  std::string out;
  for (const TensorInfo &t : tensors) {
    if (t.input != input) continue;
    if (!out.empty()) out += ",";
    out += "{\"name\":" + json_string(t.name) + ",\"type\":\"" + name_of(t.type) +
           "\",\"shape\":" + json_shape(t.shape) + "}";
  }
  return "[" + out + "]";
}

class OrtEngine final : public Engine {
 public:
  OrtEngine(std::shared_ptr<HostDevice> device, std::unique_ptr<OrtNetwork> network, const Plan &plan,
            std::vector<std::string> operators)
      : device_(std::move(device)),
        network_(std::move(network)),
        operators_(std::move(operators)),
        least_(plan.batch_min),
        most_(plan.batch_max) {
    for (const TensorInfo &t : network_->tensors()) {
      if (t.input && !t.shape.empty() && t.shape[0] > 0) least_ = most_ = static_cast<int32_t>(t.shape[0]);
    }
  }

  const std::vector<TensorInfo> &tensors() const override { return network_->tensors(); }
  int32_t batch_min() const override { return least_; }
  int32_t batch_max() const override { return most_; }
  // ONNX Runtime has its own memory; this much is asked for and written to, so that contexts which share theirs wrongly
  // are found out.
  size_t scratch_size() const override { return 4096; }
  std::unique_ptr<Context> new_context(void *scratch) override;
  std::string layers() override { return layers_json(operators_); }

  HostDevice &device() const { return *device_; }
  const OrtNetwork &network() const { return *network_; }

 private:
  const std::shared_ptr<HostDevice> device_;
  const std::unique_ptr<OrtNetwork> network_;
  const std::vector<std::string> operators_;
  int32_t least_, most_;
};

class OrtContext final : public Context {
 public:
  OrtContext(const OrtEngine &engine, void *scratch)
      : engine_(engine),
        scratch_(static_cast<unsigned char *>(scratch)),
        addresses_(engine.tensors().size()),
        shapes_(engine.tensors().size()) {}

  void set_shape(const std::string &input, const int64_t *shape, size_t rank) override {
    const size_t i = index(input);
    const TensorInfo &t = engine_.tensors()[i];
    bool fits = t.input && t.shape.size() == rank;
    for (size_t d = 0; fits && d < rank; d++) fits = t.shape[d] < 0 ? shape[d] > 0 : t.shape[d] == shape[d];
    if (fits && rank > 0) fits = shape[0] >= engine_.batch_min() && shape[0] <= engine_.batch_max();
    if (!fits) {
      fail(TOKLIP_TRT_INVALID, "%s: shape %s does not fit the engine's %s with batches of %d to %d", input.c_str(),
           json_shape({shape, shape + rank}).c_str(), json_shape(t.shape).c_str(), engine_.batch_min(),
           engine_.batch_max());
    }
    shapes_[i].assign(shape, shape + rank);
    // The only open dimension that outputs may have is the batch.
    for (size_t o = 0; o < shapes_.size(); o++) {
      const TensorInfo &out = engine_.tensors()[o];
      if (out.input) continue;
      shapes_[o] = out.shape;
      if (rank > 0 && !out.shape.empty() && out.shape[0] < 0) shapes_[o][0] = shape[0];
    }
  }

  void set_address(const std::string &tensor, void *address) override { addresses_[index(tensor)] = address; }

  void enqueue(Stream &stream) override {
    for (size_t i = 0; i < addresses_.size(); i++) {
      const std::string &name = engine_.tensors()[i].name;
      if (addresses_[i] == nullptr) fail(TOKLIP_TRT_INTERNAL, "%s has no address", name.c_str());
      if (shapes_[i].empty()) fail(TOKLIP_TRT_INTERNAL, "%s has no shape", name.c_str());
    }
    stream.call(&OrtContext::run, this);
  }

 private:
  static void run(void *self) {
    auto &c = *static_cast<OrtContext *>(self);
    try {
      // A value of our own, to be found unharmed behind the run.
      for (size_t i = 0; i < 4096; i += 64)
        c.scratch_[i] = static_cast<unsigned char>(reinterpret_cast<uintptr_t>(self) >> 4);
      c.engine_.network().run(c.addresses_, c.shapes_);
      for (size_t i = 0; i < 4096; i += 64) {
        if (c.scratch_[i] != static_cast<unsigned char>(reinterpret_cast<uintptr_t>(self) >> 4)) {
          fail(TOKLIP_TRT_INTERNAL, "two contexts worked in the same scratch memory at once");
        }
      }
    } catch (const std::exception &e) {
      // As on a GPU, where nobody hears of it before the next call.
      c.engine_.device().lose(e.what());
    }
  }

  size_t index(const std::string &tensor) const {
    for (size_t i = 0; i < engine_.tensors().size(); i++) {
      if (engine_.tensors()[i].name == tensor) return i;
    }
    fail(TOKLIP_TRT_INVALID, "the engine has no tensor \"%s\"", tensor.c_str());
  }

  const OrtEngine &engine_;
  unsigned char *const scratch_;
  std::vector<void *> addresses_;
  std::vector<std::vector<int64_t>> shapes_;
};

std::unique_ptr<Context> OrtEngine::new_context(void *scratch) { return std::make_unique<OrtContext>(*this, scratch); }

}  // namespace

std::unique_ptr<Engine> new_ort_engine(std::shared_ptr<HostDevice> device, std::unique_ptr<OrtNetwork> network,
                                       const Plan &plan, std::vector<std::string> operators) {
  return std::make_unique<OrtEngine>(std::move(device), std::move(network), plan, std::move(operators));
}

std::string describe_json(const OrtNetwork &network, size_t layers) {
  return "{\"inputs\":" + tensors_json(network.tensors(), true) +
         ",\"outputs\":" + tensors_json(network.tensors(), false) + ",\"layers\":" + std::to_string(layers) + "}";
}

std::string layers_json(const std::vector<std::string> &operators) {
  std::string out = "{\"Layers\":[";
  for (size_t i = 0; i < operators.size(); i++) {
    out += (i > 0 ? "," : "") + json_string(std::to_string(i) + " " + operators[i]);
  }
  return out + "]}";
}

}  // namespace toklip
