// Builds of the implementation for tests: the ONNX file is loaded once, then a plan that names it is written.
#pragma once

#include <memory>

#include "core/runtime.h"
#include "test/impl/ort.h"
#include "test/orders.h"

namespace toklip {

// Throws TOKLIP_TRT_UNSUPPORTED for options that need a GPU's hardware.
std::unique_ptr<Build> new_test_build(std::shared_ptr<Ort> ort, std::shared_ptr<Orders> orders, Log &log,
                                      const toklip_trt_build_options &options);

}  // namespace toklip
