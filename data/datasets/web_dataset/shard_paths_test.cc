#include "data/datasets/web_dataset/shard_paths.h"

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Expand(const std::string& pattern) {
  const auto paths = ExpandShardPattern(pattern);
  EXPECT_TRUE(paths.ok()) << paths.status();
  return paths.ok() ? *paths : std::vector<std::string>();
}

std::string ErrorOf(const std::string& pattern) { return std::string(ExpandShardPattern(pattern).status().message()); }

TEST(ShardPathsTest, PlainPathsStayAsTheyAre) { EXPECT_THAT(Expand("a/b-1..2,c.tar"), ElementsAre("a/b-1..2,c.tar")); }

// As bash expands them.
TEST(ShardPathsTest, Ranges) {
  EXPECT_THAT(Expand("a-{008..011}.tar"), ElementsAre("a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"));
  EXPECT_THAT(Expand("{8..11}"), ElementsAre("8", "9", "10", "11"));
  EXPECT_THAT(Expand("{5..5}"), ElementsAre("5"));
  EXPECT_THAT(Expand("{1..2}{08..09}"), ElementsAre("108", "109", "208", "209"));
  EXPECT_EQ(Expand("{000000..001280}").size(), 1281u);
}

TEST(ShardPathsTest, Lists) {
  EXPECT_THAT(Expand("{b,a}.tar"), ElementsAre("b.tar", "a.tar"));
  EXPECT_THAT(Expand("{x,y{1..2},}z"), ElementsAre("xz", "y1z", "y2z", "z"));
}

TEST(ShardPathsTest, WildcardsFindFilesInOrder) {
  const fs::path root = fs::path(::testing::TempDir()) / "wildcards";
  fs::remove_all(root);
  fs::create_directories(root);
  for (const char* name : {"b-2.tar", "b-10.tar", "B-1.tar", "a-1.tar", "a-1.tgz"}) std::ofstream(root / name) << name;
  const std::string folder = root.string() + "/";
  EXPECT_THAT(Expand(folder + "*.tar"),
              ElementsAre(folder + "B-1.tar", folder + "a-1.tar", folder + "b-10.tar", folder + "b-2.tar"));
  EXPECT_THAT(Expand(folder + "{b,a}-?.tar"), ElementsAre(folder + "b-2.tar", folder + "a-1.tar"));
  EXPECT_THAT(ErrorOf(folder + "{a,c}-*.tar"), HasSubstr("no file is called '" + folder + "c-*.tar'"));
}

TEST(ShardPathsTest, Mistakes) {
  EXPECT_THAT(ErrorOf("a-{0..9.tar"), HasSubstr("a { is not closed"));
  EXPECT_THAT(ErrorOf("a-{}.tar"), HasSubstr("{} is neither a rising range such as {000..146} nor a list"));
  for (const char* pattern : {"{9..0}", "{a..b}", "{1..}", "{..1}", "{-1..1}", "{1...3}", "{7}"}) {
    EXPECT_THAT(ErrorOf(pattern), HasSubstr("is neither a rising range")) << pattern;
  }
  EXPECT_THAT(ErrorOf("{0..99999999999999999999}"), HasSubstr("is neither a rising range"));
  EXPECT_THAT(ErrorOf("{0..1000000}"), HasSubstr("means more than 1000000 files"));
  EXPECT_THAT(ErrorOf("{0..999}{0..999}{0..999}"), HasSubstr("means more than 1000000 files"));
}

}  // namespace
}  // namespace graticule
