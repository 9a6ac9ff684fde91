#include "data/datasets/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "data/decode/decode.h"
#include "data/random.h"
#include "plugin/file.h"
#include "plugin/status.h"

namespace graticule {
namespace {

constexpr char kExtensions[] = ".jpg, .jpeg, .png, .webp";
// Keeps what is drawn apart from other permutations of the same seed.
constexpr uint64_t kDrawSalt = 0x66696c6573;

// A folder as its device and inode, which no links hide.
using FolderId = std::pair<dev_t, ino_t>;
FolderId IdOf(const struct stat& info) { return {info.st_dev, info.st_ino}; }

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};

// As ListFolder. The system tells folders from files while it lists them, on nearly every file system: a look at each
// of a million files would cost many times as much.
absl::StatusOr<FolderNames> List(const std::string& path, FolderId& id) {
  const std::unique_ptr<DIR, CloseFolder> folder(opendir(path.c_str()));
  struct stat info;
  if (folder == nullptr || fstat(dirfd(folder.get()), &info) != 0) return ErrnoStatus("list", path);
  id = IdOf(info);
  FolderNames names;
  while (true) {
    errno = 0;
    const dirent* entry = readdir(folder.get());
    if (entry == nullptr && errno != 0) return ErrnoStatus("list", path);
    if (entry == nullptr) break;
    if (entry->d_name[0] == '.') continue;
    bool is_folder = entry->d_type == DT_DIR;
    if (entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN) {
      is_folder = fstatat(dirfd(folder.get()), entry->d_name, &info, 0) == 0 && S_ISDIR(info.st_mode);
    }
    (is_folder ? names.folders : names.files).emplace_back(entry->d_name);
  }
  std::sort(names.folders.begin(), names.folders.end());
  std::sort(names.files.begin(), names.files.end());
  return names;
}

// A link to one of them would bring the images of other classes into this one.
std::vector<FolderId> FoldersAbove(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<FolderId> above;
  std::error_code error;
  fs::path path = fs::absolute(folder, error).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "FOLDER/"
  while (path.has_relative_path()) {
    path = path.parent_path();
    struct stat info;
    if (stat(path.c_str(), &info) == 0) above.push_back(IdOf(info));
  }
  return above;
}

// `above` holds the folders on the way: one that comes again is a circle of links.
absl::Status AddImages(const std::string& folder, std::vector<FolderId>& above, std::vector<std::string>& images,
                       std::vector<std::string>& passed_over) {
  FolderId id;
  ASSIGN_OR_RETURN(const FolderNames names, List(folder, id));
  if (std::find(above.begin(), above.end(), id) != above.end()) {
    passed_over.push_back(absl::StrCat(folder, ": a link to a folder that it is in"));
    return absl::OkStatus();
  }
  above.push_back(id);
  for (const std::string& name : names.files) {
    if (HasImageExtension(name)) {
      images.push_back(JoinPaths(folder, name));
    } else {
      passed_over.push_back(absl::StrCat(JoinPaths(folder, name), ": not called an image (", kExtensions, ")"));
    }
  }
  for (const std::string& name : names.folders) {
    RETURN_IF_ERROR(AddImages(JoinPaths(folder, name), above, images, passed_over));
  }
  above.pop_back();
  return absl::OkStatus();
}

// What the reader of a sample says has the sample's name before it, so this has none.
absl::Status ReadError(int error) {
  const char* hint = error == ENOENT ? " (removed since the data set was opened, or a link that leads nowhere)" : "";
  return absl::ErrnoToStatus(error, absl::StrCat("cannot read the file", hint));
}

absl::StatusOr<EncodedImage> ReadImage(int file) {
  struct stat info;
  if (fstat(file, &info) != 0) return ReadError(errno);
  if (!S_ISREG(info.st_mode)) return absl::FailedPreconditionError("not a file but a folder, a pipe or a device");
  if (info.st_size > kMaxImageFileBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the file has ", info.st_size, " bytes; ", kMaxImageFileBytes, " are allowed"));
  }
  const size_t size = info.st_size;
  const std::shared_ptr<char[]> bytes(new char[size]);
  size_t filled = 0;
  while (filled < size) {
    const ssize_t count = read(file, bytes.get() + filled, size - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ReadError(errno);
    if (count == 0) return absl::OutOfRangeError("the file became shorter while it was read");
    filled += count;
  }
  return EncodedImage({bytes.get(), size}, bytes);
}

absl::StatusOr<EncodedImage> ReadImageFile(const std::string& path) {
  // O_NONBLOCK: to open a pipe would wait for its writer.
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return ReadError(errno);
  absl::StatusOr<EncodedImage> image = ReadImage(file);
  close(file);
  return image;
}

bool Refuse(const std::string&) { return false; }

}  // namespace

absl::StatusOr<Sample> ImageFilesDataset::Read(int64_t index) const {
  const ImageFile& file = files_.files[index];
  ASSIGN_OR_RETURN(EncodedImage image, ReadImageFile(file.path));
  return Sample{std::move(image), file.label};
}

absl::StatusOr<FolderNames> ListFolder(const std::string& path) {
  FolderId id;
  return List(path, id);
}

absl::StatusOr<std::vector<std::string>> ListImages(const std::string& folder, std::vector<std::string>& passed_over) {
  std::vector<std::string> images;
  std::vector<FolderId> above = FoldersAbove(folder);
  RETURN_IF_ERROR(AddImages(folder, above, images, passed_over));
  std::sort(images.begin(), images.end());
  return images;
}

std::string JoinPaths(std::string_view folder, std::string_view name) {
  std::string path(folder);
  if (path.empty() || path.back() != '/') path += '/';
  return path += name;
}

std::string InFolder(const std::string& folder, const std::string& path) {
  return path.starts_with('/') ? path : JoinPaths(folder, path);
}

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

bool IsFolder(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

absl::StatusOr<std::vector<Line>> ReadLines(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadRegularFile(path));
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  std::vector<Line> lines;
  int64_t number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    std::string stripped(absl::StripAsciiWhitespace(line));
    if (!stripped.empty()) lines.push_back({absl::StrCat(path, ":", number), std::move(stripped)});
  }
  if (lines.empty()) return ErrorAt(path, "has no lines");
  return lines;
}

