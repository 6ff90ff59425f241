// Engine over ONNX Runtime: an enqueued run is a host function on the stream.
#pragma once

#include <memory>

#include "core/engine.h"
#include "host/device.h"
#include "test/impl/ort.h"
#include "test/impl/plan.h"

namespace toklip {

// operators are told by layers().
std::unique_ptr<Engine> new_ort_engine(std::shared_ptr<HostDevice> device, std::unique_ptr<OrtNetwork> network,
                                       const Plan &plan, std::vector<std::string> operators);

// {"inputs":[{"name","type","shape"}],"outputs":[...],"layers":N}
std::string describe_json(const OrtNetwork &network, size_t layers);

// {"Layers":["0 Conv",...]}
std::string layers_json(const std::vector<std::string> &operators);

}  // namespace toklip
