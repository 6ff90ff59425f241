#include "test/impl/plan.h"

#include <cinttypes>
#include <sstream>

#include "core/error.h"
#include "test/impl/onnx_file.h"

namespace toklip {
namespace {

constexpr char kMagic[] = "toklip test plan ";
constexpr char kHeader[] = "toklip test plan 1\n";
constexpr size_t kEndBytes = 4 + 16 + 1;  // "end ", the hash, line end

}  // namespace

std::string text_of(const Plan &p) {
  const std::string body = kHeader +
                           text("library %s\nbatch %d %d %d\nonnx %016" PRIx64 " ", p.library.c_str(), p.batch_min,
                                p.batch_opt, p.batch_max, p.onnx_hash) +
                           p.onnx_path + "\n";
  return body + text("end %016" PRIx64 "\n", hash_of(body));
}

Plan parse_plan(const std::string &content) {
  if (content.rfind(kMagic, 0) != 0) fail(TOKLIP_TRT_BAD_PLAN, "the plan was not made by this implementation");
  if (content.rfind(kHeader, 0) != 0)
    fail(TOKLIP_TRT_BAD_PLAN, "the plan is of another version of this implementation");
  if (content.size() < sizeof kHeader + kEndBytes) fail(TOKLIP_TRT_BAD_PLAN, "the plan is truncated");
  const std::string body = content.substr(0, content.size() - kEndBytes);
  if (content.substr(body.size()) != text("end %016" PRIx64 "\n", hash_of(body))) {
    fail(TOKLIP_TRT_BAD_PLAN, "the plan is damaged or truncated: its hash does not fit");
  }
  Plan p;
  std::string word;
  std::istringstream in(body.substr(sizeof kHeader - 1));
  in >> word >> p.library >> word >> p.batch_min >> p.batch_opt >> p.batch_max >> word >> std::hex >> p.onnx_hash;
  in.get();
  std::getline(in, p.onnx_path);
  if (!in || p.batch_min < 1 || p.batch_opt < p.batch_min || p.batch_max < p.batch_opt) {
    fail(TOKLIP_TRT_BAD_PLAN, "the plan makes no sense");
  }
  return p;
}

}  // namespace toklip
