// What the data sets of image files on disk share: finding the files, reading lists of labels, reading the images.
#ifndef GRATICULE_DATA_DATASETS_FILES_H_
#define GRATICULE_DATA_DATASETS_FILES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/datasets/dataset.h"

namespace graticule {

struct ImageFile {
  std::string path;
  int64_t label = 0;
};

// A data set of image files, opened. What stands among them and is none of them is in `passed_over`, with the reason.
struct ImageFiles {
  std::vector<std::string> class_names;
  std::vector<ImageFile> files;
  std::vector<std::string> passed_over;
};

// Samples are read whole when asked for. A file that is gone by then, that no one may read or that is a pipe is the
// sample's error.
class ImageFilesDataset final : public Dataset {
 public:
  explicit ImageFilesDataset(ImageFiles files) : files_(std::move(files)) {}

  int64_t size() const override { return static_cast<int64_t>(files_.files.size()); }
  absl::StatusOr<Sample> Read(int64_t index) const override;
  std::string SampleName(int64_t index) const override { return files_.files[index].path; }
  const std::vector<std::string>& class_names() const override { return files_.class_names; }
  std::vector<std::string> PassedOver() const override { return files_.passed_over; }

 private:
  ImageFiles files_;
};

// The names in a folder, sorted byte by byte, without hidden ones (".name"). A link counts as what it leads to; one
// that leads nowhere is among the files.
struct FolderNames {
  std::vector<std::string> folders;
  std::vector<std::string> files;
};
absl::StatusOr<FolderNames> ListFolder(const std::string& path);

// Paths of what is called an image in a folder and below, sorted byte by byte. Links are followed, but not in circles
// and not to a folder that this one is in. Other files are added to `passed_over`.
absl::StatusOr<std::vector<std::string>> ListImages(const std::string& folder, std::vector<std::string>& passed_over);

std::string JoinPaths(std::string_view folder, std::string_view name);
// `path` as a config says it: in the folder, unless it is absolute.
std::string InFolder(const std::string& folder, const std::string& path);
bool Exists(const std::string& path);
bool IsFolder(const std::string& path);

// A line of a text file; `where` is "PATH:NUMBER".
struct Line {
  std::string where;
  std::string text;
};
// The lines of a text file without the blank ones and without white space at the ends; an error where none is left.
absl::StatusOr<std::vector<Line>> ReadLines(const std::string& path);

// InvalidArgument "WHERE: MESSAGE".
absl::Status ErrorAt(std::string_view where, std::string_view message);
// A status as the error of a config's field.
absl::Status FieldStatus(std::string_view field, const absl::Status& status);
// The error of a config without a `path`; `what` says what stands there.
absl::Status PathIsRequired(std::string_view what);

// The classes of a data set, in label order.
class Classes {
 public:
  using IsName = std::function<bool(const std::string&)>;

  // The folders in a folder, sorted; those whose names `is_name` refuses are none. An error if there are none.
  static absl::StatusOr<Classes> OfFolders(const std::string& folder, IsName is_name);
  // The lines of a text file, in its order. A name that stands there twice is an error.
  static absl::StatusOr<Classes> OfList(const std::string& path);

  const std::vector<std::string>& names() const { return names_; }
  // The label of a name, or -1.
  int64_t Find(const std::string& name) const;
  // The label of a name that a list has at `where`; an error if it is none.
  absl::StatusOr<int64_t> Label(const std::string& name, std::string_view where) const;

  // Adds the images in SPLIT/CLASS/…, by class, then by path. Folders that can't be classes are passed over; one that
  // could be, and is none, is an error. With `every_class`, so is a class without images; else it is passed over.
  absl::Status AddFolders(const std::string& split, bool every_class, ImageFiles& files) const;

 private:
  Classes(std::vector<std::string> names, std::string source, IsName is_name);

  std::vector<std::string> names_;
  std::vector<std::string> where_;  // each name's, if a list has them
  std::string source_;              // the folder or the list
  // Whether a folder of this name would be a class if the source had it.
  IsName is_name_;
  std::unordered_map<std::string, int64_t> labels_;
};

// n and eight digits: the name of a WordNet noun, which is how ImageNet's classes are called.
bool IsWnid(const std::string& name);

// A file that a list names at `where`, relative to the folder of the images.
struct ListedName {
  std::string where;
  std::string name;
};
// The paths of listed images in a folder and below, in the list's order. A name twice and one without a file are
// errors; images that the list lacks are added to `passed_over`.
absl::StatusOr<std::vector<std::string>> FindListed(const std::vector<ListedName>& names, const std::string& folder,
                                                    std::vector<std::string>& passed_over);

// Which of the `size` files of a class, sorted by name, are among the `count` that are drawn: the first `count` of a
// permutation (data/random.h) that is a function of the seed and the label.
std::vector<bool> DrawFiles(int64_t size, int64_t count, uint64_t seed, int64_t label);

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_FILES_H_
