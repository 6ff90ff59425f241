// What a pipeline does with frames, in all setups.
#include <algorithm>
#include <random>

#include "test/pipeline_bench.h"

namespace toklip {
namespace {

// Runs a test in every setup, and says in which it failed.
template <typename Body>
void in_all_setups(const Body &body) {
  for (const Setup &s : all_setups()) {
    const int before = failures();
    body(s);
    if (failures() != before) std::fprintf(stderr, "  with %s\n", name_of(s).c_str());
  }
}

void results() {
  in_all_setups([](const Setup &s) {
    Bench b(s);
    b.process(0, {1, 2, 3, 4});
    b.process(0, {1, 2, 3, 5});
    b.process(1, {63, 0, 63, 0});
    b.process(0, {9, 2, 3, 5}, true);
    b.process(0, {9, 2, 3, 5});
    b.process(1, {63, 0, 62, 0});
    EXPECT(b.times.total > 0);
    EXPECT(b.tokenizer->shared == 0);
  });
}

// While a stream changes, the encoder is enqueued without a look; once a frame did not change, it waits for one.
void skipping() {
  for (Setup s : all_setups()) {
    if (!s.encoder) continue;
    Bench b(s);
    EXPECT(b.process(0, {1, 1, 1, 1}));   // nothing before it
    EXPECT(b.process(0, {1, 1, 1, 1}));   // at once, though in vain
    EXPECT(!b.process(0, {1, 1, 1, 1}));  // decided
    EXPECT(!b.process(0, {1, 1, 1, 1}));
    EXPECT(b.encoder->runs == 2);
    EXPECT(b.process(0, {1, 1, 2, 1}));  // decided
    EXPECT(b.process(0, {1, 1, 2, 1}));  // at once
    EXPECT(!b.process(0, {1, 1, 2, 1}));
    EXPECT(b.process(0, {1, 1, 2, 1}, true));
    EXPECT(b.encoder->runs == 5);
  }
}

// In a batch with some streams at rest, just those that changed are encoded.
void only_changed() {
  for (Setup s : all_setups()) {
    if (!s.encoder) continue;
    Bench b(s);
    const Picture rest({1, 2, 3, 4}), moved({1, 2, 3, 5});
    for (int round = 0; round < 4; round++) {
      const toklip_trt_frame frames[] = {rest.frame(0), (round == 3 ? moved : rest).frame(3), rest.frame(4)};
      toklip_trt_result results[3];
      const int rows = b.encoder->rows;
      b.pipeline->process(frames, 3, results, nullptr);
      const int now = b.encoder->rows - rows;
      EXPECT(now == (round < 2 ? 3 : round == 2 ? 0 : 1));
      const Ids before{1, 2, 3, 4};
      expect_result(results[0], before, round == 0 ? nullptr : &before, true);
      expect_result(results[1], round == 3 ? Ids{1, 2, 3, 5} : before, round == 0 ? nullptr : &before, true);
      EXPECT(round != 3 || (results[1].encoded && !results[0].encoded && !results[2].encoded));
    }
  }
}

// Batches of any streams, with as many under way as there may be, against a model of what has to come out.
void random_batches() {
  unsigned seed = 1;
  in_all_setups([&](const Setup &s) {
    std::mt19937 random(seed++);
    const auto below = [&](int n) { return static_cast<int32_t>(random() % static_cast<unsigned>(n)); };
    Bench b(s);
    struct Sent {
      std::vector<int32_t> streams;
      std::vector<Ids> ids;
      std::vector<bool> fresh;
    };
    std::vector<Sent> under_way;
    std::map<int32_t, Ids> last, shown;
    for (int i = 0; i < 120; i++) {
      if (static_cast<int32_t>(under_way.size()) < s.in_flight && below(3) > 0) {
        Sent sent;
        std::vector<Picture> pictures;
        std::vector<toklip_trt_frame> frames;
        std::vector<int32_t> streams{0, 1, 2, 3, 4};
        std::shuffle(streams.begin(), streams.end(), random);
        streams.resize(static_cast<size_t>(1 + below(s.batch_max)));
        pictures.reserve(streams.size());
        for (const int32_t stream : streams) {
          Ids &ids = shown[stream];
          if (below(2) == 0) ids[static_cast<size_t>(below(kTokens))] = below(kCodes);
          pictures.emplace_back(ids, below(4) == 0 ? 2 * kSize : kSize);
          const bool fresh = below(10) == 0;
          frames.push_back(pictures.back().frame(stream, fresh));
          sent.streams.push_back(stream);
          sent.ids.push_back(ids);
          sent.fresh.push_back(fresh);
        }
        b.pipeline->submit(frames.data(), frames.size());
        under_way.push_back(sent);
      } else if (!under_way.empty()) {
        const Sent &sent = under_way.front();
        toklip_trt_result results[3];
        b.pipeline->wait(results, 3, nullptr);
        for (size_t f = 0; f < sent.streams.size(); f++) {
          const int32_t stream = sent.streams[f];
          const bool known = last.count(stream) > 0 && !sent.fresh[f];
          expect_result(results[f], sent.ids[f], known ? &last[stream] : nullptr, s.encoder);
          last[stream] = sent.ids[f];
        }
        under_way.erase(under_way.begin());
      }
    }
  });
}

void order_and_limits() {
  for (int32_t in_flight = 1; in_flight <= 2; in_flight++) {
    Setup s;
    s.in_flight = in_flight;
    Bench b(s);
    toklip_trt_result result[3];
    EXPECT_ERROR(TOKLIP_TRT_INVALID, "no batch is under way", b.pipeline->wait(result, 3, nullptr));
    const Picture picture({1, 2, 3, 4});
    const toklip_trt_frame frame = picture.frame(0);
    EXPECT_ERROR(TOKLIP_TRT_INVALID, "a batch of 0 frames, must be 1 to 3", b.pipeline->submit(&frame, 0));
    EXPECT_ERROR(TOKLIP_TRT_INVALID, "a batch of 4 frames", b.pipeline->submit(&frame, 4));
    for (int32_t i = 0; i < in_flight; i++) b.pipeline->submit(&frame, 1);
    EXPECT_ERROR(TOKLIP_TRT_BUSY, "wait for the oldest", b.pipeline->submit(&frame, 1));
    EXPECT_ERROR(TOKLIP_TRT_BUSY, "wait for it first", b.pipeline->process(&frame, 1, result, nullptr));
    EXPECT_ERROR(TOKLIP_TRT_INVALID, "room for 0 results", b.pipeline->wait(result, 0, nullptr));
    const Ids ids{1, 2, 3, 4};
    for (int32_t i = 0; i < in_flight; i++) {
      b.pipeline->wait(result, 1, nullptr);
      expect_result(result[0], ids, i == 0 ? nullptr : &ids, true);
    }
  }
}

// What wait gave holds while the next batches are submitted, until the next wait.
void results_hold() {
  for (int32_t in_flight = 1; in_flight <= 2; in_flight++) {
    Setup s;
    s.in_flight = in_flight;
    Bench b(s);
    toklip_trt_result held = {}, result = {};
    for (int32_t i = 0; i < 20; i++) {
      const Ids now{i, i, i, i}, before{i - 1, i - 1, i - 1, i - 1};
      const Picture picture(now);
      const toklip_trt_frame frame = picture.frame(0);
      b.pipeline->submit(&frame, 1);
      // The work may be under way or have ended: what is held is as it was.
      if (i > 1) expect_result(held, before, nullptr, true);
      b.pipeline->wait(&result, 1, nullptr);
      expect_result(result, now, i == 0 ? nullptr : &before, true);
      held = result;
      held.fresh = true;
      held.changed_count = kTokens;
      static const uint64_t all = 15;
      held.changed = &all;
    }
  }
}

// After its first run a batch size goes as a graph; a larger picture makes it go call by call once more.
void graphs() {
  for (int32_t in_flight = 1; in_flight <= 2; in_flight++) {
    Setup s;
    s.in_flight = in_flight;
    Bench b(s);
    const auto run = [&](int32_t id, int32_t edge) {
      const Ids now{id, id, id, id};
      const Picture picture(now, edge);
      const toklip_trt_frame frame = picture.frame(0);
      toklip_trt_result result = {};
      toklip_trt_times times = {};
      b.pipeline->process(&frame, 1, &result, &times);
      const Ids last = b.last.count(0) > 0 ? b.last[0] : Ids{};
      expect_result(result, now, b.last.count(0) > 0 ? &last : nullptr, true);
      b.last[0] = now;
      return times.graph;
    };
    EXPECT(!run(1, 16));
    EXPECT(run(2, 16));
    EXPECT(run(3, 16));
    EXPECT(run(4, 200));  // captured anew with more room
    EXPECT(run(5, 16));
    EXPECT(run(6, 100));
    EXPECT(run(6, 100));
    EXPECT(run(6, 100));  // the front alone
    EXPECT(run(7, 100));  // front and back, decided
  }
}

// A device that refuses captures is used without, and the log says so once.
void no_graphs() {
  Setup s;
  s.before = [](HostCall call, HostStream *) {
    if (call == HostCall::kCapture) fail(TOKLIP_TRT_UNSUPPORTED, "no captures here");
  };
  Bench b(s);
  for (int32_t i = 0; i < 5; i++) {
    b.process(0, {i, i, i, i});
    EXPECT(!b.times.graph);
  }
  char line[200] = "";
  toklip_trt_severity severity = TOKLIP_TRT_LOG_DEBUG;
  EXPECT(b.log.take(&severity, line, sizeof line, nullptr));
  EXPECT(severity == TOKLIP_TRT_LOG_WARNING && std::string(line).find("no captures here") != std::string::npos);
  EXPECT(!b.log.take(&severity, line, sizeof line, nullptr));
}

// So is one that refuses to launch what it captured.
void no_launches() {
  Setup s;
  s.before = [](HostCall call, HostStream *) {
    if (call == HostCall::kLaunch) fail(TOKLIP_TRT_INTERNAL, "no launches here");
  };
  Bench b(s);
  for (int32_t i = 0; i < 5; i++) {
    b.process(0, {i, i, i, i});
    EXPECT(!b.times.graph);
  }
}

void bad_frames() {
  Bench b(Setup{});
  const Picture picture({1, 2, 3, 4});
  const toklip_trt_frame good = picture.frame(0);
  toklip_trt_result result[3];
  const auto refuse = [&](const char *part, const toklip_trt_frame &second) {
    const toklip_trt_frame frames[] = {good, second};
    EXPECT_ERROR(TOKLIP_TRT_INVALID, part, b.pipeline->process(frames, 2, result, nullptr));
  };
  refuse("frame 1: stream 0 is in the batch twice", good);
  refuse("frame 1: stream is 5, must be 0 to 4", picture.frame(5));
  refuse("frame 1: stream is -1", picture.frame(-1));
  toklip_trt_frame f = picture.frame(1);
  f.size--;
  refuse("frame 1: ", f);
  f = picture.frame(1);
  f.data = nullptr;
  refuse("frame 1: ", f);
  f = picture.frame(1);
  f.width = 0;
  refuse("frame 1: ", f);
  f = picture.frame(1);
  f.pixels = static_cast<toklip_trt_pixels>(99);
  refuse("frame 1: ", f);
  f = picture.frame(1);
  f.resize = static_cast<toklip_trt_resize>(0);
  refuse("frame 1: ", f);
  EXPECT(b.tokenizer->runs == 0);
  b.process(0, {1, 2, 3, 4});  // no frame of those batches was handled
}

// Pictures of any size, format and stride are refused or handled, never read beyond their bytes.
void any_frames() {
  std::mt19937 random(7);
  const auto below = [&](int n) { return static_cast<int32_t>(random() % static_cast<unsigned>(n)); };
  Bench b(Setup{});
  int handled = 0, refused = 0;
  for (int i = 0; i < 2000; i++) {
    std::vector<uint8_t> pixels(static_cast<size_t>(below(6000)));
    for (uint8_t &p : pixels) p = static_cast<uint8_t>(random());
    toklip_trt_frame f = {};
    f.data = pixels.empty() ? nullptr : pixels.data();
    f.size = pixels.size();
    f.width = below(40) - 1;
    f.height = below(40) - 1;
    f.pixels = static_cast<toklip_trt_pixels>(below(9));
    f.stride = below(3) == 0 ? below(200) - 20 : f.width * (below(4) + 1);
    f.resize = static_cast<toklip_trt_resize>(below(5));
    f.stream = below(7) - 1;
    if (below(20) == 0) f.width = static_cast<int32_t>(random());
    if (below(20) == 0) f.stride = static_cast<int32_t>(random());
    if (f.pixels == TOKLIP_TRT_IMAGE && below(2) == 0) {
      pixels.assign(3 * kSize * kSize * sizeof(float), 0);
      f.data = pixels.data();
      f.size = pixels.size();
      f.width = f.height = kSize;
      f.stride = 0;
    }
    toklip_trt_result result = {};
    try {
      b.pipeline->process(&f, 1, &result, nullptr);
      handled++;
      for (int t = 0; t < kTokens; t++) EXPECT(result.ids[t] >= 0 && result.ids[t] < kCodes);
    } catch (const Error &e) {
      refused++;
      EXPECT(e.code() == TOKLIP_TRT_INVALID && std::string(e.what()).rfind("frame 0: ", 0) == 0);
    }
  }
  EXPECT(handled > 50 && refused > 50);
}

void bad_options() {
  const std::vector<float> codebook = circle();
  const auto refuse = [&](const char *part, void (*change)(toklip_trt_pipeline_options &)) {
    Setup s;
    toklip_trt_pipeline_options o = options_of(s, codebook);
    change(o);
    const auto tokenizer = new_tokenizer(3, true), encoder = new_encoder(3);
    EXPECT_ERROR(TOKLIP_TRT_INVALID, part, make_shape(o, *tokenizer, encoder.get()));
  };
  refuse("image of the tokenizer engine is fp32[?,3,16,16], the options want fp32[?,3,32,32]",
         [](auto &o) { o.image_size = 32; });
  refuse("image_size is 0, must be 16 to 4096", [](auto &o) { o.image_size = 0; });
  refuse("latents of the tokenizer engine", [](auto &o) { o.tokens = 5; });
  refuse("codebook is NULL", [](auto &o) { o.codebook = nullptr; });
  refuse("codebook_dim", [](auto &o) { o.codebook_dim = 0; });
  refuse("latents of the tokenizer engine", [](auto &o) { o.codebook_dim = 3; });
  refuse("codebook_size is 1", [](auto &o) { o.codebook_size = 1; });
  refuse("feature_dim is 0, must be 1", [](auto &o) { o.feature_dim = 0; });
  refuse("features of the encoder engine", [](auto &o) { o.feature_dim = 4; });
  refuse("embedding of the encoder engine", [](auto &o) { o.embedding_dim = 4; });
  refuse("takes batches of 1 to 3 frames, the pipeline wants 1 to 4", [](auto &o) { o.batch_max = 4; });
  refuse("batch_max is 0", [](auto &o) { o.batch_max = 0; });
  refuse("streams_max is -1", [](auto &o) { o.streams_max = -1; });
  refuse("in_flight is 3, must be 1 to 2", [](auto &o) { o.in_flight = 3; });
  refuse("timeout_ms is 0", [](auto &o) { o.timeout_ms = 0; });
  refuse("std[1] is 0", [](auto &o) { o.std[1] = 0; });
  refuse("mean[2] is nan", [](auto &o) { o.mean[2] = std::nanf(""); });
  // Engines the wrong way round.
  Setup s;
  const toklip_trt_pipeline_options o = options_of(s, codebook);
  const auto tokenizer = new_tokenizer(3, true), encoder = new_encoder(3);
  EXPECT_ERROR(TOKLIP_TRT_INVALID, "the tokenizer engine has no input \"image\", it has ids int32[?,4]",
               make_shape(o, *encoder, tokenizer.get()));
}

// What a tokenizer gives besides is let go.
void more_outputs() {
  const std::vector<float> codebook = circle();
  const auto device = std::make_shared<HostDevice>();
  const auto both =
      std::make_shared<FunctionEngine>(std::vector<TensorInfo>{{"image", true, Type::kFP32, {-1, 3, kSize, kSize}},
                                                               {"latents", false, Type::kFP32, {-1, 2, 2, 2}},
                                                               {"ids", false, Type::kINT32, {-1, kTokens}}},
                                       3, [](int32_t n, const std::vector<void *> &a) {
                                         for (int32_t i = 0; i < n * kTokens; i++) static_cast<int32_t *>(a[2])[i] = 7;
                                         for (int32_t i = 0; i < n * 2 * kTokens; i++)
                                           static_cast<float *>(a[1])[i] = i % 8 < 4 ? 1 : 0;
                                       });
  Setup s;
  s.encoder = false;
  Log log;
  const Picture picture({1, 2, 3, 4});
  const toklip_trt_frame frame = picture.frame(0);
  toklip_trt_result result = {};
  toklip_trt_pipeline_options o = options_of(s, codebook);
  auto searched = std::make_unique<Pipeline>(device, new_kernels(*device, false), both, nullptr, o, log);
  searched->process(&frame, 1, &result, nullptr);
  expect_result(result, {0, 0, 0, 0}, nullptr, false);
  o.codebook = nullptr;
  auto told = std::make_unique<Pipeline>(device, new_kernels(*device, false), both, nullptr, o, log);
  told->process(&frame, 1, &result, nullptr);
  expect_result(result, {7, 7, 7, 7}, nullptr, false);
  Pipeline::close(std::move(searched));
  Pipeline::close(std::move(told));
}

}  // namespace
}  // namespace toklip

int main() {
  using namespace toklip;
  const Case cases[] = {{"results", results},
                        {"skipping", skipping},
                        {"only changed frames are encoded", only_changed},
                        {"random batches", random_batches},
                        {"order and limits", order_and_limits},
                        {"results hold", results_hold},
                        {"graphs", graphs},
                        {"no captures", no_graphs},
                        {"no launches", no_launches},
                        {"bad frames", bad_frames},
                        {"any frames", any_frames},
                        {"bad options", bad_options},
                        {"more outputs", more_outputs}};
  return run_cases(cases);
}
