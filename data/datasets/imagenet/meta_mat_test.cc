#include "data/datasets/imagenet/meta_mat.h"

#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/file.h"

namespace graticule {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

std::string Fixture(const std::string& name) {
  const absl::StatusOr<std::string> bytes = ReadFile("data/datasets/imagenet/testdata/" + name);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return bytes.value_or("");
}

// SciPy wrote them: doubles in the one, 16-bit numbers in the other, as MATLAB shortens them.
TEST(MetaMatTest, ReadsWhatSciPyWrites) {
  for (const char* name : {"meta.mat", "meta_uncompressed.mat"}) {
    const absl::StatusOr<WnidsById> wnids = ParseMetaMat(Fixture(name));
    ASSERT_TRUE(wnids.ok()) << name << ": " << wnids.status();
    EXPECT_THAT(*wnids, ElementsAre(Pair(1, "n02119789"), Pair(2, "n02100735"), Pair(3, "n01440764"),
                                    Pair(4, "n02110185"), Pair(1860, "n00001740")));
  }
}

TEST(MetaMatTest, OtherMatlabFiles) {
  EXPECT_THAT(std::string(ParseMetaMat(Fixture("other.mat")).status().message()),
              HasSubstr("no struct array of ILSVRC2012_ID and WNID"));
  for (const char* bytes : {"", "MATLAB 7.3 MAT-file"}) {
    EXPECT_EQ(ParseMetaMat(bytes).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(MetaMatTest, CutAndSpoiltFilesAreErrors) {
  for (const char* name : {"meta.mat", "meta_uncompressed.mat"}) {
    const std::string bytes = Fixture(name);
    for (size_t size = 0; size < bytes.size(); size += 1 + size / 512) {
      const absl::StatusOr<WnidsById> wnids = ParseMetaMat(bytes.substr(0, size));
      // No more than whole classes may be missing.
      if (wnids.ok()) EXPECT_LE(wnids->size(), 5) << name << " cut to " << size;
      if (!wnids.ok()) {
        EXPECT_THAT(wnids.status().code(), AnyOf(absl::StatusCode::kInvalidArgument, absl::StatusCode::kDataLoss));
      }
    }
    for (size_t i = 0; i < bytes.size(); ++i) {
      for (const char value : {'\0', '\x7f', '\xff'}) {
        std::string spoilt = bytes;
        spoilt[i] = value;
        const absl::StatusOr<WnidsById> wnids = ParseMetaMat(spoilt);
        if (!wnids.ok()) {
          EXPECT_THAT(wnids.status().code(), AnyOf(absl::StatusCode::kInvalidArgument, absl::StatusCode::kDataLoss));
        }
      }
    }
  }
}

}  // namespace
}  // namespace graticule
