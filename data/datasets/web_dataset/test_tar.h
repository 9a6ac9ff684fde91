// Tar files that tests lay out.
#ifndef GRATICULE_DATA_DATASETS_WEB_DATASET_TEST_TAR_H_
#define GRATICULE_DATA_DATASETS_WEB_DATASET_TEST_TAR_H_

#include <archive.h>

#include <string>
#include <vector>

namespace graticule {

struct TarMember {
  std::string name;  // a folder's ends with a slash
  std::string data = {};
  std::string link = {};  // what it is a symbolic link to
};

// Writes a tar file by libarchive: by default in POSIX's format without extensions, and not compressed. Folders above
// it are made.
void WriteTar(const std::string& path, const std::vector<TarMember>& members, int format = ARCHIVE_FORMAT_TAR_USTAR,
              int filter = ARCHIVE_FILTER_NONE);

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_WEB_DATASET_TEST_TAR_H_
