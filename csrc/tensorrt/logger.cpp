#include "tensorrt/logger.h"

#include <algorithm>

namespace toklip {
namespace tensorrt {
namespace {

// Characters of warnings after which no more are kept.
constexpr size_t kWarnings = 500;

thread_local LogScope *current_scope = nullptr;

using Severity = nvinfer1::ILogger::Severity;

toklip_trt_severity severity_of(Severity severity) {
  switch (severity) {
    case Severity::kINTERNAL_ERROR:
    case Severity::kERROR:
      return TOKLIP_TRT_LOG_ERROR;
    case Severity::kWARNING:
      return TOKLIP_TRT_LOG_WARNING;
    case Severity::kINFO:
      return TOKLIP_TRT_LOG_INFO;
    case Severity::kVERBOSE:
      break;
  }
  return TOKLIP_TRT_LOG_DEBUG;
}

}  // namespace

Logger &Logger::instance() {
  static Logger *logger = new Logger;  // never deleted, see above
  return *logger;
}

void Logger::log(Severity severity, nvinfer1::AsciiChar const *text) noexcept {
  // TensorRT builds its verbose lines whether they are wanted or not; there are hundreds of thousands in a build.
  if (severity == Severity::kVERBOSE || !text) return;
  try {
    std::lock_guard<std::mutex> lock(mutex_);
    if (current_scope) {
      current_scope->take(severity, text);
    } else {
      for (LogScope *scope : scopes_) scope->take(severity, text);
    }
  } catch (...) {
    // Out of memory: the line is lost.
  }
}

LogScope::LogScope(Log &log) : log_(log), outer_(current_scope) {
  Logger &logger = Logger::instance();
  std::lock_guard<std::mutex> lock(logger.mutex_);
  logger.scopes_.push_back(this);
  current_scope = this;
}

LogScope::~LogScope() {
  Logger &logger = Logger::instance();
  std::lock_guard<std::mutex> lock(logger.mutex_);
  auto &scopes = logger.scopes_;
  scopes.erase(std::remove(scopes.begin(), scopes.end(), this), scopes.end());
  current_scope = outer_;
}

void LogScope::take(Severity severity, const char *text) {
  toklip_trt_severity level = severity_of(severity);
  if (level == TOKLIP_TRT_LOG_ERROR && error_.empty()) error_ = text;
  if (level == TOKLIP_TRT_LOG_WARNING && warnings_.size() < kWarnings && warnings_.find(text) == std::string::npos) {
    warnings_ += (warnings_.empty() ? "" : "; ") + std::string(text);
  }
  log_.add(level, text);
}

std::string LogScope::reason() const {
  Logger &logger = Logger::instance();
  std::lock_guard<std::mutex> lock(logger.mutex_);
  if (!error_.empty()) return error_;
  if (!warnings_.empty()) return warnings_;
  return "TensorRT gave no reason";
}

}  // namespace tensorrt
}  // namespace toklip
