// The kernels' work done by the CPU, with the same arithmetic: what a machine without fitting kernels uses, and what
// the kernels are compared with. Each function does all of one launch in the calling thread and allocates nothing.
#pragma once

#include "kernels/launch.h"
#include "kernels/resample.h"

namespace toklip {

// A frame into its part of the network's input. f.scratch has scratch_pixels(f) pixels.
void cpu_preprocess(const FrameWork &f);

// Latents to ids. The codebook is padded as for the GPU; partial, slice and slices are not used.
void cpu_search(const SearchWork &w);

void cpu_compare(const CompareWork &w, int32_t frames);
void cpu_pack(const PackWork &w, int32_t frames);
void cpu_gather(const GatherWork &w, int32_t chosen);
void cpu_unit(const UnitWork &w, int32_t n);
void cpu_widen(const uint16_t *from, float *to, int64_t n);

}  // namespace toklip
