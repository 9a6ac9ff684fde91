#include "data/check/check.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "data/decode/test_files.h"
#include "data/image.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Png(uint8_t grey) { return PngFile({16, 16, Pixels(3 * 256, grey)}); }

// A JPEG file of noise.
std::string Jpeg() {
  Image image{64, 64, Pixels(3 * 64 * 64)};
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(i * i / 7);
  return JpegFile(image);
}

Sample File(std::string bytes, int64_t label) { return {EncodedImage(std::move(bytes)), label}; }
Sample Pixel(uint8_t grey, int64_t label) { return {Image{1, 1, Pixels(3, grey)}, label}; }

class ListedDataset : public Dataset {
 public:
  explicit ListedDataset(std::vector<absl::StatusOr<Sample>> samples) : samples_(std::move(samples)) {}
  int64_t size() const override { return static_cast<int64_t>(samples_.size()); }
  absl::StatusOr<Sample> Read(int64_t index) const override {
    if (samples_[index].status().message() == "throw") throw std::runtime_error("thrown");
    return samples_[index];
  }
  std::string SampleName(int64_t index) const override { return absl::StrCat("listed[", index, "]"); }
  const std::vector<std::string>& class_names() const override { return class_names_; }

 private:
  std::vector<absl::StatusOr<Sample>> samples_;
  std::vector<std::string> class_names_ = {"cat", "dog"};
};

SamplesReport Check(std::vector<absl::StatusOr<Sample>> samples, const DecodeOptions& options = {}) {
  return CheckSamples(ListedDataset(std::move(samples)), options, /*threads=*/2, [](int64_t) {});
}

std::vector<Problem> Problems(const std::vector<SampleProblem>& all) {
  std::vector<Problem> problems;
  for (const SampleProblem& each : all) problems.push_back(each.problem);
  return problems;
}

TEST(CheckTest, GoodSamplesHaveNoProblems) {
  const SamplesReport report = Check({File(Png(1), 0), File(Png(2), 1), Pixel(1, 0), Pixel(2, 1)});
  EXPECT_THAT(report.problems, IsEmpty());
  EXPECT_THAT(report.labels, ElementsAre(0, 1, 0, 1));
}

TEST(CheckTest, NamesWhatIsWrongWithEachSample) {
  std::string damaged = Png(3);
  damaged[damaged.size() - 20] ^= 0x40;  // in the compressed pixels
  const SamplesReport report = Check({absl::NotFoundError("the disk is gone"), absl::UnknownError("throw"), File("", 0),
                                      File("hello", 0), File(Png(1).substr(0, Png(1).size() / 2), 0), File(damaged, 0),
                                      File(Png(2), 2), File(Png(4), -1), Sample{Image{}, 0}, File(Png(5), 1)});
  ASSERT_THAT(Problems(report.problems), ElementsAre(Problem::kUnreadable, Problem::kUnreadable, Problem::kEmpty,
                                                     Problem::kNotAnImage, Problem::kTruncated, Problem::kBroken,
                                                     Problem::kWrongLabel, Problem::kWrongLabel, Problem::kEmpty));
  for (int64_t i = 0; i < 9; ++i) EXPECT_EQ(report.problems[i].sample, i);
  EXPECT_THAT(report.problems[0].reason, HasSubstr("the disk is gone"));
  EXPECT_THAT(report.problems[1].reason, HasSubstr("thrown"));
  EXPECT_THAT(report.problems[6].reason, HasSubstr("2"));
  EXPECT_THAT(report.labels, ElementsAre(-1, -1, -1, -1, -1, -1, -1, -1, -1, 1));
}

TEST(CheckTest, NamesWhatADataSetSaysOfItsSample) {
  const SamplesReport report = Check({absl::InvalidArgumentError("label 9"), absl::OutOfRangeError("cut"),
                                      absl::DataLossError("two images"), absl::ResourceExhaustedError("1 TB")});
  EXPECT_THAT(report.problems, ElementsAre(SampleProblem{0, Problem::kWrongLabel, "label 9"},
                                           SampleProblem{1, Problem::kTruncated, "cut"},
                                           SampleProblem{2, Problem::kUnreadable, "two images"},
                                           SampleProblem{3, Problem::kUnreadable, "1 TB"}));
}

TEST(CheckTest, ATruncatedImageMayBeKeptButIsNamed) {
  DecodeOptions keep;
  keep.keep_truncated = true;
  const std::string jpeg = Jpeg();
  EXPECT_THAT(Check({File(jpeg, 0)}, keep).problems, IsEmpty());
  const SamplesReport report = Check({File(jpeg.substr(0, jpeg.size() / 2), 0)}, keep);
  ASSERT_THAT(Problems(report.problems), ElementsAre(Problem::kKeptTruncated));
  EXPECT_FALSE(IsError(Problem::kKeptTruncated));
  EXPECT_THAT(report.labels, ElementsAre(0));
}

TEST(CheckTest, FindsTheSameBytesOrPixelsTwice) {
  // Two files equal in one class, and equal pixels in two; a file that is broken twice is no duplicate.
  const SamplesReport report = Check({File(Png(1), 0), File(Png(2), 0), Pixel(1, 0), File(Png(1), 0), Pixel(1, 1),
                                      File("hello", 0), File("hello", 1), File(Png(1), 1)});
  EXPECT_THAT(report.problems,
              ElementsAre(SampleProblem{3, Problem::kDuplicate, "", 0}, SampleProblem{4, Problem::kTwoClasses, "", 2},
                          testing::Field(&SampleProblem::problem, Problem::kNotAnImage),
                          testing::Field(&SampleProblem::problem, Problem::kNotAnImage),
                          SampleProblem{7, Problem::kTwoClasses, "", 0}));
}

TEST(CheckTest, FindsTrainingSamplesAmongTheOthers) {
  const SamplesReport train = Check({File(Png(1), 0), File(Png(2), 1), File(Png(3), 1), File("hello", 0)});
  const SamplesReport val = Check({File(Png(4), 0), File(Png(2), 1), File("hello", 0), File(Png(3), 0)});
  EXPECT_THAT(CompareSplits(train, val), ElementsAre(SampleProblem{1, Problem::kInBothSplits, "", 1},
                                                     SampleProblem{3, Problem::kTwoClasses, "", 2}));
}

TEST(CheckTest, ThreadsChangeNothing) {
  std::vector<absl::StatusOr<Sample>> samples;
  for (int i = 0; i < 1000; ++i) samples.push_back(i % 7 == 0 ? File("hello", 0) : Pixel(i % 251, i % 2));
  const ListedDataset dataset(std::move(samples));
  int64_t done = 0;
  const SamplesReport one = CheckSamples(dataset, {}, 1, [&](int64_t samples) {
    EXPECT_GE(samples, done);
    done = samples;
  });
  EXPECT_EQ(done, 1000);
  const SamplesReport four = CheckSamples(dataset, {}, 4, [](int64_t) {});
  EXPECT_GT(one.problems.size(), 500);
  EXPECT_EQ(one.problems, four.problems);
  EXPECT_EQ(one.fingerprints, four.fingerprints);
}

}  // namespace
}  // namespace graticule
