#include "data/datasets/web_dataset/shard.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "data/datasets/dataset.h"
#include "plugin/file.h"
#include "plugin/status.h"

namespace graticule {
namespace {

constexpr int64_t kBlock = 512;  // tar's unit: headers and data begin at a multiple of it
// What is read of a file for a header; more would be image data, which is skipped.
constexpr int64_t kReadAhead = 4096;
constexpr int64_t kMaxBytes = kBlock * std::numeric_limits<uint32_t>::max();
constexpr int64_t kEndMark = 2 * kBlock;
// tar fills the last record with zeros. Its records have 20 blocks, if not asked for others (--blocking-factor).
constexpr int64_t kRecord = 20 * kBlock;
constexpr int64_t kMinLargeRecord = 64 << 10;
constexpr int64_t kMaxLargeRecord = 1 << 20;
// More than any label has.
constexpr int64_t kMaxLabelBytes = 32;
constexpr int64_t kMaxPassedOver = 100;  // of a shard, by name

// What the members of one key have given.
struct Group {
  std::string key;
  // The members' extensions; empty: there is none.
  std::string image;
  std::string label_member;
  std::string other;
  int64_t offset = 0;
  int64_t size = 0;
  int64_t label = 0;
  absl::Status problem;  // the first one, as Dataset::Read gives it

  void Spoil(absl::Status reason) { problem.Update(std::move(reason)); }
};

// What a tar file holds.
struct Contents {
  std::vector<Group> groups;  // in the order of their first members
  std::vector<std::string> nameless;
  absl::Status damage;  // why samples are lost, as Dataset::Read gives it
};

struct FreeArchive {
  void operator()(archive* reader) const { archive_read_free(reader); }
};
using Archive = std::unique_ptr<archive, FreeArchive>;

// "a.folder/KEY" and EXTENSION of "a.folder/KEY.EXTENSION": the key ends at the first dot of the last part. Nothing
// where either is empty.
std::optional<std::pair<std::string, std::string>> SplitName(const std::string& name) {
  const size_t slash = name.rfind('/');
  const size_t base = slash == std::string::npos ? 0 : slash + 1;
  const size_t dot = name.find('.', base);
  if (dot == std::string::npos || dot == base || dot + 1 == name.size()) return std::nullopt;
  return std::pair(name.substr(0, dot), name.substr(dot + 1));
}

bool IsImageExtension(const std::string& any_case) {
  const std::string extension = absl::AsciiStrToLower(any_case);
  return extension == "jpg" || extension == "jpeg" || extension == "png" || extension == "webp";
}

// Whether zeros in [begin, end) of a file may be the end of an archive there, and not what was lost.
bool IsEndOfArchive(int64_t begin, int64_t end) {
  if (end - begin < kEndMark + kRecord) return true;
  for (int64_t record = kMinLargeRecord; record <= kMaxLargeRecord; record *= 2) {
    if (end % record == 0 && end - begin < kEndMark + record) return true;
  }
  return false;
}

std::string ErrorOf(archive* reader) {
  const char* message = archive_error_string(reader);
  return message != nullptr ? message : "an unknown error";
}

// The members of a tar file, without the images' data.
class TarReader {
 public:
  TarReader(const ShardFile& file, int64_t bytes, int64_t num_classes)
      : reader_(archive_read_new()), file_(file), bytes_(bytes), num_classes_(num_classes) {}

  absl::StatusOr<Contents> Run() {
    archive* reader = reader_.get();
    archive_read_support_format_tar(reader);
    // Of shards that were joined by `cat`, all count.
    archive_read_set_format_option(reader, "tar", "read_concatenated_archives", "1");
    // These are refused, but by their names.
    archive_read_support_filter_bzip2(reader);
    archive_read_support_filter_compress(reader);
    archive_read_support_filter_gzip(reader);
    archive_read_support_filter_lz4(reader);
    archive_read_support_filter_lzma(reader);
    archive_read_support_filter_xz(reader);
    archive_read_support_filter_zstd(reader);
    if (bytes_ == 0) return absl::InvalidArgumentError("is empty");
    if (archive_read_open_fd(reader, file_.descriptor(), kReadAhead) != ARCHIVE_OK) {
      return absl::InvalidArgumentError(absl::StrCat("is no tar file: ", ErrorOf(reader)));
    }
    if (archive_filter_code(reader, 0) != ARCHIVE_FILTER_NONE) {
      return absl::InvalidArgumentError(absl::StrCat("is compressed (", archive_filter_name(reader, 0),
                                                     "); samples can't be read at random from it: uncompress it"));
    }
    if (bytes_ > kMaxBytes) return absl::InvalidArgumentError("is larger than 2 TiB");

    archive_entry* entry;
    int64_t end = 0;  // of the last member
    int code;
    while ((code = archive_read_next_header(reader, &entry)) == ARCHIVE_OK || code == ARCHIVE_WARN) {
      const int64_t offset = archive_filter_bytes(reader, 0);
      CheckZeros(end, offset);
      // A damaged header may say anything.
      const int64_t size = std::min(archive_entry_size(entry), kMaxBytes);
      end = offset + size;
      AddMember(entry, offset, size);
    }
    if (code != ARCHIVE_EOF) {
      if (end == 0) return absl::InvalidArgumentError(absl::StrCat("is no tar file: ", ErrorOf(reader)));
      AddDamage(ErrorOf(reader), end > bytes_ || bytes_ % kBlock != 0);
    } else if (end + kBlock > bytes_) {
      // libarchive takes it for an end like any other.
      AddDamage("there is no end mark", true);
    } else {
      CheckZeros(end, bytes_);
    }
    return std::move(contents_);
  }

