#include "data/datasets/image_folder/image_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "data/decode/decode.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;

// How many names a message lists.
constexpr size_t kNamed = 10;

// What stands in a folder, hidden names left out.
absl::StatusOr<std::vector<fs::directory_entry>> Entries(const fs::path& folder) {
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  std::vector<fs::directory_entry> entries;
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (entry->path().filename().string().front() != '.') entries.push_back(*entry);
  }
  if (error) return absl::NotFoundError(absl::StrCat("can't list ", folder.string(), ": ", error.message()));
  return entries;
}

bool IsFolder(const fs::directory_entry& entry) {
  std::error_code error;  // of a link that leads nowhere
  return entry.is_directory(error);
}

// Appends the image files of a folder and below. `above` holds the folders on the way, links resolved: one that comes
// again is a loop of links.
absl::Status AddImages(const fs::path& folder, std::vector<fs::path>& above, std::vector<fs::path>& images) {
  std::error_code error;
  const fs::path real = fs::canonical(folder, error);
  if (error) return absl::NotFoundError(absl::StrCat("can't open ", folder.string(), ": ", error.message()));
  if (std::find(above.begin(), above.end(), real) != above.end()) return absl::OkStatus();
  above.push_back(real);
  ASSIGN_OR_RETURN(const std::vector<fs::directory_entry> entries, Entries(folder));
  for (const fs::directory_entry& entry : entries) {
    if (IsFolder(entry)) {
      RETURN_IF_ERROR(AddImages(entry.path(), above, images));
    } else if (HasImageExtension(entry.path())) {
      images.push_back(entry.path());
    }
  }
  above.pop_back();
  return absl::OkStatus();
}

// Names of the folders in a split's folder, sorted; an error if there are none.
absl::StatusOr<std::vector<std::string>> ListClasses(const fs::path& split) {
  ASSIGN_OR_RETURN(const std::vector<fs::directory_entry> entries, Entries(split));
  std::vector<std::string> classes;
  for (const fs::directory_entry& entry : entries) {
    if (IsFolder(entry)) classes.push_back(entry.path().filename().string());
  }
  if (classes.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no class folders in ", split.string(), "; it must hold one folder of images a class"));
  }
  std::sort(classes.begin(), classes.end());
  return classes;
}

std::string Listed(std::vector<std::string> names) {
  const size_t more = names.size() > kNamed ? names.size() - kNamed : 0;
  names.resize(names.size() - more);
  return absl::StrCat(absl::StrJoin(names, ", "), more > 0 ? absl::StrCat(" and ", more, " more") : "");
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return absl::NotFoundError(absl::StrCat("can't open ", path, ": ", std::strerror(errno)));
  std::string bytes;
  struct stat info;
  if (fstat(file, &info) == 0 && S_ISREG(info.st_mode)) bytes.resize(info.st_size);
  size_t size = 0;
  ssize_t got = -1;
  while (size < bytes.size() && (got = read(file, bytes.data() + size, bytes.size() - size)) > 0) size += got;
  const int error = errno;
  close(file);
  if (size < bytes.size() && got < 0) {
    return absl::DataLossError(absl::StrCat("can't read ", path, ": ", std::strerror(error)));
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> ImageFolderDataset::Create(const ImageFolder& config,
                                                                    const DatasetContext& context) {
  FieldErrors errors;
  if (config.path().empty()) {
    errors.Add("path", "is required: the folder that holds the splits");
    return errors.ToStatus();
  }
  const fs::path path(config.path());
  const fs::path train = path / (config.train().empty() ? "train" : config.train());
  const fs::path val = path / (config.val().empty() ? "val" : config.val());
  absl::StatusOr<std::unique_ptr<Dataset>> dataset = Open(train, context.split == Split::kTrain ? train : val);
  if (dataset.ok()) return dataset;
  errors.Add("path", dataset.status());
  return errors.ToStatus();
}

absl::StatusOr<std::unique_ptr<Dataset>> ImageFolderDataset::Open(const std::string& train, const std::string& split) {
  ASSIGN_OR_RETURN(std::vector<std::string> class_names, ListClasses(train));
  ASSIGN_OR_RETURN(const std::vector<std::string> folders, ListClasses(split));
  std::vector<std::string> unknown;
  std::set_difference(folders.begin(), folders.end(), class_names.begin(), class_names.end(),
                      std::back_inserter(unknown));
  if (!unknown.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(split, " has classes that ", train, " lacks: ", Listed(std::move(unknown))));
  }
  std::vector<File> files;
  std::vector<std::string> without;
  for (const std::string& name : folders) {
    const int64_t label = std::lower_bound(class_names.begin(), class_names.end(), name) - class_names.begin();
    std::vector<fs::path> images, above;
    RETURN_IF_ERROR(AddImages(fs::path(split) / name, above, images));
    if (images.empty()) without.push_back(name);
    std::sort(images.begin(), images.end(),
              [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
    for (const fs::path& image : images) files.push_back({image.native(), label});
  }
  if (files.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("no images (.jpg, .jpeg, .png) in ", split));
  }
  // A class that is never shown can't be learnt; one that is never asked for does no harm.
  if (split == train && !without.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no images (.jpg, .jpeg, .png) for the classes ", Listed(std::move(without)), " in ", train));
  }
  return std::unique_ptr<Dataset>(new ImageFolderDataset(std::move(class_names), std::move(files)));
}

absl::StatusOr<Sample> ImageFolderDataset::Read(int64_t index) const {
  const File& file = files_[index];
  ASSIGN_OR_RETURN(std::string bytes, ReadFile(file.path));
  return Sample{EncodedImage(std::move(bytes)), file.label};
}

namespace {
const Registration<Dataset, ImageFolder> kRegistration("JPEG and PNG files, one folder a class, with train and val",
                                                       R"(path: "images")", &ImageFolderDataset::Create);
}  // namespace

}  // namespace graticule
