#include "data/datasets/cifar/cifar.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "data/datasets/files.h"
#include "plugin/file.h"
#include "plugin/registry.h"

namespace graticule {

namespace fs = std::filesystem;

// One way to read one of the distributions.
struct CifarDataset::Format {
  const char* name;
  int classes;
  const char* folder;  // in which its archive has the files
  std::vector<const char*> train;
  const char* val;
  const char* class_names;
  int64_t label_bytes;
  int64_t label_at;  // which of them is the label
  const char* archive;
  const char* pickled;  // the Python version's folder
};

namespace {

constexpr int64_t kSide = 32;
constexpr int64_t kPlane = kSide * kSide;
constexpr int64_t kImageBytes = Image::kChannels * kPlane;
constexpr int64_t kTrainImages = 50'000;
constexpr int64_t kValImages = 10'000;
// Ten times CIFAR's: what is larger would take all memory before a label shows that it is none of its files.
constexpr int64_t kMaxImages = 10 * kTrainImages;
// Records that are read at a time.
constexpr int64_t kChunk = 1000;

bool IsFile(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

absl::StatusOr<std::vector<std::string>> ReadClassNames(const std::string& path, int classes) {
  ASSIGN_OR_RETURN(const std::vector<Line> lines, ReadLines(path));
  if (static_cast<int>(lines.size()) != classes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": must have the names of ", classes, " classes, a line each, found ", lines.size()));
  }
  std::vector<std::string> names;
  for (const Line& line : lines) names.push_back(line.text);
  return names;
}

// Folders of image files, a folder a class. Sorted, the names of the classes are in the order of the labels.
absl::StatusOr<std::unique_ptr<Dataset>> OpenFolders(const std::string& train, const std::string& val, int classes,
                                                     Split split) {
  ASSIGN_OR_RETURN(const Classes folders, Classes::OfFolders(train, [](const std::string&) { return true; }));
  const int found = static_cast<int>(folders.names().size());
  if (classes != 0 ? found != classes : found != 10 && found != 100) {
    return absl::InvalidArgumentError(absl::StrCat(train, ": must have the folders of ",
                                                   classes != 0 ? absl::StrCat(classes) : "10 or 100",
                                                   " classes, found ", found));
  }
  ImageFiles files{.class_names = folders.names()};
  const bool training = split == Split::kTrain;
  RETURN_IF_ERROR(folders.AddFolders(training ? train : val, training, files));
  return std::make_unique<ImageFilesDataset>(std::move(files));
}

}  // namespace

const std::vector<CifarDataset::Format>& CifarDataset::Formats() {
  static const auto& formats = *new std::vector<Format>{
      {.name = "CIFAR-10",
       .classes = 10,
       .folder = "cifar-10-batches-bin",
       .train = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
       .val = "test_batch.bin",
       .class_names = "batches.meta.txt",
       .label_bytes = 1,
       .label_at = 0,
       .archive = "cifar-10-binary.tar.gz",
       .pickled = "cifar-10-batches-py"},
      {.name = "CIFAR-100",
       .classes = 100,
       .folder = "cifar-100-binary",
       .train = {"train.bin"},
       .val = "test.bin",
       .class_names = "fine_label_names.txt",
       .label_bytes = 2,
       .label_at = 1,
       .archive = "cifar-100-binary.tar.gz",
       .pickled = "cifar-100-python"},
      {.name = "CIFAR-100",
       .classes = 20,
       .folder = "cifar-100-binary",
       .train = {"train.bin"},
       .val = "test.bin",
       .class_names = "coarse_label_names.txt",
       .label_bytes = 2,
       .label_at = 0,
       .archive = "cifar-100-binary.tar.gz",
       .pickled = "cifar-100-python"},
  };
  return formats;
}

absl::StatusOr<std::unique_ptr<Dataset>> CifarDataset::Create(const Cifar& config, const DatasetContext& context) {
  FieldErrors errors;
  if (config.path().empty()) errors.Add("path", "is required: the folder of the files, or the one in which it lies");
  const int classes = config.num_classes();
  if (classes != 0 && classes != 10 && classes != 20 && classes != 100) {
    errors.Add("num_classes", absl::StrCat("must be 10 (CIFAR-10), 100 (CIFAR-100) or 20 (CIFAR-100's superclasses), "
                                           "found ",
                                           classes));
  }
  if (!errors.empty()) return errors.ToStatus();
  absl::StatusOr<std::unique_ptr<Dataset>> dataset = Find(config.path(), classes, context.split);
  errors.Add("path", dataset.status());
  if (!errors.empty()) return errors.ToStatus();
  return dataset;
}

absl::StatusOr<std::unique_ptr<Dataset>> CifarDataset::Find(const fs::path& path, int classes, Split split) {
  std::vector<std::pair<const Format*, fs::path>> found;
  std::string missing;
  for (const Format& format : Formats()) {
    // The superclasses are there for whoever asks for them.
    if (classes != 0 ? format.classes != classes : format.classes == 20) continue;
    for (const fs::path& folder : {path, path / format.folder}) {
      if (IsFile(folder / format.train[0]) || IsFile(folder / format.val)) found.emplace_back(&format, folder);
    }
    absl::StrAppend(&missing, missing.empty() ? "no " : ", and no ", format.name, " (", format.train[0], " …)");
    for (const fs::path& folder : {path, path / format.pickled}) {
      if (IsFile(folder / "test_batch") || (IsFile(folder / "test") && IsFile(folder / "meta"))) {
        absl::StrAppend(&missing, "; ", folder.string(),
                        " is the version for Python, whose pickles are not read: take ", format.archive,
                        " from https://www.cs.toronto.edu/~kriz/cifar.html");
      }
    }
  }
  if (found.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(found[0].second.string(), " and ", found[1].second.string(),
                                                   " both have files of CIFAR: name one of them"));
  }
  if (found.size() == 1) return Open(found[0].second, *found[0].first, split);
  if (const fs::path train = path / "train"; IsFolder(train)) {
    const fs::path test = path / "test";
    return OpenFolders(train, IsFolder(test) ? test : path / "val", classes, split);
  }
  return absl::NotFoundError(absl::StrCat(missing, ", and no train/CLASS in ", path.string()));
}

