// What a pipeline works on: its options, checked against each other and against the engines.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/engine.h"
#include "toklip_trt.h"

namespace toklip {

struct Shape {
  int32_t image_size;     // S
  int32_t tokens;         // N
  int32_t feature_dim;    // D; 0 without encoder
  int32_t embedding_dim;  // E; 0 without encoder
  int32_t codebook_size, codebook_dim;
  int32_t batch_max, streams_max, in_flight;
  uint32_t timeout_ms;

  Type image_type;  // kFP32 or kFP16
  bool latents;     // the tokenizer gives latents, so that the search is ours; else it gives ids
  bool encoder;

  int32_t bits;        // of a packed id
  size_t packed_size;  // bytes of a frame's packed ids
  size_t words;        // of a frame's change mask

  size_t image_bytes() const {  // of one frame, as all of these
    return size_t{3} * static_cast<size_t>(image_size) * static_cast<size_t>(image_size) * size_of(image_type);
  }
  size_t latent_bytes() const {
    return sizeof(float) * static_cast<size_t>(codebook_dim) * static_cast<size_t>(tokens);
  }
  size_t id_bytes() const { return sizeof(int32_t) * static_cast<size_t>(tokens); }
  size_t feature_bytes() const {
    return sizeof(float) * static_cast<size_t>(tokens) * static_cast<size_t>(feature_dim);
  }
  size_t embedding_bytes() const { return sizeof(float) * static_cast<size_t>(embedding_dim); }
};

// Throws TOKLIP_TRT_INVALID, naming the option or tensor and its value. encoder is NULL without one.
Shape make_shape(const toklip_trt_pipeline_options &options, const Engine &tokenizer, const Engine *encoder);

}  // namespace toklip