 private:
  void AddDamage(std::string_view damage, bool is_cut) {
    contents_.damage.Update(absl::Status(is_cut ? absl::StatusCode::kOutOfRange : absl::StatusCode::kDataLoss,
                                         absl::StrCat("the shard is cut or damaged: ", std::string(damage))));
  }

  // libarchive skips zeros, however many, between a member's end and the next header or the end of the file.
  void CheckZeros(int64_t begin, int64_t end) {
    begin = (begin + kBlock - 1) / kBlock * kBlock;
    // Nearly always, without reading it again.
    if (IsEndOfArchive(begin, end)) return;
    const int64_t zeros = CountZeros(begin, end);
    if (IsEndOfArchive(begin, begin + zeros)) return;
    AddDamage(absl::StrCat("it has ", zeros, " bytes of zeros from byte ", begin, " on"), false);
  }

  // Of [begin, end), up to the first other byte.
  int64_t CountZeros(int64_t begin, int64_t end) const {
    std::array<char, kReadAhead> bytes;
    for (int64_t at = begin; at < end; at += kReadAhead) {
      const int64_t size = std::min(kReadAhead, end - at);
      if (!file_.Read(at, size, bytes.data()).ok()) return at - begin;
      const auto other = std::find_if(bytes.begin(), bytes.begin() + size, [](char byte) { return byte != 0; });
      if (other != bytes.begin() + size) return at - begin + (other - bytes.begin());
    }
    return end - begin;
  }

  void AddMember(archive_entry* entry, int64_t offset, int64_t size) {
    if (archive_entry_filetype(entry) == AE_IFDIR) return;
    const char* path = archive_entry_pathname(entry);
    // Which is missing where the user's locale has no such letters.
    if (path == nullptr) path = archive_entry_pathname_utf8(entry);
    const std::string name = path != nullptr ? path : "";
    const auto parts = SplitName(name);
    if (!parts.has_value()) {
      contents_.nameless.push_back(name);
      return;
    }
    const auto& [key, extension] = *parts;
    const auto [found, is_new] = group_of_.emplace(key, contents_.groups.size());
    if (is_new) contents_.groups.push_back({.key = key});
    Group& group = contents_.groups[found->second];

    const bool is_image = IsImageExtension(extension);
    if (!is_image && !absl::EqualsIgnoreCase(extension, "cls")) {
      group.other = extension;
      return;
    }
    std::string& member = is_image ? group.image : group.label_member;
    if (!member.empty()) {
      const std::string both = absl::StrCat(".", member, ", .", extension);
      group.Spoil(is_image ? absl::DataLossError("has two images: " + both)
                           : absl::InvalidArgumentError("has two labels: " + both));
    }
    member = extension;
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != nullptr) {
      group.Spoil(absl::DataLossError(absl::StrCat(name, " is a link or another thing without data")));
    } else if (archive_entry_sparse_count(entry) > 0) {
      group.Spoil(absl::DataLossError(absl::StrCat(name, " is stored as a sparse file")));
    } else if (offset + size > bytes_) {
      group.Spoil(absl::OutOfRangeError(
          absl::StrCat(name, " is cut: it ends at byte ", offset + size, ", the shard at byte ", bytes_)));
    } else if (size > kMaxImageFileBytes) {
      group.Spoil(absl::ResourceExhaustedError(
          absl::StrCat(name, " has ", size, " bytes; ", kMaxImageFileBytes, " are allowed")));
    } else if (is_image) {
      group.offset = offset;
      group.size = size;
    } else {
      ReadLabel(group, offset, size);
    }
  }

  void ReadLabel(Group& group, int64_t offset, int64_t size) const {
    std::string text(std::min(size, kMaxLabelBytes), '\0');
    if (const absl::Status status = file_.Read(offset, static_cast<int64_t>(text.size()), text.data()); !status.ok()) {
      group.Spoil(Annotate(status, "can't read the label"));
    } else if (size > kMaxLabelBytes || !absl::SimpleAtoi(text, &group.label) || group.label < 0 ||
               group.label >= num_classes_) {
      group.Spoil(absl::InvalidArgumentError(absl::StrCat("its label must be a number from 0 to ", num_classes_ - 1,
                                                          ", found '", absl::CHexEscape(text), "'")));
    }
  }

