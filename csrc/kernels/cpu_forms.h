// The kernels' work done by the CPU, with the same arithmetic: what a machine without fitting kernels uses, and what
// the kernels are compared with. Each function does all of one launch in the calling thread and allocates nothing.
#pragma once

#include "kernels/launch.h"
#include "kernels/resample.h"

namespace toklip {

// A frame into its part [3,S,S] of the network's input. f.scratch has scratch_pixels(f) pixels.
void cpu_preprocess(const FrameWork &f, void *image);

// Latents to ids. The codebook is padded as for the GPU; partial, slice and slices are not used.
void cpu_search(const SearchWork &w);

void cpu_compare(const Compare &w, int32_t n);
void cpu_gather(const GatherWork &w, int32_t n);
void cpu_normalise(const NormaliseWork &w, int32_t n);

}  // namespace toklip
