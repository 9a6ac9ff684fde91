// How much memory a cache may take.
#ifndef GRATICULE_DATA_LOADER_FREE_MEMORY_H_
#define GRATICULE_DATA_LOADER_FREE_MEMORY_H_

#include <cstdint>
#include <filesystem>

namespace graticule {

// Bytes that this process may still take without pushing anything out: what Linux calls available, or what is left of
// the limit of one of its control groups (a container's, a batch system's), if that is less. 0 where nothing says so.
// `root` is where proc and sys are.
int64_t FreeMemory(const std::filesystem::path& root = "/");

}  // namespace graticule

#endif  // GRATICULE_DATA_LOADER_FREE_MEMORY_H_
