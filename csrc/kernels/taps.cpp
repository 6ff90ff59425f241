#include "kernels/taps.h"

#include <algorithm>
#include <cmath>

namespace toklip {
namespace {

// Keys' kernel with a = -0.5.
double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

}  // namespace

int32_t Taps::from() const { return *std::min_element(start.begin(), start.end()); }

int32_t Taps::to() const {
  int32_t end = 0;
  for (size_t i = 0; i < start.size(); i++) end = std::max(end, start[i] + count[i]);
  return end;
}

Taps make_taps(int32_t in, int32_t out, int32_t first, int32_t kept) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double stretch = std::max(scale, 1.0);
  const double support = 2 * stretch;
  const double inverse = 1 / stretch;
  const auto n = static_cast<size_t>(kept);
  Taps t;
  const size_t most = static_cast<size_t>(std::ceil(support)) * 2 + 1;
  t.most = static_cast<int32_t>(most);
  t.start.resize(n);
  t.count.resize(n);
  t.weights.assign(n * most, 0);
  std::vector<double> w(most);
  for (size_t i = 0; i < n; i++) {
    const double center = (first + static_cast<double>(i) + 0.5) * scale;
    const int32_t from = std::max(static_cast<int32_t>(center - support + 0.5), 0);
    const int32_t to = std::min(static_cast<int32_t>(center + support + 0.5), in);
    const auto count = static_cast<size_t>(to - from);
    double sum = 0;
    for (size_t j = 0; j < count; j++) {
      w[j] = bicubic((static_cast<double>(j) + from - center + 0.5) * inverse);
      sum += w[j];
    }
    for (size_t j = 0; j < count; j++) {
      const double v = (sum != 0 ? w[j] / sum : w[j]) * (1 << kTapBits);
      t.weights[j * n + i] = static_cast<int32_t>(v < 0 ? v - 0.5 : v + 0.5);
    }
    t.start[i] = from;
    t.count[i] = to - from;
  }
  return t;
}

}  // namespace toklip
