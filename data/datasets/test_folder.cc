#include "data/datasets/test_folder.h"

#include <sys/stat.h>

#include <fstream>
#include <memory>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {

namespace fs = std::filesystem;

TestFolder::TestFolder() {
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  root_ = fs::path(testing::TempDir()) / absl::StrCat(test->test_suite_name(), " ", test->name(), " Größe 図");
  fs::remove_all(root_);
  fs::create_directories(root_);
}

void TestFolder::Write(const std::string& name, const std::string& text) const {
  fs::create_directories((root_ / name).parent_path());
  std::ofstream file(root_ / name, std::ios::binary);
  file << text;
  EXPECT_TRUE(file.flush()) << name;
}

void TestFolder::Link(const std::string& target, const std::string& name) const {
  fs::create_directories((root_ / name).parent_path());
  fs::create_symlink(target, root_ / name);
}

void TestFolder::Pipe(const std::string& name) const {
  fs::create_directories((root_ / name).parent_path());
  ASSERT_EQ(mkfifo((root_ / name).c_str(), 0600), 0) << name;
}

std::vector<std::string> TestFolder::Samples(const Dataset& dataset) const {
  std::vector<std::string> samples;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const std::string name = fs::path(dataset.SampleName(i)).lexically_relative(root_).string();
    const absl::StatusOr<Sample> sample = dataset.Read(i);
    if (!sample.ok()) {
      ADD_FAILURE() << name << ": " << sample.status();
      continue;
    }
    EXPECT_EQ(std::get<EncodedImage>(sample->image).bytes, name);
    samples.push_back(absl::StrCat(sample->label, ":", name));
  }
  return samples;
}

std::vector<std::string> TestFolder::PassedOver(const Dataset& dataset) const {
  std::vector<std::string> passed_over = dataset.PassedOver();
  for (std::string& text : passed_over) absl::StrReplaceAll({{root_.string() + "/", ""}}, &text);
  return passed_over;
}

std::string OpeningError(const google::protobuf::Message& config, Split split) {
  const absl::StatusOr<std::unique_ptr<Dataset>> dataset = Registry<Dataset>::Create(config, {.split = split});
  const std::vector<FieldError> errors = FieldErrors::FromStatus(dataset.status());
  EXPECT_EQ(errors.size(), 1);
  return errors.empty() ? "none" : absl::StrCat(errors[0].path, ": ", errors[0].message);
}

}  // namespace graticule