absl::Status ErrorAt(std::string_view where, std::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat(std::string(where), ": ", std::string(message)));
}

absl::Status FieldStatus(std::string_view field, const absl::Status& status) {
  FieldErrors errors;
  errors.Add(field, status);
  return errors.ToStatus();
}

absl::Status PathIsRequired(std::string_view what) {
  return FieldStatus("path", absl::InvalidArgumentError(absl::StrCat("is required: ", std::string(what))));
}

Classes::Classes(std::vector<std::string> names, std::string source, IsName is_name)
    : names_(std::move(names)), source_(std::move(source)), is_name_(std::move(is_name)) {
  for (size_t label = 0; label < names_.size(); ++label) labels_[names_[label]] = static_cast<int64_t>(label);
}

absl::StatusOr<Classes> Classes::OfFolders(const std::string& folder, IsName is_name) {
  ASSIGN_OR_RETURN(FolderNames names, ListFolder(folder));
  const std::vector<std::string> all = names.folders;
  std::erase_if(names.folders, [&](const std::string& name) { return !is_name(name); });
  if (names.folders.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "no class folders in ", folder, "; it must hold one folder of images a class",
        all.empty() ? "" : absl::StrCat(", and its folders are not called like classes: ", FirstFew(all))));
  }
  return Classes(std::move(names.folders), folder, std::move(is_name));
}

absl::StatusOr<Classes> Classes::OfList(const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<Line> lines, ReadLines(path));
  std::vector<std::string> names;
  for (const Line& line : lines) names.push_back(line.text);
  Classes classes(std::move(names), path, Refuse);
  for (size_t label = 0; label < lines.size(); ++label) {
    // Of equal names the last one has the label.
    if (const int64_t last = classes.labels_[lines[label].text]; last != static_cast<int64_t>(label)) {
      return ErrorAt(lines[last].where,
                     absl::StrCat("'", lines[last].text, "' is at ", lines[label].where, " already"));
    }
    classes.where_.push_back(lines[label].where);
  }
  return classes;
}

int64_t Classes::Find(const std::string& name) const {
  const auto found = labels_.find(name);
  return found == labels_.end() ? -1 : found->second;
}

