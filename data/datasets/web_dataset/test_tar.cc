#include "data/datasets/web_dataset/test_tar.h"

#include <archive_entry.h>

#include <clocale>
#include <filesystem>

#include "gtest/gtest.h"

namespace graticule {

void WriteTar(const std::string& path, const std::vector<TarMember>& members, int format, int filter) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  // libarchive writes UTF-8 only where the locale has it. Reading must do without.
  ASSERT_NE(std::setlocale(LC_CTYPE, "C.UTF-8"), nullptr);
  archive* writer = archive_write_new();
  ASSERT_EQ(archive_write_set_format(writer, format), ARCHIVE_OK);
  ASSERT_EQ(archive_write_add_filter(writer, filter), ARCHIVE_OK);
  ASSERT_EQ(archive_write_open_filename(writer, path.c_str()), ARCHIVE_OK);
  for (const TarMember& member : members) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, member.name.c_str());
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, 1700000000, 123456789);  // a fraction of a second needs an extension
    if (member.link.empty()) {
      archive_entry_set_filetype(entry, member.name.back() == '/' ? AE_IFDIR : AE_IFREG);
      archive_entry_set_size(entry, static_cast<int64_t>(member.data.size()));
    } else {
      archive_entry_set_filetype(entry, AE_IFLNK);
      archive_entry_set_symlink(entry, member.link.c_str());
    }
    ASSERT_EQ(archive_write_header(writer, entry), ARCHIVE_OK) << archive_error_string(writer);
    ASSERT_EQ(archive_write_data(writer, member.data.data(), member.data.size()),
              static_cast<ssize_t>(member.data.size()));
    archive_entry_free(entry);
  }
  ASSERT_EQ(archive_write_close(writer), ARCHIVE_OK) << archive_error_string(writer);
  archive_write_free(writer);
  std::setlocale(LC_CTYPE, "C");
}

}  // namespace graticule