  const Archive reader_;
  const ShardFile& file_;
  const int64_t bytes_;
  const int64_t num_classes_;
  Contents contents_;
  std::unordered_map<std::string, size_t> group_of_;  // by key: the members of one need not stand together
};

}  // namespace

absl::StatusOr<std::shared_ptr<const ShardFile>> ShardFile::Open(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe would wait for its other end
  if (descriptor < 0) return ErrnoStatus("open", path);
  return std::make_shared<const ShardFile>(descriptor);
}

ShardFile::~ShardFile() { close(descriptor_); }

absl::StatusOr<struct stat> ShardFile::Stat() const {
  struct stat info;
  if (fstat(descriptor_, &info) != 0) return absl::ErrnoToStatus(errno, "can't be examined");
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError("is a folder or another thing than a file");
  return info;
}

absl::Status ShardFile::Read(int64_t offset, int64_t size, char* bytes) const {
  while (size > 0) {
    const ssize_t got = pread(descriptor_, bytes, size, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, "can't read the shard");
    if (got == 0) return absl::OutOfRangeError(absl::StrCat("the shard ends at byte ", offset));
    offset += got;
    size -= got;
    bytes += got;
  }
  return absl::OkStatus();
}

absl::StatusOr<Shard> Shard::Index(const std::string& path, int64_t num_classes) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const ShardFile> file, ShardFile::Open(path));
  ASSIGN_OR_RETURN(const struct stat info, file->Stat(), path);
  ASSIGN_OR_RETURN(Contents contents, TarReader(*file, info.st_size, num_classes).Run(), path);

  Shard shard;
  shard.path_ = path;
  shard.bytes_ = info.st_size;
  shard.modified_ = info.st_mtim;
  const absl::Status& damage = contents.damage;
  std::vector<std::string>& passed_over = shard.passed_over_;
  for (const std::string& name : contents.nameless) {
    passed_over.push_back(absl::StrCat(path, ":", name, ": has no name with an extension"));
  }
  bool damage_shows = damage.ok();
  for (Group& group : contents.groups) {
    if (group.image.empty() && group.label_member.empty()) {
      passed_over.push_back(
          absl::StrCat(path, ":", group.key, ".", group.other, ": is neither an image nor a label (.cls)"));
      continue;
    }
    if (group.image.empty()) group.Spoil(absl::DataLossError("has no image (.jpg, .jpeg, .png, .webp)"));
    if (group.label_member.empty()) group.Spoil(absl::InvalidArgumentError("has no label (.cls)"));
    // Its other member may be in what is lost.
    if (!damage.ok() && !group.problem.ok() && &group == &contents.groups.back()) {
      group.problem = absl::Status(damage.code(), absl::StrCat(group.problem.message(), "; ", damage.message()));
      damage_shows = true;
    }
    shard.Add(group.key,
              {.block = static_cast<uint32_t>(group.offset / kBlock),
               .size = static_cast<uint32_t>(group.size),
               .label = static_cast<int32_t>(group.label)},
              group.problem);
  }
  // What is lost is never lost silently.
  if (!damage_shows) shard.Add("(end)", {}, damage);
  shard.samples_.shrink_to_fit();
  shard.keys_.shrink_to_fit();
  if (const int64_t more = static_cast<int64_t>(passed_over.size()) - kMaxPassedOver; more > 0) {
    passed_over.resize(kMaxPassedOver);
    passed_over.push_back(absl::StrCat(path, ": ", more, " more members"));
  }
  return shard;
}

void Shard::Add(std::string_view key, Sample sample, const absl::Status& problem) {
  if (!problem.ok()) broken_[size()] = problem;
  sample.key = static_cast<uint32_t>(keys_.size());
  samples_.push_back(sample);
  keys_ += key;
}

absl::StatusOr<Shard::Location> Shard::Find(int64_t index) const {
  if (const auto broken = broken_.find(index); broken != broken_.end()) return broken->second;
  const Sample& sample = samples_[index];
  return Location{.offset = kBlock * sample.block, .size = sample.size, .label = sample.label};
}

std::string Shard::SampleName(int64_t index) const {
  const size_t end = index + 1 < size() ? samples_[index + 1].key : keys_.size();
  return absl::StrCat(path_, ":", keys_.substr(samples_[index].key, end - samples_[index].key));
}

absl::Status Shard::CheckUnchanged(const ShardFile& file) const {
  ASSIGN_OR_RETURN(const struct stat info, file.Stat());
  if (info.st_size == bytes_ && info.st_mtim.tv_sec == modified_.tv_sec && info.st_mtim.tv_nsec == modified_.tv_nsec) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the shard has changed since it was opened; it had ", bytes_, " bytes and has ", info.st_size));
}

}  // namespace graticule
