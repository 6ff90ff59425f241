#include "pipeline/shape.h"

#include <cmath>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/kernels.h"

namespace toklip {
namespace {

void check_range(const char *option, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) {
    fail(TOKLIP_TRT_INVALID, "%s is %lld, must be %lld to %lld", option, static_cast<long long>(value),
         static_cast<long long>(least), static_cast<long long>(most));
  }
}

std::string names(const Engine &engine, bool input) {
  std::string out;
  for (const TensorInfo &t : engine.tensors()) {
    if (t.input == input) out += (out.empty() ? "" : ", ") + t.name + " " + name_of(t.type) + shape_text(t.shape);
  }
  return out.empty() ? "none" : out;
}

const TensorInfo &need(const char *engine_name, const Engine &engine, const std::string &name, bool input) {
  const TensorInfo *t = find_tensor(engine, name, input);
  if (t == nullptr) {
    fail(TOKLIP_TRT_INVALID, "the %s engine has no %s \"%s\", it has %s", engine_name, input ? "input" : "output",
         name.c_str(), names(engine, input).c_str());
  }
  return *t;
}

// The first dimension is the batch, the others must be these; an open one fits anything.
void check_tensor(const char *engine_name, const TensorInfo &t, Type type, const std::vector<int64_t> &rest) {
  bool fits = t.type == type && t.shape.size() == rest.size() + 1;
  for (size_t i = 0; fits && i < rest.size(); i++) fits = t.shape[i + 1] < 0 || t.shape[i + 1] == rest[i];
  if (fits) return;
  std::vector<int64_t> wanted{-1};
  wanted.insert(wanted.end(), rest.begin(), rest.end());
  fail(TOKLIP_TRT_INVALID, "%s of the %s engine is %s%s, the options want %s%s", t.name.c_str(), engine_name,
       name_of(t.type), shape_text(t.shape).c_str(), name_of(type), shape_text(wanted).c_str());
}

void check_engine(const char *engine_name, const Engine &engine, int32_t batch_max) {
  size_t inputs = 0;
  for (const TensorInfo &t : engine.tensors()) inputs += t.input ? 1 : 0;
  if (inputs != 1) {
    fail(TOKLIP_TRT_INVALID, "the %s engine must have one input, it has %s", engine_name, names(engine, true).c_str());
  }
  if (engine.batch_min() > 1 || engine.batch_max() < batch_max) {
    fail(TOKLIP_TRT_INVALID,
         "the %s engine takes batches of %d to %d frames, the pipeline wants 1 to %d: build it with a wider profile",
         engine_name, engine.batch_min(), engine.batch_max(), batch_max);
  }
}

void check_options(const toklip_trt_pipeline_options &o, bool encoder) {
  check_range("image_size", o.image_size, 16, 4096);
  check_range("tokens", o.tokens, 1, 1 << 16);
  check_range("codebook_size", o.codebook_size, 2, 1 << 24);
  check_range("batch_max", o.batch_max, 1, 256);
  check_range("streams_max", o.streams_max, 1, 1 << 16);
  check_range("in_flight", o.in_flight, 1, 2);
  check_range("timeout_ms", o.timeout_ms, 1, 3600 * 1000);
  check_range("feature_dim", o.feature_dim, encoder ? 1 : 0, encoder ? 1 << 16 : 0);
  check_range("embedding_dim", o.embedding_dim, encoder ? 1 : 0, encoder ? 1 << 16 : 0);
  for (int i = 0; i < 3; i++) {
    if (!std::isfinite(o.mean[i])) fail(TOKLIP_TRT_INVALID, "mean[%d] is %g", i, static_cast<double>(o.mean[i]));
    if (!std::isfinite(o.std[i]) || !(o.std[i] > 0)) {
      fail(TOKLIP_TRT_INVALID, "std[%d] is %g, must be above 0", i, static_cast<double>(o.std[i]));
    }
  }
}

// Latents are [B,C,R,C'] with R x C' tokens.
void check_latents(const TensorInfo &t, const toklip_trt_pipeline_options &o) {
  if (o.codebook == nullptr) fail(TOKLIP_TRT_INVALID, "codebook is NULL, but the tokenizer gives latents");
  check_range("codebook_dim", o.codebook_dim, 1, 1024);
  const std::vector<int64_t> &s = t.shape;
  const bool fits = t.type == Type::kFP32 && s.size() == 4 && s[1] == o.codebook_dim && s[2] > 0 && s[3] > 0 &&
                    s[2] <= o.tokens && s[3] <= o.tokens && s[2] * s[3] == o.tokens;
  if (!fits) {
    fail(TOKLIP_TRT_INVALID,
         "latents of the tokenizer engine are %s%s, the options want fp32 [?,%d,rows,columns] with %d tokens",
         name_of(t.type), shape_text(s).c_str(), o.codebook_dim, o.tokens);
  }
}

}  // namespace

Shape make_shape(const toklip_trt_pipeline_options &o, const Engine &tokenizer, const Engine *encoder) {
  check_options(o, encoder != nullptr);
  Shape shape = {};
  shape.image_size = o.image_size;
  shape.tokens = o.tokens;
  shape.feature_dim = o.feature_dim;
  shape.embedding_dim = o.embedding_dim;
  shape.codebook_size = o.codebook_size;
  shape.batch_max = o.batch_max;
  shape.streams_max = o.streams_max;
  shape.in_flight = o.in_flight;
  shape.timeout_ms = o.timeout_ms;
  shape.encoder = encoder != nullptr;

  check_engine("tokenizer", tokenizer, o.batch_max);
  const TensorInfo &image = need("tokenizer", tokenizer, "image", true);
  shape.image_type = image.type == Type::kFP16 ? Type::kFP16 : Type::kFP32;
  check_tensor("tokenizer", image, shape.image_type, {3, o.image_size, o.image_size});
  const TensorInfo *latents = find_tensor(tokenizer, "latents", false);
  const TensorInfo *ids = find_tensor(tokenizer, "ids", false);
  // Where it gives both, a codebook says that the search is wanted.
  shape.latents = latents != nullptr && (ids == nullptr || o.codebook != nullptr);
  if (shape.latents) {
    check_latents(*latents, o);
    shape.codebook_dim = o.codebook_dim;
  } else if (ids != nullptr) {
    check_tensor("tokenizer", *ids, Type::kINT32, {o.tokens});
  } else {
    need("tokenizer", tokenizer, "latents", false);
  }
  if (encoder != nullptr) {
    check_engine("encoder", *encoder, o.batch_max);
    check_tensor("encoder", need("encoder", *encoder, "ids", true), Type::kINT32, {o.tokens});
    check_tensor("encoder", need("encoder", *encoder, "features", false), Type::kFP32, {o.tokens, o.feature_dim});
    check_tensor("encoder", need("encoder", *encoder, "embedding", false), Type::kFP32, {o.embedding_dim});
  }

  shape.bits = token_bits(o.codebook_size);
  const auto tokens = static_cast<size_t>(o.tokens);
  shape.packed_size = (tokens * static_cast<size_t>(shape.bits) + 7) / 8;
  shape.words = (tokens + 63) / 64;
  return shape;
}

}  // namespace toklip
