#include "pipeline/slot.h"

#include <algorithm>

#include "core/error.h"

namespace toklip {
namespace {

template <typename T>
T *as(void *address) {
  return static_cast<T *>(address);
}

}  // namespace

Slot::Slot(const Parts &parts) : parts_(parts), shape_(parts.shape), space_(parts.kernels->space()) {
  const Placement &place = parts.place;
  Device &device = *place.device;
  const auto batch = static_cast<size_t>(shape_.batch_max);
  const bool on_cpu = space_ == Space::kHost;

  PreprocessorOptions po = {};
  po.size = shape_.image_size;
  po.batch_max = shape_.batch_max;
  po.type = shape_.image_type;
  std::copy(parts.mean, parts.mean + 3, po.mean);
  std::copy(parts.std, parts.std + 3, po.std);
  preprocessor_ = parts.kernels->new_preprocessor(po);

  image_ = Shared(place, on_cpu, batch * shape_.image_bytes());
  if (shape_.latents) latents_ = Shared(place, on_cpu, batch * shape_.latent_bytes());
  ids_ = Shared(place, on_cpu, batch * shape_.id_bytes());
  allocate_rest(*parts.tokenizer, false);

  const auto pinned = [&](size_t size) { return device.allocate(Memory::kPinned, batch * size); };
  states_ = pinned(sizeof(FrameState));
  changed_ = pinned(shape_.words * sizeof(uint64_t));
  counts_ = pinned(sizeof(int32_t));
  packed_ = pinned(shape_.packed_size);
  copy_ = pinned(shape_.id_bytes());
  if (shape_.encoder) {
    rows_ = pinned(sizeof(int32_t));
    gathered_ = Shared(place, on_cpu, batch * shape_.id_bytes());
    features_ = Shared(place, true, batch * shape_.feature_bytes());
    embedding_ = Shared(place, true, batch * shape_.embedding_bytes());
    unit_ = pinned(shape_.embedding_bytes());
    allocate_rest(*parts.encoder, true);
  }

  for (auto *runs : {&tokenizers_, &encoders_}) runs->resize(batch + 1);
  for (auto *replays : {&fronts_, &backs_, &both_}) replays->resize(batch + 1);
  for (auto *event : {&begun_, &uploaded_, &preprocessed_, &tokenized_, &searched_, &back_begun_, &encoded_,
                      &downloaded_, &front_done_, &back_done_}) {
    *event = device.new_event();
  }
}

// Where a tensor that the pipeline knows lies; NULL for others.
void *Slot::address_of(const TensorInfo &t, bool encoder) const {
  if (encoder) {
    if (t.input) return gathered_.device();
    if (t.name == "features") return features_.device();
    if (t.name == "embedding") return embedding_.device();
  } else {
    if (t.input) return image_.device();
    if (t.name == "latents" && shape_.latents) return latents_.device();
    if (t.name == "ids" && !shape_.latents) return ids_.device();
  }
  for (const Rest &r : rest_) {
    if (r.tensor == &t) return r.memory.device();
  }
  return nullptr;
}

// Engines want an address for every output.
void Slot::allocate_rest(const Engine &engine, bool encoder) {
  for (const TensorInfo &t : engine.tensors()) {
    if (address_of(t, encoder) != nullptr) continue;
    size_t size = static_cast<size_t>(shape_.batch_max) * size_of(t.type);
    for (size_t i = 1; i < t.shape.size(); i++) size *= t.shape[i] > 0 ? static_cast<size_t>(t.shape[i]) : 0;
    if (size == 0 || t.shape.empty()) {
      fail(TOKLIP_TRT_INVALID,
           "output %s of the %s engine is of type %s or of open size, so that no memory can be made for it",
           t.name.c_str(), encoder ? "encoder" : "tokenizer", name_of(t.type));
    }
    rest_.push_back(Rest{&t, parts_.place.device->allocate(Memory::kDevice, size)});
  }
}

void Slot::prepare(Run &run, Engine &engine, void *scratch, int32_t n) {
  if (run.context != nullptr) return;
  std::unique_ptr<Context> context = engine.new_context(scratch);
  const bool encoder = &engine == parts_.encoder;
  for (const TensorInfo &t : engine.tensors()) {
    if (!t.input) continue;
    const int64_t s = shape_.image_size;
    const int64_t picture[] = {n, 3, s, s}, tokens[] = {n, shape_.tokens};
    if (encoder) {
      context->set_shape(t.name, tokens, 2);
    } else {
      context->set_shape(t.name, picture, 4);
    }
  }
  for (const TensorInfo &t : engine.tensors()) context->set_address(t.name, address_of(t, encoder));
  run.context = std::move(context);
}

void Slot::prepare_front(int32_t n) {
  prepare(tokenizers_[static_cast<size_t>(n)], *parts_.tokenizer, parts_.front_scratch, n);
}

void Slot::load(const toklip_trt_frame *frames, int32_t n) {
  if (preprocessor_->reserve(frames, n)) {
    for (Replay &r : fronts_) r.drop();
    for (Replay &r : both_) r.drop();
  }
  preprocessor_->load(frames, n);
}

void Slot::prepare_back(int32_t m) {
  prepare(encoders_[static_cast<size_t>(m)], *parts_.encoder, parts_.back_scratch, m);
}

bool Slot::enqueue_front(Stream &stream, GraphPolicy &graphs, int32_t n) {
  const auto i = static_cast<size_t>(n);
  return fronts_[i].run(stream, graphs, tokenizers_[i].warm, [&] { front(stream, n); });
}

bool Slot::enqueue_back(Stream &stream, GraphPolicy &graphs, int32_t m) {
  const auto i = static_cast<size_t>(m);
  return backs_[i].run(stream, graphs, encoders_[i].warm, [&] { back(stream, m); });
}

bool Slot::enqueue_both(Stream &stream, GraphPolicy &graphs, int32_t n) {
  const auto i = static_cast<size_t>(n);
  return both_[i].run(stream, graphs, tokenizers_[i].warm && encoders_[i].warm, [&] {
    front(stream, n);
    back(stream, n);
  });
}

void Slot::front(Stream &stream, int32_t n) {
  const auto count = static_cast<size_t>(n);
  stream.record(*begun_);
  preprocessor_->upload(stream, n);
  stream.record(*uploaded_);

  preprocessor_->enqueue(stream, n, image_.at(space_));
  image_.to_device(stream, count * shape_.image_bytes());
  stream.record(*preprocessed_);

  tokenizers_[count].context->enqueue(stream);
  if (shape_.latents) {
    latents_.to_host(stream, count * shape_.latent_bytes());
  } else {
    ids_.to_host(stream, count * shape_.id_bytes());
  }
  stream.record(*tokenized_);

  if (shape_.latents) {
    parts_.search->enqueue(stream, n, as<float>(latents_.at(space_)), as<int32_t>(ids_.at(space_)));
  }
  Compare c = {};
  c.frames = as<FrameState>(at(states_, space_));
  c.ids = as<int32_t>(ids_.at(space_));
  c.last = parts_.last;
  c.changed = as<uint64_t>(at(changed_, space_));
  c.counts = as<int32_t>(at(counts_, space_));
  c.packed = as<uint8_t>(at(packed_, space_));
  c.copy = as<int32_t>(at(copy_, space_));
  c.tokens = shape_.tokens;
  c.bits = shape_.bits;
  parts_.kernels->compare(stream, n, c);
  stream.record(*searched_);
}

void Slot::back(Stream &stream, int32_t m) {
  const auto count = static_cast<size_t>(m);
  stream.record(*back_begun_);
  parts_.kernels->gather(stream, m, as<int32_t>(ids_.at(space_)), as<int32_t>(at(rows_, space_)), shape_.tokens,
                         as<int32_t>(gathered_.at(space_)));
  gathered_.to_device(stream, count * shape_.id_bytes());
  encoders_[count].context->enqueue(stream);
  stream.record(*encoded_);

  // Kernels on the CPU take the embedding from the CPU's side, so it is copied first.
  features_.to_host(stream, count * shape_.feature_bytes());
  embedding_.to_host(stream, count * shape_.embedding_bytes());
  parts_.kernels->normalise(stream, m, as<float>(embedding_.at(space_)), shape_.embedding_dim,
                            as<float>(at(unit_, space_)));
  stream.record(*downloaded_);
}

bool Slot::ended(int32_t n, int32_t m) {
  bool &front = tokenizers_[static_cast<size_t>(n)].warm;
  bool warm = front;
  front = true;
  if (m > 0) {
    bool &back = encoders_[static_cast<size_t>(m)].warm;
    warm = warm && back;
    back = true;
  }
  return warm;
}

toklip_trt_result Slot::result(int32_t frame, int32_t row, bool all) {
  const auto f = static_cast<size_t>(frame);
  const auto tokens = static_cast<size_t>(shape_.tokens);
  uint64_t *changed = as<uint64_t>(changed_.host()) + f * shape_.words;
  if (all) {
    std::fill(changed, changed + shape_.words, ~uint64_t{0});
    if (tokens % 64 != 0) changed[shape_.words - 1] = (uint64_t{1} << (tokens % 64)) - 1;
  }
  toklip_trt_result r = {};
  r.ids = as<int32_t>(copy_.host()) + f * tokens;
  r.packed = as<uint8_t>(packed_.host()) + f * shape_.packed_size;
  r.packed_size = shape_.packed_size;
  r.changed = changed;
  r.changed_count = all ? shape_.tokens : changed_count(frame);
  r.fresh = all || states()[frame].fresh != 0;
  if (row >= 0) {
    const auto i = static_cast<size_t>(row);
    r.encoded = true;
    r.features = as<float>(features_.host()) + i * tokens * static_cast<size_t>(shape_.feature_dim);
    r.embedding = as<float>(embedding_.host()) + i * static_cast<size_t>(shape_.embedding_dim);
    r.unit = as<float>(unit_.host()) + i * static_cast<size_t>(shape_.embedding_dim);
  }
  return r;
}

toklip_trt_times Slot::times(bool back) {
  toklip_trt_times t = {};
  t.upload = uploaded_->microseconds_since(*begun_);
  t.preprocess = preprocessed_->microseconds_since(*uploaded_);
  t.tokenizer = tokenized_->microseconds_since(*preprocessed_);
  t.search = searched_->microseconds_since(*tokenized_);
  if (back) {
    t.encoder = encoded_->microseconds_since(*back_begun_);
    t.download = downloaded_->microseconds_since(*encoded_);
  }
  t.total = (back ? downloaded_ : searched_)->microseconds_since(*begun_);
  return t;
}

}  // namespace toklip
