#include "kernels/frames.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "kernels/taps.h"

namespace toklip {
namespace {

// What is read by kernels begins at such a multiple, and memory reaches to the next one.
constexpr size_t kAlignment = 256;

size_t aligned(int64_t size) { return (static_cast<size_t>(size) + kAlignment - 1) / kAlignment * kAlignment; }

// The number in a field of an enumeration. C callers may have put any there, which C++ must not look at as that type.
template <typename Enum>
int32_t number_of(const Enum &field) {
  static_assert(sizeof field == sizeof(int32_t), "as C compilers have it");
  int32_t number;
  std::memcpy(&number, &field, sizeof number);
  return number;
}

// Bytes of a frame whose rows follow each other without padding.
int64_t packed_frame(const Geometry &g) {
  if (g.pixels == kImage) return int64_t{12} * g.size * g.size;
  return frame_bytes(g.pixels, g.width, g.height, row_bytes(g.pixels, g.width));
}

// Copies a frame without its rows' padding.
void copy_frame(const toklip_trt_frame &frame, const Geometry &g, uint8_t *to) {
  const auto *from = static_cast<const uint8_t *>(frame.data);
  const auto row = static_cast<size_t>(row_bytes(g.pixels, g.width));
  const auto stride = static_cast<size_t>(frame.stride);
  if (g.pixels == kImage || stride == row) {
    std::memcpy(to, from, static_cast<size_t>(packed_frame(g)));
    return;
  }
  const int32_t rows = g.pixels == kNV12 ? g.height + g.height / 2 : g.height;
  for (int32_t y = 0; y < rows; y++)
    std::memcpy(to + static_cast<size_t>(y) * row, from + static_cast<size_t>(y) * stride, row);
}

}  // namespace

FramePreprocessor::FramePreprocessor(Device &device, const PreprocessorOptions &options, Reach reach)
    : options_(options), device_(device), reach_(reach) {
  if (options.size < 1 || options.size > kMaxSize)
    fail(TOKLIP_TRT_INVALID, "image size %d is outside 1..%d", options.size, kMaxSize);
  if (options.batch_max < 1) fail(TOKLIP_TRT_INVALID, "batch size %d is below 1", options.batch_max);
  if (options.type != Type::kFP32 && options.type != Type::kFP16)
    fail(TOKLIP_TRT_INVALID, "the tokenizer's input is %s: fp32 and fp16 can be made", name_of(options.type));
  for (const float std : options.std) {
    if (!(std > 0))
      fail(TOKLIP_TRT_INVALID, "deviation %g of the normalisation is not above 0", static_cast<double>(std));
  }
  const auto n = static_cast<size_t>(options.batch_max);
  works_ = device.allocate(Memory::kPinned, n * sizeof(FrameWork));
  copies_ = device.allocate(Memory::kPinned, n * sizeof(CopyWork));
  batch_.resize(n);
}

Geometry FramePreprocessor::geometry_of(const toklip_trt_frame &frame) const {
  const int32_t pixels = number_of(frame.pixels);
  if (pixels == kImage) return Geometry{options_.size, options_.size, kImage, kSquash, options_.size};
  return Geometry{frame.width, frame.height, pixels, number_of(frame.resize), options_.size};
}

void FramePreprocessor::check(const toklip_trt_frame &frame) const {
  check_frame(geometry_of(frame), frame.data, frame.size, frame.stride);
}

Plan *FramePreprocessor::find(const Geometry &geometry) {
  for (Plan &plan : plans_) {
    if (plan.geometry == geometry) return &plan;
  }
  return nullptr;
}

Plan FramePreprocessor::new_plan(const Geometry &g) {
  Plan plan = {};
  plan.geometry = g;
  plan.layout = make_layout(g);
  const Layout &l = plan.layout;
  const Taps across = make_taps(g.width, l.width, l.crop_x, l.kept_w);
  const Taps down = make_taps(g.height, l.height, l.crop_y, l.kept_h);
  plan.col_from = across.from();
  plan.col_to = across.to();
  plan.row_from = down.from();
  plan.row_to = down.to();

  // Six arrays in one buffer.
  std::vector<int32_t> all;
  const std::vector<int32_t> *parts[6] = {&across.start, &across.count, &across.weights,
                                          &down.start,   &down.count,   &down.weights};
  size_t offsets[6] = {};
  for (size_t i = 0; i < 6; i++) {
    offsets[i] = all.size();
    all.insert(all.end(), parts[i]->begin(), parts[i]->end());
    all.resize((all.size() + 31) / 32 * 32);
  }
  plan.taps = device_.allocate(own_memory(), all.size() * sizeof all[0]);
  write(plan.taps, all.data(), all.size() * sizeof all[0]);
  const auto *base = static_cast<const int32_t *>(at(plan.taps, space()));
  plan.across = Axis{base + offsets[0], base + offsets[1], base + offsets[2], l.kept_w};
  plan.down = Axis{base + offsets[3], base + offsets[4], base + offsets[5], l.kept_h};
  return plan;
}

// The horizontal pass reads every pixel once, and so does the copy of a finished image; the vertical one reads a pixel
// for each row of the square that it goes into, which caches must serve.
bool FramePreprocessor::staged(const Geometry &g, const Layout &l) const {
  if (reach_ != Reach::kInPlace) return reach_ == Reach::kCopied;
  return g.pixels != kImage && l.vertical_first;
}

// All but the addresses of this batch.
void FramePreprocessor::describe(const Plan &plan, FrameWork *w) const {
  const Geometry &g = plan.geometry;
  const Layout &l = plan.layout;
  w->width = g.width;
  w->height = g.height;
  w->vertical_first = l.vertical_first;
  w->pad_x = l.pad_x;
  w->pad_y = l.pad_y;
  w->kept_w = l.kept_w;
  w->kept_h = l.kept_h;
  w->row_from = plan.row_from;
  w->row_to = plan.row_to;
  w->col_from = plan.col_from;
  w->col_to = plan.col_to;
  w->across = plan.across;
  w->down = plan.down;
  w->stride = row_bytes(g.pixels, g.width);
}

bool FramePreprocessor::reserve(const toklip_trt_frame *frames, int32_t n) {
  calls_++;
  size_t pixels = 0;
  size_t staging = 0;
  size_t scratch = 0;
  std::vector<Plan *> &batch = batch_;
  for (int32_t i = 0; i < n; i++) {
    const Geometry g = geometry_of(frames[i]);
    Plan *plan = nullptr;
    Layout layout = {};
    if (g.pixels != kImage) {
      plan = find(g);
      if (plan == nullptr) {
        plans_.push_front(new_plan(g));
        plan = &plans_.front();
      }
      plan->used = calls_;
      layout = plan->layout;
      FrameWork work = {};
      describe(*plan, &work);
      scratch += aligned(scratch_pixels(work) * int64_t{sizeof(Rgb)});
    }
    const size_t size = aligned(packed_frame(g));
    pixels += size;
    if (staged(g, layout)) staging += size;
    batch[static_cast<size_t>(i)] = plan;
  }

  Buffer more_pixels;
  Buffer more_staging;
  Buffer more_scratch;
  if (pixels > pixels_.size()) more_pixels = device_.allocate(Memory::kPinned, pixels);
  if (staging > staging_.size()) more_staging = device_.allocate(own_memory(), staging);
  if (scratch > scratch_.size()) more_scratch = device_.allocate(own_memory(), scratch);
  const bool begins = more_staging && !staging_;
  if (more_pixels) pixels_ = std::move(more_pixels);
  if (more_staging) staging_ = std::move(more_staging);
  if (more_scratch) scratch_ = std::move(more_scratch);

  // The least recently used plans go; nothing is under way that could use one.
  while (plans_.size() > kPlans) {
    const auto oldest =
        std::min_element(plans_.begin(), plans_.end(), [](const Plan &a, const Plan &b) { return a.used < b.used; });
    if (oldest->used == calls_) break;
    plans_.erase(oldest);
  }
  return begins;
}

void FramePreprocessor::load(const toklip_trt_frame *frames, int32_t n) {
  auto *works = static_cast<FrameWork *>(works_.host());
  auto *copies = static_cast<CopyWork *>(copies_.host());
  const auto *read = static_cast<const uint8_t *>(at(pixels_, space()));
  auto *written = static_cast<uint8_t *>(pixels_.host());
  auto *staging = static_cast<uint8_t *>(at(staging_, space()));
  auto *scratch = static_cast<uint8_t *>(at(scratch_, space()));
  for (int32_t i = 0; i < n; i++) {
    const Geometry g = geometry_of(frames[i]);
    const Plan *plan = batch_[static_cast<size_t>(i)];
    const size_t size = aligned(packed_frame(g));
    copy_frame(frames[i], g, written);
    FrameWork work = {};
    CopyWork copy = {};
    work.pixels = g.pixels;
    work.size = g.size;
    std::copy(std::begin(options_.mean), std::end(options_.mean), work.mean);
    std::copy(std::begin(options_.std), std::end(options_.std), work.std);
    work.half = options_.type == Type::kFP16;
    work.data = read;
    Layout layout = {};
    if (plan != nullptr) {
      layout = plan->layout;
      describe(*plan, &work);
      work.scratch = reinterpret_cast<Rgb *>(scratch);
      scratch += aligned(scratch_pixels(work) * int64_t{sizeof(Rgb)});
    }
    if (staged(g, layout)) {
      copy = CopyWork{read, staging, static_cast<int64_t>(size)};
      work.data = staging;
      staging += size;
    }
    works[i] = work;
    copies[i] = copy;
    read += size;
    written += size;
  }
}

}  // namespace toklip
