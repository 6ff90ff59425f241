// An Engine that is a function, and a tokenizer and an encoder whose results can be told beforehand.
#pragma once

#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/error.h"

namespace toklip {

class FunctionEngine final : public Engine {
 public:
  // Gets the batch size and the addresses of tensors, in their order. Runs on a stream's thread.
  using Function = std::function<void(int32_t n, const std::vector<void *> &addresses)>;

  FunctionEngine(std::vector<TensorInfo> tensors, int32_t batch_max, Function function)
      : tensors_(std::move(tensors)), batch_max_(batch_max), function_(std::move(function)) {}

  const std::vector<TensorInfo> &tensors() const override { return tensors_; }
  int32_t batch_min() const override { return 1; }
  int32_t batch_max() const override { return batch_max_; }
  size_t scratch_size() const override { return 64; }
  std::unique_ptr<Context> new_context(void *scratch) override {
    contexts++;
    return std::make_unique<FunctionContext>(*this, static_cast<unsigned char *>(scratch));
  }
  std::string layers() override { return "{}"; }

  std::atomic<int> contexts{0};  // ever made
  std::atomic<int> runs{0};      // ended
  std::atomic<int> rows{0};      // frames of all runs
  std::atomic<int> shared{0};    // times that two contexts worked in the same scratch memory at once

 private:
  class FunctionContext final : public Context {
   public:
    FunctionContext(FunctionEngine &engine, unsigned char *scratch)
        : engine_(engine), scratch_(scratch), addresses_(engine.tensors_.size()) {
      if (scratch == nullptr) fail(TOKLIP_TRT_INTERNAL, "no scratch memory");
    }
    void set_shape(const std::string &, const int64_t *shape, size_t) override { n_ = static_cast<int32_t>(shape[0]); }
    void set_address(const std::string &tensor, void *address) override {
      for (size_t i = 0; i < addresses_.size(); i++) {
        if (engine_.tensors_[i].name == tensor) addresses_[i] = address;
      }
    }
    void enqueue(Stream &stream) override {
      for (const void *a : addresses_) {
        if (a == nullptr) fail(TOKLIP_TRT_INTERNAL, "a tensor has no address");
      }
      stream.call(
          [](void *self) {
            auto &c = *static_cast<FunctionContext *>(self);
            c.scratch_[0] = 1;
            c.engine_.function_(c.n_, c.addresses_);
            if (c.scratch_[0] != 1) c.engine_.shared++;
            c.scratch_[0] = 0;
            c.engine_.rows += c.n_;
            c.engine_.runs++;
          },
          this);
    }

   private:
    FunctionEngine &engine_;
    unsigned char *const scratch_;
    int32_t n_ = 0;
    std::vector<void *> addresses_;
  };

  const std::vector<TensorInfo> tensors_;
  const int32_t batch_max_;
  const Function function_;
};

// The model of these tests: pictures of 16 x 16, two rows of two tokens, 64 codes on a circle. A quarter of a picture whose
// pixels all have level 4*k is token k.
constexpr int32_t kSize = 16, kTokens = 4, kCodes = 64, kFeatures = 3, kEmbedding = 5;

inline std::vector<float> circle() {
  std::vector<float> codes;
  for (int k = 0; k < kCodes; k++) {
    const double angle = 2 * 3.14159265358979 * k / kCodes;
    codes.push_back(static_cast<float>(2 * std::cos(angle)));
    codes.push_back(static_cast<float>(2 * std::sin(angle)));
  }
  return codes;
}

// Level of token t of one picture, from the middle of its quarter, which resizing does not blur.
inline double level(const float *picture, int32_t t) {
  double sum = 0;
  for (int32_t y = 2; y < 6; y++) {
    for (int32_t x = 2; x < 6; x++) sum += static_cast<double>(picture[(t / 2 * 8 + y) * kSize + t % 2 * 8 + x]);
  }
  return (sum / 16 * 0.5 + 0.5) * 255;
}

// image -> latents, or image -> ids.
inline std::shared_ptr<FunctionEngine> new_tokenizer(int32_t batch_max, bool latents) {
  std::vector<TensorInfo> tensors{{"image", true, Type::kFP32, {-1, 3, kSize, kSize}}};
  if (latents) {
    tensors.push_back({"latents", false, Type::kFP32, {-1, 2, 2, 2}});
  } else {
    tensors.push_back({"ids", false, Type::kINT32, {-1, kTokens}});
  }
  return std::make_shared<FunctionEngine>(tensors, batch_max, [latents](int32_t n, const std::vector<void *> &a) {
    for (int32_t f = 0; f < n; f++) {
      const float *picture = static_cast<const float *>(a[0]) + f * 3 * kSize * kSize;
      for (int32_t t = 0; t < kTokens; t++) {
        const double code = level(picture, t) / 4;
        if (latents) {
          float *out = static_cast<float *>(a[1]) + f * 2 * kTokens + t;
          const double angle = 2 * 3.14159265358979 * code / kCodes;
          out[0] = static_cast<float>(std::cos(angle));
          out[kTokens] = static_cast<float>(std::sin(angle));
        } else {
          static_cast<int32_t *>(a[1])[f * kTokens + t] = static_cast<int32_t>(std::lround(code));
        }
      }
    }
  });
}

// What the encoder makes of ids.
inline float feature_of(int32_t id, int32_t d) { return static_cast<float>(10 * id + d); }
inline float embedding_of(const int32_t *ids, int32_t e) {
  int32_t sum = 1;
  for (int32_t t = 0; t < kTokens; t++) sum += (t + 1) * ids[t];
  return static_cast<float>(e % 2 == 0 ? sum + e : -sum - e);
}

inline std::shared_ptr<FunctionEngine> new_encoder(int32_t batch_max) {
  std::vector<TensorInfo> tensors{{"ids", true, Type::kINT32, {-1, kTokens}},
                                  {"features", false, Type::kFP32, {-1, kTokens, kFeatures}},
                                  {"embedding", false, Type::kFP32, {-1, kEmbedding}}};
  return std::make_shared<FunctionEngine>(tensors, batch_max, [](int32_t n, const std::vector<void *> &a) {
    for (int32_t f = 0; f < n; f++) {
      const int32_t *ids = static_cast<const int32_t *>(a[0]) + f * kTokens;
      float *features = static_cast<float *>(a[1]) + f * kTokens * kFeatures;
      for (int32_t t = 0; t < kTokens; t++) {
        for (int32_t d = 0; d < kFeatures; d++) features[t * kFeatures + d] = feature_of(ids[t], d);
      }
      float *embedding = static_cast<float *>(a[2]) + f * kEmbedding;
      for (int32_t e = 0; e < kEmbedding; e++) embedding[e] = embedding_of(ids, e);
    }
  });
}

}  // namespace toklip
