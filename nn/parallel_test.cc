#include "nn/parallel.h"

#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "ATen/Parallel.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

TEST(ParallelForTest, CallsEachIndexOnceOnAllThreads) {
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    for (const int64_t count : {0, 1, 3, 1000}) {
      std::vector<std::atomic<int>> calls(count);
      std::mutex mutex;
      std::set<std::thread::id> ids;
      ParallelFor(count, [&](int64_t i) {
        ++calls[i];
        const std::lock_guard lock(mutex);
        ids.insert(std::this_thread::get_id());
      });
      EXPECT_THAT(calls, testing::Each(testing::Eq(1)));
      EXPECT_EQ(ids.size(), std::min<int64_t>(threads, count));
    }
  }
}

}  // namespace
}  // namespace graticule
