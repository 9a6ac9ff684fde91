#include "trainer/sinks/tensor_board/histogram.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <vector>

namespace graticule::tensor_board {
namespace {

constexpr double kGreatest = std::numeric_limits<double>::max();

// Upper limits of the buckets, ascending.
const std::vector<double>& Limits() {
  static const auto* limits = [] {
    std::vector<double> positive;
    for (double limit = 1e-12; limit < 1e20; limit *= 1.1) positive.push_back(limit);
    positive.push_back(kGreatest);
    auto* all = new std::vector<double>;
    std::transform(positive.rbegin(), positive.rend(), std::back_inserter(*all), [](double limit) { return -limit; });
    all->push_back(0);
    all->insert(all->end(), positive.begin(), positive.end());
    return all;
  }();
  return *limits;
}

}  // namespace

Histogram MakeHistogram(const std::vector<double>& values) {
  const std::vector<double>& limits = Limits();
  std::vector<double> counts(limits.size());
  Histogram histogram;
  double least = kGreatest, greatest = -kGreatest, number = 0, sum = 0, squares = 0;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    const size_t above = std::upper_bound(limits.begin(), limits.end(), value) - limits.begin();
    ++counts[std::min(above, limits.size() - 1)];
    least = std::min(least, value);
    greatest = std::max(greatest, value);
    ++number;
    sum += value;
    squares += value * value;
  }
  histogram.set_min(number > 0 ? least : 0);
  histogram.set_max(number > 0 ? greatest : 0);
  histogram.set_num(number);
  histogram.set_sum(sum);
  histogram.set_sum_squares(squares);
  for (size_t i = 0; i < limits.size(); ++i) {
    if (counts[i] == 0 && i + 1 < limits.size() && counts[i + 1] == 0) continue;
    histogram.add_bucket_limit(limits[i]);
    histogram.add_bucket(counts[i]);
  }
  return histogram;
}

}  // namespace graticule::tensor_board