absl::StatusOr<int64_t> Classes::Label(const std::string& name, std::string_view where) const {
  const int64_t label = Find(name);
  if (label >= 0) return label;
  return ErrorAt(where, absl::StrCat("no class '", name, "' among the ", names_.size(), " of ", source_,
                                     DidYouMean(name, names_)));
}

absl::Status Classes::AddFolders(const std::string& split, bool every_class, ImageFiles& files) const {
  ASSIGN_OR_RETURN(const FolderNames names, ListFolder(split));
  for (const std::string& name : names.files) {
    files.passed_over.push_back(absl::StrCat(JoinPaths(split, name), ": not in a class folder"));
  }
  std::vector<bool> has_folder(names_.size());
  std::vector<std::string> unknown;
  for (const std::string& name : names.folders) {
    if (const int64_t label = Find(name); label >= 0) {
      has_folder[label] = true;
    } else if (is_name_(name)) {
      unknown.push_back(name);
    } else {
      files.passed_over.push_back(absl::StrCat(JoinPaths(split, name), ": not a class"));
    }
  }
  if (!unknown.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(split, " has classes that ", source_, " lacks: ", FirstFew(unknown)));
  }
  std::vector<std::string> without;
  const size_t before = files.files.size();
  for (size_t label = 0; label < names_.size(); ++label) {
    const std::string folder = JoinPaths(split, names_[label]);
    if (!has_folder[label] && every_class && !where_.empty()) {
      return ErrorAt(where_[label], absl::StrCat("no folder '", names_[label], "' in ", split));
    }
    if (!has_folder[label]) continue;
    ASSIGN_OR_RETURN(std::vector<std::string> images, ListImages(folder, files.passed_over));
    if (images.empty()) {
      without.push_back(names_[label]);
      files.passed_over.push_back(absl::StrCat(folder, ": no images in it"));
    }
    for (std::string& image : images) files.files.push_back({std::move(image), static_cast<int64_t>(label)});
  }
  if (files.files.size() == before) {
    return absl::InvalidArgumentError(absl::StrCat("no images (", kExtensions, ") in ", split));
  }
  // A class that is never shown can't be learnt; one that is never asked for does no harm.
  if (every_class && !without.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no images (", kExtensions, ") for the classes ", FirstFew(without), " in ", split));
  }
  return absl::OkStatus();
}

bool IsWnid(const std::string& name) {
  return name.size() == 9 && name[0] == 'n' && std::all_of(name.begin() + 1, name.end(), absl::ascii_isdigit);
}

absl::StatusOr<std::vector<std::string>> FindListed(const std::vector<ListedName>& names, const std::string& folder,
                                                    std::vector<std::string>& passed_over) {
  ASSIGN_OR_RETURN(const std::vector<std::string> images, ListImages(folder, passed_over));
  const size_t prefix = JoinPaths(folder, "").size();
  std::unordered_map<std::string_view, const ListedName*> listed;  // by name; null until it is listed
  for (const std::string& image : images) listed[std::string_view(image).substr(prefix)] = nullptr;
  std::vector<std::string> paths;
  const ListedName* first_missing = nullptr;
  size_t missing = 0;
  for (const ListedName& name : names) {
    const auto found = listed.find(name.name);
    if (found == listed.end()) {
      if (missing++ == 0) first_missing = &name;
      continue;
    }
    if (found->second != nullptr) {
      return ErrorAt(name.where, absl::StrCat("'", name.name, "' is at ", found->second->where, " already"));
    }
    found->second = &name;
    paths.push_back(JoinPaths(folder, name.name));
  }
  if (missing > 0) {
    return ErrorAt(first_missing->where,
                   absl::StrCat("no file '", first_missing->name, "' in ", folder, " (",
                                missing == 1 ? "the only one that is missing"
                                             : absl::StrCat("the first of ", missing, " that are missing"),
                                ")"));
  }
  for (const std::string& image : images) {
    if (listed[std::string_view(image).substr(prefix)] == nullptr) {
      passed_over.push_back(absl::StrCat(image, ": in no list of labels"));
    }
  }
  return paths;
}

std::vector<bool> DrawFiles(int64_t size, int64_t count, uint64_t seed, int64_t label) {
  const Permutation order(size, {seed, kDrawSalt, static_cast<uint64_t>(label)});
  std::vector<bool> drawn(size);
  for (int64_t i = 0; i < count; ++i) drawn[order(i)] = true;
  return drawn;
}

}  // namespace graticule
