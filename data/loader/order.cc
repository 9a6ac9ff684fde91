#include "data/loader/order.h"

#include <algorithm>
#include <numeric>

#include "plugin/logging.h"

namespace graticule {
namespace {

// They keep the permutations apart from each other and from other draws of the same seed.
constexpr uint64_t kSampleSalt = 0x6f72646572;
constexpr uint64_t kRunSalt = 0x72756e73;
constexpr uint64_t kNeighbourSalt = 0x6e656172;

}  // namespace

ShuffledOrder::ShuffledOrder(int64_t samples, const std::vector<int64_t>& runs, int64_t buffer, uint64_t seed,
                             int64_t epoch)
    : samples_(samples), buffer_(buffer), seed_(seed), epoch_(epoch) {
  if (runs.empty()) {
    all_.emplace(samples, std::initializer_list<uint64_t>{seed_, epoch_, kSampleSalt});
    return;
  }
  CHECK_GT(buffer_, 0);
  std::vector<int64_t> first_samples(runs.size());
  std::exclusive_scan(runs.begin(), runs.end(), first_samples.begin(), int64_t{0});
  CHECK_EQ(first_samples.back() + runs.back(), samples_);
  const Permutation run_order(static_cast<int64_t>(runs.size()), {seed_, epoch_, kRunSalt});
  int64_t place = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(runs.size()); ++i) {
    const int64_t run = run_order(i);
    if (runs[run] == 0) continue;
    runs_.push_back({place, first_samples[run]});
    place += runs[run];
  }
}

int64_t ShuffledOrder::operator()(int64_t place) const {
  if (all_) return (*all_)(place);
  CHECK(place >= 0 && place < samples_);
  const int64_t neighbours = place / buffer_;
  const int64_t first = neighbours * buffer_;
  const Permutation shuffled(std::min(buffer_, samples_ - first),
                             {seed_, epoch_, kNeighbourSalt, static_cast<uint64_t>(neighbours)});
  const int64_t before = first + shuffled(place - first);
  const auto after = std::upper_bound(runs_.begin(), runs_.end(), before,
                                      [](int64_t value, const Run& run) { return value < run.place; });
  const Run& run = *std::prev(after);
  return run.first_sample + before - run.place;
}

}  // namespace graticule
