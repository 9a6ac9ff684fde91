// The quickstart holds what its spec expects.
#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/program.h"

namespace graticule {
namespace {

TEST(QuickstartTest, ReachesWhatItsSpecExpects) {
  const std::string run = FreshFolder("run");
  const ProgramResult result =
      RunProgram({"train", Runfile("graticule/configs/quickstart.textproto"), "--output=" + run});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, testing::ContainsRegex("expected val/top1 ≥ 98: [0-9.]+, holds"));
}

}  // namespace
}  // namespace graticule
