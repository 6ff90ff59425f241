// Kernels: what a pipeline computes around its networks. csrc/kernels implements it in CUDA, and on the CPU as host
// functions on the stream, which works with any Device.
//
// Everything enqueued here may be captured, and a graph stays valid whatever the frames of later batches are: what
// differs from batch to batch (sizes of frames, numbers of streams, rows to gather) lies in pinned memory that kernels
// read when they run. Only the number of frames n and the addresses are part of a graph.
//
// Addresses are those of space(): at(buffer, kernels.space()). Where kernels run on the CPU, everything they touch is
// pinned memory or memory of the host; the pipeline copies from and to what engines use.
//
// Threads: one Kernels belongs to one pipeline; new_* are called by one thread at a time, the enqueueing methods by two
// on different streams. Errors: as Device says; enqueueing a wrong n or NULL is a bug and need not be found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/device.h"
#include "core/engine.h"

namespace toklip {

enum class Space { kHost, kDevice };

// The address of a buffer for code that runs there.
inline void *at(const Buffer &buffer, Space space) { return space == Space::kHost ? buffer.host() : buffer.device(); }

// Turns frames into the tokenizer's input. One belongs to each slot of a pipeline: what it holds (pinned copies of the
// pixels, filter coefficients, buffers between passes) is in use from load until the work enqueued after it has ended.
class Preprocessor {
 public:
  virtual ~Preprocessor() = default;  // the work has ended

  // Throws TOKLIP_TRT_INVALID saying what is wrong with a frame: its pixel format, resize mode, width, height, stride,
  // size or data. Changes nothing and may be called while work is under way. stream and fresh are not looked at.
  virtual void check(const toklip_trt_frame &frame) const = 0;

  // Makes room for these frames, which were checked. Returns true if an address that a graph may hold has changed, so
  // that graphs with this object's work have to be captured anew. On an error nothing has changed. Room is never
  // given back; a frame that fits in it costs nothing.
  virtual bool reserve(const toklip_trt_frame *frames, int32_t n) = 0;

  // Copies the pixels and what else the kernels have to know of frames 0..n-1. reserve was called with them.
  virtual void load(const toklip_trt_frame *frames, int32_t n) = 0;

  // Enqueues the copy of what load wrote to the device; nothing where kernels read pinned memory in place.
  virtual void upload(Stream &stream, int32_t n) = 0;

  // Enqueues pre-processing into image [n,3,S,S].
  virtual void enqueue(Stream &stream, int32_t n, void *image) = 0;
};

struct PreprocessorOptions {
  int32_t size;  // S
  int32_t batch_max;
  float mean[3], std[3];  // of R, G, B in [0,1]
  Type type;              // of image: kFP32 or kFP16
};

// Finds the nearest codebook entry of each latent vector: by cosine in fp32, the lowest index on ties. One belongs to a
// pipeline and is used on one stream.
class Search {
 public:
  virtual ~Search() = default;  // the work has ended
  // latents fp32 [n,dim,tokens] -> ids [n,tokens], every one inside the codebook, whatever the latents are.
  virtual void enqueue(Stream &stream, int32_t n, const float *latents, int32_t *ids) = 0;
};

struct SearchOptions {
  const float *codebook;  // [size,dim] in the CPU's memory, of any length; read by new_search only
  int32_t size, dim;
  int32_t tokens;  // of a frame
  int32_t batch_max;
};

// What a batch knows of a frame when it is compared. Lies in pinned memory, written by the CPU before the batch.
struct FrameState {
  int32_t stream;  // row of Compare::last
  int32_t fresh;   // not 0: everything counts as changed
};

// Bits of an id of a codebook of so many codes: ceil(log2(codes)), at least 1.
inline int32_t token_bits(int32_t codes) {
  int32_t bits = 1;
  while (bits < 31 && (int64_t{1} << bits) < codes) bits++;
  return bits;
}

// For each of n frames f and tokens i: bit i of changed[f] says that ids[f][i] differs from last[frames[f].stream][i] (or
// fresh); counts[f] is the number of bits; packed[f] has the ids with `bits` bits each, little-endian bit order, the rest of
// the last byte 0; then last[frames[f].stream] = ids[f] and copy[f] = ids[f]. No stream is there twice.
struct Compare {
  const FrameState *frames;
  const int32_t *ids;  // [n,tokens]
  int32_t *last;       // [streams_max,tokens]
  uint64_t *changed;   // [n,ceil(tokens/64)], unused bits 0
  int32_t *counts;     // [n]
  uint8_t *packed;     // [n,ceil(tokens*bits/8)]; rows follow each other without padding
  int32_t *copy;       // [n,tokens]; NULL: none
  int32_t tokens, bits;
};

class Kernels {
 public:
  virtual ~Kernels() = default;  // everything made from it is gone

  virtual Space space() const = 0;

  virtual std::unique_ptr<Preprocessor> new_preprocessor(const PreprocessorOptions &options) = 0;
  virtual std::unique_ptr<Search> new_search(const SearchOptions &options) = 0;

  virtual void compare(Stream &stream, int32_t n, const Compare &arguments) = 0;

  // out[i] = in[rows[i]] for i < n: rows of width int32 each. rows lies in pinned memory.
  virtual void gather(Stream &stream, int32_t n, const int32_t *in, const int32_t *rows, int32_t width,
                      int32_t *out) = 0;

  // out[i] = in[i] / |in[i]| for n rows of width floats; the length is summed in fp32 or better. A row of zeros stays
  // so. in and out do not overlap.
  virtual void normalise(Stream &stream, int32_t n, const float *in, int32_t width, float *out) = 0;
};

}  // namespace toklip
