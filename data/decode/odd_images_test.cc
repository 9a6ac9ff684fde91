// Every file of the decoders' test suites, by the verdicts that stand beside them: lines of path, format, OK, WARN or
// ERROR, WIDTHxHEIGHT and remarks, separated by tabs.
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "data/decode/decode.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

std::filesystem::path Folder() {
  if (const char* data = ::getenv("GRATICULE_DATA")) return std::filesystem::path(data) / "odd-images";
  // $HOME is not the user's in a test.
  const passwd* user = ::getpwuid(::getuid());
  return std::filesystem::path(user == nullptr ? "" : user->pw_dir) / ".cache/graticule/data/odd-images";
}

TEST(OddImagesTest, MeetTheirVerdicts) {
  const std::filesystem::path folder = Folder();
  std::ifstream verdicts(folder / "decode-verdicts.tsv");
  if (!verdicts)
    GTEST_SKIP() << "no odd images in " << folder << "; GRATICULE_DATA names the folder that holds odd-images";
  int checked = 0;
  for (std::string line; std::getline(verdicts, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, '\t');
    ASSERT_GE(fields.size(), 4u) << line;
    const std::string &path = fields[0], &format = fields[1], &verdict = fields[2], &size = fields[3];
    std::ifstream file(folder / path, std::ios::binary);
    if (!file) continue;  // the verdicts cover more than is handed round
    const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const absl::StatusOr<Image> image = DecodeImage(bytes);
    ++checked;
    if (format == "other" || verdict == "ERROR") {
      EXPECT_FALSE(image.ok()) << line;
    } else if (verdict == "OK" || image.ok()) {
      ASSERT_TRUE(image.ok()) << line << "\n" << image.status();
      EXPECT_EQ(absl::StrCat(image->width, "x", image->height), size) << line;
    }
    // Of what libjpeg warned of, only what stands before the image's data is harmless.
    if (verdict == "WARN" && format == "jpeg" && absl::StrContains(line, "Premature end")) {
      EXPECT_FALSE(image.ok()) << line;
    }
    if (verdict == "WARN" && format == "png") EXPECT_TRUE(image.ok()) << line << "\n" << image.status();
  }
  EXPECT_GT(checked, 600);
}

}  // namespace
}  // namespace graticule
