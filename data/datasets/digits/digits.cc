#include "data/datasets/digits/digits.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "data/random.h"
#include "data/runfiles.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

constexpr int64_t kSide = 8;
constexpr int kHighestGrey = 16;
constexpr int kClasses = 10;
// Keeps the split apart from other permutations of the same seed.
constexpr uint64_t kSplitSalt = 0x646967697473;
constexpr char kRunfile[] = "digits/digits.csv";

}  // namespace

absl::StatusOr<std::vector<DigitsDataset::Row>> DigitsDataset::Parse(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("can't open ", path, ": ", std::strerror(errno)));
  std::vector<Row> rows;
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    const std::vector<std::string> fields = absl::StrSplit(line, ',');
    Row row{.line = number};
    bool valid = fields.size() == row.grey.size() + 1;
    for (size_t i = 0; valid && i < fields.size(); ++i) {
      int value = 0;
      const bool is_label = i == row.grey.size();
      valid = absl::SimpleAtoi(fields[i], &value) && value >= 0 && value <= (is_label ? kClasses - 1 : kHighestGrey);
      if (is_label) {
        row.label = value;
      } else {
        row.grey[i] = static_cast<uint8_t>((value * 255 + kHighestGrey / 2) / kHighestGrey);
      }
    }
    if (!valid) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", number, ": must be 64 grey values from 0 to 16 and a digit, separated by commas"));
    }
    rows.push_back(row);
  }
  if (file.bad()) return absl::DataLossError(absl::StrCat("can't read ", path, ": ", std::strerror(errno)));
  // A fifth of fewer would leave no validation images.
  if (rows.size() < 5) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": must have 5 lines or more, found ", rows.size()));
  }
  return rows;
}

absl::StatusOr<std::unique_ptr<Dataset>> DigitsDataset::Create(const Digits& config, const DatasetContext& context) {
  std::string path = config.path();
  if (path.empty()) {
    ASSIGN_OR_RETURN(path, FindRunfile(kRunfile));
  }
  absl::StatusOr<std::vector<Row>> parsed = Parse(path);
  if (!parsed.ok()) {
    FieldErrors errors;
    errors.Add("path", parsed.status());
    return errors.ToStatus();
  }

  const int64_t size = static_cast<int64_t>(parsed->size());
  std::vector<bool> held_out(size);
  const Permutation order(size, {config.seed(), kSplitSalt});
  for (int64_t i = 0; i < size / 5; ++i) held_out[order(i)] = true;
  std::vector<Row> rows;
  for (int64_t i = 0; i < size; ++i) {
    if (held_out[i] == (context.split == Split::kVal)) rows.push_back((*parsed)[i]);
  }
  std::vector<std::string> class_names;
  for (int label = 0; label < kClasses; ++label) class_names.push_back(absl::StrCat(label));
  return std::unique_ptr<Dataset>(new DigitsDataset(std::move(rows), std::move(class_names)));
}

absl::StatusOr<Sample> DigitsDataset::Read(int64_t index) const {
  const Row& row = rows_[index];
  Image image{kSide, kSide, {}};
  image.pixels.reserve(Image::kChannels * row.grey.size());
  for (const uint8_t grey : row.grey) image.pixels.insert(image.pixels.end(), Image::kChannels, grey);
  return Sample{std::move(image), row.label};
}

std::string DigitsDataset::SampleName(int64_t index) const { return absl::StrCat("digits.csv:", rows_[index].line); }

namespace {
const Registration<Dataset, Digits> kRegistration("1,797 handwritten digits of 8×8 pixels (UCI), a fifth held out", "",
                                                  &DigitsDataset::Create);
}  // namespace

}  // namespace graticule
