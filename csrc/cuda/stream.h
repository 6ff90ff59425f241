// Streams, events and graphs over the CUDA driver. Made by CudaDevice.
#pragma once

#include <functional>
#include <memory>

#include "cuda/device.h"

namespace toklip {

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(CudaDevice &device);
  ~CudaEvent() override;
  bool done() override;
  float microseconds_since(const Event &earlier) override;

  CUevent handle() const { return event_; }

 private:
  CudaDevice &device_;
  CUevent event_ = nullptr;
};

class CudaGraph final : public Graph {
 public:
  CudaGraph(CudaDevice &device, CUgraph graph);  // graph remains the caller's
  ~CudaGraph() override;

  CUgraphExec handle() const { return exec_; }

 private:
  CudaDevice &device_;
  CUgraphExec exec_ = nullptr;
};

class CudaStream final : public Stream {
 public:
  explicit CudaStream(CudaDevice &device);
  ~CudaStream() override;
  void copy(void *to, const void *from, size_t size) override;
  void fill(void *to, uint8_t value, size_t size) override;
  void call(HostFunction function, void *argument) override;
  void record(Event &event) override;
  void wait(const Event &event) override;
  void launch(Graph &graph) override;
  std::unique_ptr<Graph> capture(const std::function<void()> &work) override;
  void *native() override { return stream_; }

 private:
  CudaDevice &device_;
  CUstream stream_ = nullptr;
  bool capturing_ = false;
};

}  // namespace toklip