absl::StatusOr<std::unique_ptr<Dataset>> CifarDataset::Open(const fs::path& folder, const Format& format, Split split) {
  std::unique_ptr<CifarDataset> dataset(new CifarDataset);
  ASSIGN_OR_RETURN(dataset->class_names_, ReadClassNames((folder / format.class_names).string(), format.classes));
  const std::vector<const char*> files = split == Split::kTrain ? format.train : std::vector{format.val};
  int64_t images = 0;
  for (const char* file : files) {
    const fs::path path = folder / file;
    std::error_code error;
    const auto bytes = static_cast<int64_t>(fs::file_size(path, error));  // an error for all but files
    if (error) {
      return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot read '", path.string(), "'"));
    }
    const int64_t max_bytes = kMaxImages * (format.label_bytes + kImageBytes);
    if (bytes > max_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path.string(), ": has ", bytes, " bytes; ", max_bytes, " are allowed"));
    }
    images += bytes / (format.label_bytes + kImageBytes);
  }
  // Growing would need the memory twice.
  dataset->pixels_.reserve(images * kImageBytes);
  for (const char* file : files) RETURN_IF_ERROR(dataset->Load((folder / file).string(), format));
  // All batches are equally large, so a file that lost whole records shows.
  for (const File& file : dataset->files_) {
    if (file.size == dataset->files_[0].size) continue;
    return absl::DataLossError(absl::StrCat(file.path, ": ", file.size, " images, but ", dataset->files_[0].path,
                                            " has ", dataset->files_[0].size));
  }
  // People cut out parts, so a file that all others are like is no error.
  const int64_t expected = (split == Split::kTrain ? kTrainImages : kValImages) / static_cast<int64_t>(files.size());
  for (const File& file : dataset->files_) {
    if (file.size == expected) continue;
    dataset->passed_over_.push_back(
        absl::StrCat(file.path, ": has ", file.size, " images, in ", format.name, " it has ", expected));
  }
  return dataset;
}

absl::Status CifarDataset::Load(const std::string& path, const Format& format) {
  const int64_t record_bytes = format.label_bytes + kImageBytes;
  std::ifstream file(path, std::ios::binary);
  if (!file) return ErrnoStatus("open", path);
  const int64_t first = size();
  std::vector<char> records(kChunk * record_bytes);
  while (file) {
    file.read(records.data(), static_cast<std::streamsize>(records.size()));
    if (file.bad()) return ErrnoStatus("read", path);
    const int64_t count = file.gcount() / record_bytes;
    const auto name = [&] { return absl::StrCat(path, "[", size() - first, "]"); };
    for (int64_t i = 0; i < count; ++i) {
      const char* record = records.data() + i * record_bytes;
      const auto label = static_cast<uint8_t>(record[format.label_at]);
      if (label >= format.classes) {
        return absl::DataLossError(
            absl::StrCat(name(), ": has label ", label, "; ", format.name, " has labels 0 to ", format.classes - 1));
      }
      labels_.push_back(label);
      Append(record + format.label_bytes);
    }
    if (const int64_t rest = file.gcount() % record_bytes; rest != 0) {
      return absl::DataLossError(absl::StrCat(name(), ": ends after ", rest, " of ", record_bytes,
                                              " bytes; the file is cut or no file of ", format.name));
    }
  }
  files_.push_back({path, first, size() - first});
  if (size() == first) return absl::DataLossError(absl::StrCat(path, ": is empty"));
  return absl::OkStatus();
}

void CifarDataset::Append(const char* planes) {
  pixels_.resize(pixels_.size() + kImageBytes);
  uint8_t* pixel = pixels_.data() + pixels_.size() - kImageBytes;
  for (int64_t i = 0; i < kPlane; ++i) {
    for (int64_t c = 0; c < Image::kChannels; ++c) *pixel++ = static_cast<uint8_t>(planes[c * kPlane + i]);
  }
}

absl::StatusOr<Sample> CifarDataset::Read(int64_t index) const {
  Image image{kSide, kSide, Pixels(kImageBytes)};
  std::memcpy(image.pixels.data(), pixels_.data() + index * kImageBytes, kImageBytes);
  return Sample{std::move(image), labels_[index]};
}

std::string CifarDataset::SampleName(int64_t index) const {
  const auto file = std::prev(std::upper_bound(files_.begin(), files_.end(), index,
                                               [](int64_t at, const File& file) { return at < file.first; }));
  return absl::StrCat(file->path, "[", index - file->first, "]");
}

namespace {
const Registration<Dataset, Cifar> kRegistration("CIFAR-10 and CIFAR-100, from their binary files or image files",
                                                 R"(path: "cifar")", &CifarDataset::Create);
}  // namespace

}  // namespace graticule
