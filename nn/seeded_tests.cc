// Seeds LibTorch before each test that links this: its default generator starts at a random number, and a tolerance
// that one draw in a thousand misses would fail on somebody else's machine. Under --gtest_repeat each repetition draws
// other numbers, which is how to look for such a tolerance.
#include "ATen/Context.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

class SeedEachTest : public testing::EmptyTestEventListener {
 public:
  SeedEachTest() { testing::UnitTest::GetInstance()->listeners().Append(this); }

  void OnTestIterationStart(const testing::UnitTest&, int iteration) override { seed_ = iteration; }
  void OnTestStart(const testing::TestInfo&) override { at::manual_seed(seed_); }

 private:
  int seed_ = 0;
};

[[maybe_unused]] const SeedEachTest* const seed_each_test = new SeedEachTest;  // GoogleTest deletes it

}  // namespace
}  // namespace graticule
