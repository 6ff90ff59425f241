// Preprocessor, less the passes: frames are copied to pinned memory and described for whoever computes.
#pragma once

#include <cstdint>
#include <list>
#include <vector>

#include "core/kernels.h"
#include "kernels/launch.h"
#include "kernels/layout.h"
#include "kernels/resample.h"

namespace toklip {

// All that is prepared for a geometry: the layout, and the taps where the one who computes reads them.
struct Plan {
  Geometry geometry;
  Layout layout;
  int32_t row_from, row_to, col_from, col_to;
  Buffer taps;
  Axis across, down;
  uint64_t used;  // by which call of reserve last
};

// Descriptors lie at fixed addresses and hold the addresses of everything else, so that graphs survive new geometries.
class FramePreprocessor : public Preprocessor {
 public:
  void check(const toklip_trt_frame &frame) const override;
  bool reserve(const toklip_trt_frame *frames, int32_t n) override;
  void load(const toklip_trt_frame *frames, int32_t n) override;

 protected:
  // How frames get to the one who computes.
  enum class Reach {
    kHost,     // the CPU computes: everything is pinned memory
    kInPlace,  // pixels are read in pinned memory, unless they are read more than once
    kCopied    // pixels are copied to the device first
  };

  FramePreprocessor(Device &device, const PreprocessorOptions &options, Reach reach);

  // Copies to a buffer for taps and waits for it.
  virtual void write(Buffer &to, const void *from, size_t size) = 0;

  // Whether upload has anything to do: then copies() are to be made, some of which may be empty. It is so for good.
  bool uploads() const { return static_cast<bool>(staging_); }

  const PreprocessorOptions options_;
  Buffer works_;   // FrameWork [batch_max]
  Buffer copies_;  // CopyWork [batch_max]

 private:
  static constexpr size_t kPlans = 64;  // geometries that are remembered beyond those of the batch

  Geometry geometry_of(const toklip_trt_frame &frame) const;
  Plan *find(const Geometry &geometry);
  Plan new_plan(const Geometry &geometry);
  bool staged(const Geometry &geometry, const Layout &layout) const;
  void describe(const Plan &plan, FrameWork *work) const;
  Space space() const { return reach_ == Reach::kHost ? Space::kHost : Space::kDevice; }
  Memory own_memory() const { return reach_ == Reach::kHost ? Memory::kPinned : Memory::kDevice; }

  Device &device_;
  const Reach reach_;
  std::list<Plan> plans_;
  std::vector<Plan *> batch_;  // of the frames of the last reserve; NULL for kImage
  uint64_t calls_ = 0;
  Buffer pixels_;   // pinned: frames as they came, rows without padding
  Buffer staging_;  // the device's copy of it
  Buffer scratch_;  // between the passes
};

}  // namespace toklip
