#include "cuda/stream.h"

namespace toklip {

CudaEvent::CudaEvent(CudaDevice &device) : device_(device) {
  device_.check_alive();
  device_.check(device_.driver().event_create(&event_, 0), "make an event");
}

CudaEvent::~CudaEvent() { static_cast<void>(device_.driver().event_destroy(event_)); }

bool CudaEvent::done() {
  device_.check_alive();
  const CUresult result = device_.driver().event_query(event_);
  if (result == kCudaNotReady) return false;
  device_.check(result, "wait for the GPU");
  return true;
}

float CudaEvent::microseconds_since(const Event &earlier) {
  float milliseconds = 0;
  const CUevent from = static_cast<const CudaEvent &>(earlier).event_;
  const CUresult result = device_.driver().event_elapsed(&milliseconds, from, event_);
  if (result == kCudaSuccess) return milliseconds * 1000;
  // One was never recorded, or the driver does not tell: the results of the work are as good without.
  if (Driver::code_of(result) == TOKLIP_TRT_DEVICE_LOST) device_.check(result, "ask for the time between two events");
  return 0;
}

CudaGraph::CudaGraph(CudaDevice &device, CUgraph graph) : device_(device) {
  const Driver &d = device_.driver();
  device_.check(d.instantiate != nullptr ? d.instantiate(&exec_, graph, 0)
                                         : d.instantiate_old(&exec_, graph, nullptr, nullptr, 0),
                "make a graph ready to launch");
}

CudaGraph::~CudaGraph() { static_cast<void>(device_.driver().graph_exec_destroy(exec_)); }

CudaStream::CudaStream(CudaDevice &device) : device_(device) {
  device_.check_alive();
  device_.check(device_.driver().stream_create(&stream_, kStreamNonBlocking), "make a stream");
}

CudaStream::~CudaStream() { static_cast<void>(device_.driver().stream_destroy(stream_)); }

// With unified addresses, which every 64-bit Linux has, an address says itself what memory it is of.
void CudaStream::copy(void *to, const void *from, size_t size) {
  if (size == 0) return;
  device_.check_alive();
  device_.check(device_.driver().copy_async(device_address(to), device_address(from), size, stream_), "copy");
}

void CudaStream::fill(void *to, uint8_t value, size_t size) {
  if (size == 0) return;
  device_.check_alive();
  device_.check(device_.driver().fill_async(device_address(to), value, size, stream_), "fill memory");
}

void CudaStream::call(HostFunction function, void *argument) {
  device_.check_alive();
  device_.check(device_.driver().call(stream_, function, argument), "enqueue a function of the CPU");
}

// In a capture an event is a dependency between streams, unless it is called external: then the graph records it.
void CudaStream::record(Event &event) {
  device_.check_alive();
  device_.check(device_.driver().event_record(static_cast<CudaEvent &>(event).handle(), stream_,
                                              capturing_ ? kEventRecordExternal : 0),
                "record an event");
}

void CudaStream::wait(const Event &event) {
  device_.check_alive();
  device_.check(device_.driver().stream_wait(stream_, static_cast<const CudaEvent &>(event).handle(), 0),
                "let a stream wait for another");
}

void CudaStream::launch(Graph &graph) {
  device_.check_alive();
  device_.check(device_.driver().graph_launch(static_cast<CudaGraph &>(graph).handle(), stream_), "launch a graph");
}

std::unique_ptr<Graph> CudaStream::capture(const std::function<void()> &work) {
  device_.check_alive();
  const Driver &d = device_.driver();
  // Of this thread alone: what other threads do meanwhile, such as allocating, does not spoil it.
  device_.check(d.stream_begin_capture(stream_, kCaptureThreadLocal), "begin a capture");
  capturing_ = true;
  CUgraph graph = nullptr;
  try {
    work();
  } catch (...) {
    capturing_ = false;
    if (d.stream_end_capture(stream_, &graph) == kCudaSuccess && graph != nullptr)
      static_cast<void>(d.graph_destroy(graph));
    throw;
  }
  capturing_ = false;
  const CUresult result = d.stream_end_capture(stream_, &graph);
  device_.check(result, "end a capture");
  std::unique_ptr<Graph> out;
  try {
    out = std::make_unique<CudaGraph>(device_, graph);
  } catch (...) {
    static_cast<void>(d.graph_destroy(graph));
    throw;
  }
  static_cast<void>(d.graph_destroy(graph));
  return out;
}

}  // namespace toklip
