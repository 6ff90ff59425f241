// One run of an engine on the CPU's memory.
#pragma once

#include <cstddef>
#include <memory>

#include "core/device.h"
#include "core/engine.h"
#include "toklip_trt.h"

namespace toklip {

// Copies in, runs and copies out, see toklip_trt_engine_run. The device is current. Throws TOKLIP_TRT_INVALID, naming the
// tensor, if tensors are not those of the engine. If the device does not finish, TOKLIP_TRT_TIMEOUT; the memory that
// it may still use is then leaked.
void run_engine(std::shared_ptr<Device> device, std::shared_ptr<Engine> engine, const toklip_trt_tensor *inputs,
                size_t input_count, const toklip_trt_tensor *outputs, size_t output_count);

}  // namespace toklip
