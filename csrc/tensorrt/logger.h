// TensorRT's log: every line goes to the library's queue, and the first error of a call becomes its message.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "core/log.h"
#include "tensorrt/headers.h"

namespace toklip {
namespace tensorrt {

class LogScope;

// TensorRT remembers the first logger it is given for as long as the process lives and ignores later ones in places,
// so there is one, which outlives everything, and it finds out whose line it is: that of the scope open on the
// thread, or on TensorRT's own threads, that of every scope open.
class Logger : public nvinfer1::ILogger {
 public:
  static Logger &instance();

  void log(Severity severity, nvinfer1::AsciiChar const *text) noexcept override;

 private:
  friend class LogScope;
  Logger() = default;
  ~Logger() override = default;

  std::mutex mutex_;
  std::vector<LogScope *> scopes_;
};

// Stands around calls into TensorRT: takes what is logged meanwhile.
class LogScope {
 public:
  explicit LogScope(Log &log);
  ~LogScope();
  LogScope(const LogScope &) = delete;
  LogScope &operator=(const LogScope &) = delete;

  // What TensorRT said went wrong: the first error, since later ones only repeat that something failed, often as
  // a missing driver; else the warnings, which in 8.x are all there is.
  std::string reason() const;

 private:
  friend class Logger;
  void take(nvinfer1::ILogger::Severity severity, const char *text);  // under the logger's mutex

  Log &log_;
  LogScope *outer_;  // of the same thread
  std::string error_, warnings_;
};

}  // namespace tensorrt
}  // namespace toklip
