// Every file of the decoders' test suites, by the verdicts that stand beside them: lines of path, format, OK, WARN or
// ERROR, WIDTHxHEIGHT and remarks, separated by tabs. Each is decoded in a process of its own, which shows crashes, the
// time and the memory that it takes.
#include <pwd.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
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

constexpr int kMaxSeconds = 20;
constexpr int64_t kMaxKilobytes = 512 * 1024;

std::filesystem::path Folder() {
  if (const char* data = ::getenv("GRATICULE_DATA")) return std::filesystem::path(data) / "odd-images";
  // $HOME is not the user's in a test.
  const passwd* user = ::getpwuid(::getuid());
  return std::filesystem::path(user == nullptr ? "" : user->pw_dir) / ".cache/graticule/data/odd-images";
}

std::string FileBytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Outcome {
  bool survived = false;
  std::string result;  // WIDTHxHEIGHT or the error
  int64_t kilobytes = 0;
};

Outcome DecodeApart(const std::string& bytes, const DecodeOptions& options = {}) {
  int ends[2];
  if (::pipe(ends) != 0) return {};
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(kMaxSeconds);
    const absl::StatusOr<Image> image = DecodeImage(bytes, options);
    const std::string result =
        image.ok() ? absl::StrCat(image->width, "x", image->height) : std::string(image.status().ToString());
    const bool written = ::write(ends[1], result.data(), result.size()) == static_cast<ssize_t>(result.size());
    ::_exit(written ? 0 : 1);
  }
  ::close(ends[1]);
  Outcome outcome;
  char buffer[4096];
  for (ssize_t size; (size = ::read(ends[0], buffer, sizeof(buffer))) > 0;) outcome.result.append(buffer, size);
  ::close(ends[0]);
  int status;
  rusage usage;
  if (::wait4(child, &status, 0, &usage) != child) return outcome;
  outcome.survived = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  outcome.kilobytes = usage.ru_maxrss;
  return outcome;
}

bool IsError(const Outcome& outcome) { return absl::StrContains(outcome.result, ": "); }

class OddImagesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(folder_ / "decode-verdicts.tsv")) {
      GTEST_SKIP() << "no odd images in " << folder_ << "; GRATICULE_DATA names the folder that holds odd-images";
    }
  }

  const std::filesystem::path folder_ = Folder();
};

TEST_F(OddImagesTest, MeetTheirVerdicts) {
  std::ifstream verdicts(folder_ / "decode-verdicts.tsv");
  int checked = 0;
  int64_t most_kilobytes = 0;
  for (std::string line; std::getline(verdicts, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, '\t');
    ASSERT_GE(fields.size(), 4u) << line;
    const std::string &path = fields[0], &format = fields[1], &verdict = fields[2], &size = fields[3];
    // The verdicts cover more than is handed round.
    if (!std::filesystem::is_regular_file(folder_ / path)) continue;
    const std::string bytes = FileBytes(folder_ / path);
    const Outcome outcome = DecodeApart(bytes);
    const std::string found = absl::StrCat(line, "\nfound ", outcome.result);
    ++checked;
    most_kilobytes = std::max(most_kilobytes, outcome.kilobytes);
    ASSERT_TRUE(outcome.survived) << found;
    EXPECT_LT(outcome.kilobytes, kMaxKilobytes) << found;
    if (absl::EndsWith(path, ".webp")) {
      EXPECT_FALSE(IsError(outcome)) << found;  // the verdicts are on JPEG and PNG only
    } else if (format == "other" || verdict == "ERROR") {
      EXPECT_TRUE(IsError(outcome)) << found;
    } else if (verdict == "OK" || !IsError(outcome)) {
      EXPECT_EQ(outcome.result, size) << found;
    }
    // Of what libjpeg warned of, only what stands before the image's data is harmless.
    if (verdict == "WARN" && format == "jpeg" && absl::StrContains(line, "Premature end")) {
      EXPECT_TRUE(absl::StartsWith(outcome.result, "OUT_OF_RANGE")) << found;
      EXPECT_EQ(DecodeApart(bytes, {.keep_truncated = true}).result, size) << found;
    }
    if (absl::StrContains(line, "\ttruncated")) {
      EXPECT_TRUE(absl::StartsWith(outcome.result, "OUT_OF_RANGE")) << found;
      EXPECT_EQ(DecodeApart(bytes, {.keep_truncated = true}).result, size) << found;
    }
    if (verdict == "WARN" && format == "png") {
      EXPECT_FALSE(IsError(outcome)) << found;
    }
  }
  std::cout << checked << " files, of which none took more than " << most_kilobytes / 1024 << " MiB\n";
  EXPECT_GT(checked, 600);
}

// Mean colours of a grid of cells.
std::vector<double> Cells(const Image& image, int64_t rows, int64_t columns) {
  std::vector<double> sums(Image::kChannels * rows * columns), counts(rows * columns);
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t x = 0; x < image.width; ++x) {
      const int64_t cell = y * rows / image.height * columns + x * columns / image.width;
      ++counts[cell];
      for (int c = 0; c < Image::kChannels; ++c) {
        sums[Image::kChannels * cell + c] += image.pixels[Image::kChannels * (y * image.width + x) + c];
      }
    }
  }
  for (size_t i = 0; i < sums.size(); ++i) sums[i] /= counts[i / Image::kChannels];
  return sums;
}

TEST_F(OddImagesTest, TurnedPhotosShowTheSame) {
  const DecodeOptions upright{.exif_orientation = true};
  const auto expect_same = [&](const std::string& path, const std::string& first_path) {
    const absl::StatusOr<Image> first = DecodeImage(FileBytes(folder_ / first_path), upright);
    ASSERT_TRUE(first.ok()) << first_path << ": " << first.status();
    const absl::StatusOr<Image> image = DecodeImage(FileBytes(folder_ / path), upright);
    ASSERT_TRUE(image.ok()) << path << ": " << image.status();
    EXPECT_EQ(image->size(), first->size()) << path;
    const std::vector<double> expected = Cells(*first, 12, 12), found = Cells(*image, 12, 12);
    // In the middle of each, its number is drawn.
    for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(found[i], expected[i], 16) << path << ", " << i;
  };
  for (const std::string shape : {"Landscape", "Portrait"}) {
    for (int k = 2; k <= 8; ++k) {
      expect_same(absl::StrCat("exif-orientation/", shape, "_", k, ".jpg"),
                  absl::StrCat("exif-orientation/", shape, "_1.jpg"));
    }
  }
  for (int k = 3; k <= 8; ++k) {
    const std::string path = "pillow/Tests/images/hopper_orientation_";
    expect_same(absl::StrCat(path, k, ".webp"), absl::StrCat(path, "2.webp"));
  }
}

}  // namespace
}  // namespace graticule
