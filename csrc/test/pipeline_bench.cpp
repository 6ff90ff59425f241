#include "test/pipeline_bench.h"

#include <cmath>

namespace toklip {
namespace {

class DeviceKernels final : public Kernels {
 public:
  explicit DeviceKernels(std::unique_ptr<Kernels> cpu) : cpu_(std::move(cpu)) {}
  Space space() const override { return Space::kDevice; }
  std::unique_ptr<Preprocessor> new_preprocessor(const PreprocessorOptions &o) override {
    return cpu_->new_preprocessor(o);
  }
  std::unique_ptr<Search> new_search(const SearchOptions &o) override { return cpu_->new_search(o); }
  void compare(Stream &s, int32_t n, const Compare &a) override { cpu_->compare(s, n, a); }
  void gather(Stream &s, int32_t n, const int32_t *in, const int32_t *rows, int32_t width, int32_t *out) override {
    cpu_->gather(s, n, in, rows, width, out);
  }
  void normalise(Stream &s, int32_t n, const float *in, int32_t width, float *out) override {
    cpu_->normalise(s, n, in, width, out);
  }

 private:
  const std::unique_ptr<Kernels> cpu_;
};

}  // namespace

std::vector<Setup> all_setups() {
  std::vector<Setup> out;
  for (int i = 0; i < 64; i++) {
    Setup s;
    s.in_flight = 1 + (i & 1);
    s.graphs = (i & 2) != 0;
    s.integrated = (i & 4) != 0;
    s.kernels_on_device = (i & 8) != 0;
    s.latents = (i & 16) != 0;
    s.encoder = (i & 32) != 0;
    out.push_back(s);
  }
  return out;
}

std::string name_of(const Setup &s) {
  return text("in_flight %d, graphs %d, integrated %d, kernels on device %d, latents %d, encoder %d", s.in_flight,
              s.graphs, s.integrated, s.kernels_on_device, s.latents, s.encoder);
}

std::unique_ptr<Kernels> new_kernels(Device &device, bool on_device) {
  if (on_device) return std::make_unique<DeviceKernels>(new_cpu_kernels(device));
  return new_cpu_kernels(device);
}

Picture::Picture(const Ids &ids, int32_t edge) : edge_(edge), pixels_(static_cast<size_t>(edge * edge)) {
  for (int32_t y = 0; y < edge; y++) {
    for (int32_t x = 0; x < edge; x++) {
      const size_t token = static_cast<size_t>(y * 2 / edge * 2 + x * 2 / edge);
      pixels_[static_cast<size_t>(y * edge + x)] = static_cast<uint8_t>(4 * ids[token]);
    }
  }
}

toklip_trt_frame Picture::frame(int32_t stream, bool fresh) const {
  toklip_trt_frame f = {};
  f.data = pixels_.data();
  f.size = pixels_.size();
  f.width = f.height = f.stride = edge_;
  f.pixels = TOKLIP_TRT_GRAY;
  f.resize = TOKLIP_TRT_SQUASH;
  f.stream = stream;
  f.fresh = fresh;
  return f;
}

toklip_trt_pipeline_options options_of(const Setup &setup, const std::vector<float> &codebook) {
  toklip_trt_pipeline_options o = {};
  o.image_size = kSize;
  o.tokens = kTokens;
  o.feature_dim = setup.encoder ? kFeatures : 0;
  o.embedding_dim = setup.encoder ? kEmbedding : 0;
  o.codebook = setup.latents ? codebook.data() : nullptr;
  o.codebook_size = kCodes;
  o.codebook_dim = setup.latents ? 2 : 0;
  for (int i = 0; i < 3; i++) o.mean[i] = o.std[i] = 0.5f;
  o.batch_max = setup.batch_max;
  o.streams_max = setup.streams_max;
  o.in_flight = setup.in_flight;
  o.cuda_graph = setup.graphs;
  o.timeout_ms = setup.timeout_ms;
  return o;
}

Bench::Bench(const Setup &s) : setup(s), codebook(circle()) {
  HostDeviceOptions o;
  o.integrated = s.integrated;
  o.before = s.before;
  device = std::make_shared<HostDevice>(o);
  tokenizer = new_tokenizer(s.batch_max, s.latents);
  if (s.encoder) encoder = new_encoder(s.batch_max);
  pipeline = std::make_unique<Pipeline>(device, new_kernels(*device, s.kernels_on_device), tokenizer, encoder,
                                        options_of(s, codebook), log);
}

bool Bench::process(int32_t stream, const Ids &ids, bool fresh) {
  const Picture picture(ids);
  const toklip_trt_frame frame = picture.frame(stream, fresh);
  toklip_trt_result result = {};
  pipeline->process(&frame, 1, &result, &times);
  const bool known = !fresh && last.count(stream) > 0;
  expect_result(result, ids, known ? &last[stream] : nullptr, setup.encoder);
  last[stream] = ids;
  return result.encoded;
}

void expect_result(const toklip_trt_result &r, const Ids &ids, const Ids *last, bool encoder) {
  uint64_t changed = 0;
  int32_t count = 0;
  for (size_t t = 0; t < kTokens; t++) {
    EXPECT(r.ids[t] == ids[t]);
    if (last == nullptr || (*last)[t] != ids[t]) {
      changed |= uint64_t{1} << t;
      count++;
    }
  }
  EXPECT(r.changed[0] == changed);
  EXPECT(r.changed_count == count);
  EXPECT(r.fresh == (last == nullptr));
  // 64 codes are 6 bits.
  EXPECT(r.packed_size == 3);
  const uint32_t packed = static_cast<uint32_t>(ids[0] | ids[1] << 6 | ids[2] << 12 | ids[3] << 18);
  for (size_t i = 0; i < 3; i++) EXPECT(r.packed[i] == static_cast<uint8_t>(packed >> (8 * i)));

  EXPECT(!r.encoded || encoder);
  EXPECT(r.encoded || count == 0 || !encoder);
  if (!r.encoded) {
    EXPECT(r.features == nullptr && r.embedding == nullptr && r.unit == nullptr);
    return;
  }
  for (int32_t t = 0; t < kTokens; t++) {
    for (int32_t d = 0; d < kFeatures; d++) {
      EXPECT(r.features[t * kFeatures + d] == feature_of(ids[static_cast<size_t>(t)], d));
    }
  }
  double length = 0;
  for (int32_t e = 0; e < kEmbedding; e++) {
    EXPECT(r.embedding[e] == embedding_of(ids.data(), e));
    length += static_cast<double>(r.embedding[e]) * static_cast<double>(r.embedding[e]);
  }
  for (int32_t e = 0; e < kEmbedding; e++) {
    EXPECT(std::fabs(static_cast<double>(r.unit[e]) - static_cast<double>(r.embedding[e]) / std::sqrt(length)) < 1e-6);
  }
}

}  // namespace toklip
